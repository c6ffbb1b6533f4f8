//! Keeps keys from being deleted that the place that is read has, and does not list: on Redis those
//! that nobody has adopted.

use super::{
    compare::{Comparison, Difference},
    plan::Plan,
    side::Place,
};
use crate::{exit::Run, out::note};
use kv_core::Key;
use std::collections::VecDeque;

/// The differences that are looked at together.
pub(super) const AT_A_TIME: usize = 64;
/// The names that are told.
const TOLD: usize = 10;

/// The keys that were to be deleted, and are not.
#[derive(Debug, Default)]
pub(super) struct Kept {
    count: usize,
    /// The first of them.
    names: Vec<Key>,
}

impl Kept {
    /// Takes out of these differences the deletions of keys that the place that is read has.
    pub(super) async fn take(&mut self, from: &Place, differences: &mut VecDeque<Difference>) -> Run<()> {
        let is_extra = |difference: &&Difference| matches!(difference, Difference::Extra { .. });
        let keys: Vec<_> = differences.iter().filter(is_extra).map(|extra| extra.key().clone()).collect();
        if keys.is_empty() {
            return Ok(());
        }
        let mut found = from.find(&keys).await?.into_iter();
        differences.retain(|difference| {
            let is_there = is_extra(&difference) && found.next().flatten().is_some();
            if is_there {
                self.count += 1;
                if self.names.len() < TOLD {
                    self.names.push(difference.key().clone());
                }
            }
            !is_there
        });
        Ok(())
    }

    /// Tells of them on standard error.
    pub(super) fn tell(&self) {
        let Self { count, names } = self;
        if *count > 0 {
            let named: Vec<_> = names.iter().map(|name| format!("{name:?}")).collect();
            let more = if *count > names.len() { ", …" } else { "" };
            let named = named.join(", ");
            note(&format!(
                "{count} keys are not deleted, since the source has them, and does not list them: \
                 {named}{more}"
            ));
        }
    }
}

/// The differences of two places that are to go, in the order of the keys.
pub(super) struct Going<'a> {
    comparison: &'a mut Comparison,
    from: &'a Place,
    plan: &'a Plan,
    ready: VecDeque<Difference>,
    kept: Kept,
}

impl<'a> Going<'a> {
    pub(super) fn of(comparison: &'a mut Comparison, from: &'a Place, plan: &'a Plan) -> Self {
        Self { comparison, from, plan, ready: VecDeque::new(), kept: Kept::default() }
    }

    /// Returns the next one; `None` at the end.
    pub(super) async fn next(&mut self) -> Run<Option<Difference>> {
        let most = if self.plan.deletes { AT_A_TIME } else { 1 };
        let mut is_over = false;
        while self.ready.is_empty() && !is_over {
            while self.ready.len() < most && !is_over {
                match self.comparison.next().await? {
                    Some(difference) if self.plan.concerns(&difference) => self.ready.push_back(difference),
                    Some(_) => {}
                    None => is_over = true,
                }
            }
            self.kept.take(self.from, &mut self.ready).await?;
        }
        Ok(self.ready.pop_front())
    }

    /// Tells of the keys that were to be deleted, and are not.
    pub(super) fn tell_kept(&self) {
        self.kept.tell();
    }
}
