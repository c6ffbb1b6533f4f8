//! A server that keeps a queue, in memory.

use kv_core::{
    Error, ErrorKind, Result,
    backend::queue::{Entered, Left, Position},
};
use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};
use tokio::{sync::watch, time::Instant};

pub(crate) const TTL: Duration = Duration::from_secs(10);
/// The time that the server keeps a session behind its TTL.
pub(crate) const LATE: Duration = Duration::from_secs(5);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) name: u64,
    pub(crate) session: u64,
    pub(crate) token: u64,
}

/// The token of a contender, and its name.
pub(crate) type Before = (u64, u64);

#[derive(Default)]
pub(crate) struct State {
    pub(crate) members: Vec<Member>,
    last: u64,
    /// The end of each session's TTL.
    pub(crate) sessions: BTreeMap<u64, Instant>,
    pub(crate) cancelled: HashSet<u64>,
    /// Requests to enter that arrive later: name and session.
    pub(crate) late: Vec<(u64, u64)>,
}

impl State {
    pub(crate) fn enter(&mut self, name: u64, session: u64, only_if_empty: bool) -> Result<Entered<Before>> {
        if !self.sessions.contains_key(&session) {
            return Err(Error::new(ErrorKind::LeaseLost, "no such session"));
        }
        if self.cancelled.contains(&name) {
            return Ok(Entered::Lost);
        }
        if !self.members.iter().any(|member| member.name == name) {
            if only_if_empty && !self.members.is_empty() {
                return Ok(Entered::Taken);
            }
            self.last += 1;
            self.members.push(Member { name, session, token: self.last });
        }
        let at = self.members.iter().position(|member| member.name == name).unwrap_or_default();
        Ok(Entered::Queued { token: self.members[at].token, position: Some(self.position(name)) })
    }

    pub(crate) fn position(&self, name: u64) -> Position<Before> {
        match self.members.iter().position(|member| member.name == name) {
            None => Position::Lost,
            Some(0) => Position::First,
            Some(at) => Position::Behind((self.members[at - 1].token, self.members[at - 1].name)),
        }
    }

    pub(crate) fn leave(&mut self, name: u64) -> Left {
        let before = self.members.len();
        self.members.retain(|member| member.name != name);
        if self.members.len() < before { Left::Gone } else { Left::NotThere }
    }

    pub(crate) fn end_session(&mut self, session: u64) -> bool {
        self.members.retain(|member| member.session != session);
        self.sessions.remove(&session).is_some()
    }
}

/// Ends a session that nobody has renewed, and does so late.
pub(crate) async fn expire(server: watch::Sender<State>, id: u64) {
    while let Some(ends) = { server.borrow().sessions.get(&id).copied() } {
        match Instant::now() < ends + LATE {
            true => tokio::time::sleep_until(ends + LATE).await,
            false => server.send_modify(|server| _ = server.end_session(id)),
        }
    }
}
