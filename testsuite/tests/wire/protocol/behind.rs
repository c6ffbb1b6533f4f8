//! The numbers of a server that was restored: smaller than those of the store under it.

use super::{Answer, Ask, Event, Expected, If, Listed, Row};

impl Ask {
    /// Turns the numbers that the server shows into those of the store under it, which are greater
    /// by this.
    pub(in crate::wire) fn up(mut self, by: u64) -> Self {
        let up = |n: &mut u64| *n += by;
        match &mut self {
            Self::Put { expect: Expected::Version(at), .. }
            | Self::Delete { expect: Expected::Version(at), .. } => {
                up(&mut at.0);
            }
            Self::Transact { conditions, .. } => {
                for condition in conditions {
                    match condition {
                        If::Version(_, at) => up(&mut at.0),
                        If::Held(_, token) => up(token),
                        If::Exists(_) | If::Missing(_) => {}
                    }
                }
            }
            Self::SetHolder { token, .. } | Self::Break { token, .. } => up(token),
            _ => {}
        }
        self
    }
}

impl Answer {
    /// Turns the numbers of the store under the server into those that it shows, which are smaller
    /// by this.
    pub(in crate::wire) fn down(mut self, by: u64) -> Self {
        let down = |n: &mut u64| *n -= by;
        match &mut self {
            Self::Entry(Some(row)) => down(&mut row.2.0),
            Self::Written(at, _) => down(&mut at.0),
            Self::Locked(Some(token)) | Self::Holder(Some((token, ..))) => down(token),
            Self::Locks(locks, _) => locks.iter_mut().for_each(|lock| down(&mut lock.token)),
            Self::Committed(written) => written.iter_mut().flatten().for_each(|(at, _)| down(&mut at.0)),
            Self::Page(items, _) => {
                for item in items {
                    match item {
                        Listed::Entry(Row(.., at)) | Listed::Key(_, at) => down(&mut at.0),
                        Listed::Directory(_) => {}
                    }
                }
            }
            Self::Events(events) => {
                for event in events {
                    match event {
                        Event::Put(Row(.., at)) | Event::Delete(_, at) => down(&mut at.0),
                        Event::Synced => {}
                    }
                }
            }
            _ => {}
        }
        self
    }
}
