//! The clients that write the tree, and beside it.

use super::{
    BESIDE, BRIEF, ByAll, ByOne, KEYS, Work,
    judge::{Fate, Write},
};
use crate::torture::{chance::Chance, field::Failed};
use kv_core::{Error, ErrorKind, Kv, Outcome, Version};
use std::{collections::HashMap, time::Duration};

/// The writes of one call that is to be made.
struct Asked<'a> {
    client: &'a str,
    began: u64,
    /// Keys and values; no value deletes.
    writes: Vec<(&'static str, Option<String>)>,
    ttl: Option<Duration>,
}

/// The versions that a writer knows.
type Known = HashMap<&'static str, Version>;

impl Work<'_> {
    pub(super) async fn writer(&self, number: usize, name: String, kv: Kv) {
        let (mut chance, mut known) = (self.field.chance(&name), Known::new());
        while !self.field.is_over() {
            let (key, deleted) = *chance.pick(KEYS);
            let may_delete = deleted == ByAll || deleted == ByOne && number == 0;
            self.call(&name, &kv, key, may_delete, &mut chance, &mut known).await;
            tokio::time::sleep(chance.millis(0, 15)).await;
        }
        let _ = kv.close().await;
    }

    pub(super) async fn beside(&self, name: String, kv: Kv) {
        let mut chance = self.field.chance(&name);
        while !self.field.is_over() {
            let key = *chance.pick(BESIDE);
            if chance.one_in(5) {
                let asked = self.asked(&name, vec![(key, None)]);
                self.deleted(asked, kv.delete(key).await, &mut Known::new());
            } else {
                let value = self.value();
                let asked = self.asked(&name, vec![(key, Some(value.clone()))]);
                let answer = kv.put(key, value).await.map(|written| vec![Some(written.version)]);
                self.answered(asked, answer, &mut Known::new());
            }
            tokio::time::sleep(chance.millis(0, 15)).await;
        }
        let _ = kv.close().await;
    }

    async fn call(
        &self,
        name: &str,
        kv: &Kv,
        key: &'static str,
        may_delete: bool,
        chance: &mut Chance,
        known: &mut Known,
    ) {
        let value = self.value();
        let seen = known.get(key).copied();
        let put = |value: &String| vec![(key, Some(value.clone()))];
        match (chance.below(10), seen) {
            (0, _) => match kv.get(key).await {
                Ok(found) => {
                    known.remove(key);
                    known.extend(found.map(|entry| (key, entry.version)));
                }
                Err(e) => self.failed(&e),
            },
            (1, _) => {
                let asked = self.asked(name, put(&value));
                let answer = kv.atomic_put(key, value, None).await;
                self.answered(asked, answer.map(|written| vec![Some(written.version)]), known);
            }
            (2, _) if may_delete => {
                let asked = self.asked(name, vec![(key, None)]);
                self.deleted(asked, kv.delete(key).await, known);
            }
            (3, Some(version)) if may_delete => {
                let asked = self.asked(name, vec![(key, None)]);
                self.deleted(asked, kv.atomic_delete(key, version).await, known);
            }
            (4 | 5, Some(version)) => {
                let asked = self.asked(name, put(&value));
                let answer = kv.atomic_put(key, value, version).await;
                self.answered(asked, answer.map(|written| vec![Some(written.version)]), known);
            }
            (6 | 7, _) if self.field.capabilities().max_txn_ops >= 6 => {
                self.transact(name, kv, key, may_delete, chance, known).await;
            }
            _ => {
                let range = self.field.capabilities().ttl.as_ref();
                let range = range.filter(|_| key == BRIEF && chance.one_in(2));
                let ttl = range.map(|range| range.least.max(Duration::from_secs(1)));
                let call = kv.put(key, value.clone());
                let asked = Asked { ttl, ..self.asked(name, put(&value)) };
                let answer = match ttl {
                    Some(ttl) => call.ttl(ttl).await,
                    None => call.await,
                };
                self.answered(asked, answer.map(|written| vec![Some(written.version)]), known);
            }
        }
    }

    /// Writes this key and two others, if this key has the version that is known, if any is.
    async fn transact(
        &self,
        name: &str,
        kv: &Kv,
        key: &'static str,
        may_delete: bool,
        chance: &mut Chance,
        known: &mut Known,
    ) {
        let mut txn = kv.transact();
        if let Some(version) = known.get(key) {
            txn = txn.when_version(key, *version);
        }
        let mut writes = vec![(key, (!may_delete || !chance.one_in(4)).then(|| self.value()))];
        for _ in 0..2 {
            let (other, deleted) = *chance.pick(KEYS);
            // A key that nobody deletes, or only one writer, is put.
            let value = (deleted != ByAll || !chance.one_in(4)).then(|| self.value());
            if writes.iter().all(|(of, _)| *of != other) {
                writes.push((other, value));
            }
        }
        for (of, value) in &writes {
            txn = match value {
                Some(value) => txn.then(kv.put(*of, value.clone())),
                None => txn.then(kv.delete(*of)),
            };
        }
        let asked = self.asked(name, writes);
        match txn.await {
            Ok(Outcome::Committed(written)) => {
                let versions = written.into_iter().map(|written| written.map(|written| written.version));
                self.answered(asked, Ok(versions.collect()), known);
            }
            Ok(Outcome::Refused(refusal)) => {
                known.remove(key);
                if refusal.index != 0 {
                    self.absurd(format!("a transaction was refused by {refusal}, which it did not ask"));
                }
                self.log().seen.answered += 1;
                self.note(asked, |_| Fate::Failed);
            }
            Err(e) => self.answered(asked, Err(e), known),
        }
    }

    fn asked<'a>(&self, client: &'a str, writes: Vec<(&'static str, Option<String>)>) -> Asked<'a> {
        Asked { client, began: self.field.now(), writes, ttl: None }
    }

    fn deleted(&self, asked: Asked<'_>, answer: Result<bool, Error>, known: &mut Known) {
        match answer {
            Ok(true) => self.answered(asked, Ok(vec![None]), known),
            // There was nothing, and so no event.
            Ok(false) => {
                self.log().seen.answered += 1;
                self.note(asked, |_| Fate::Failed);
            }
            Err(e) => self.answered(asked, Err(e), known),
        }
    }

    /// Notes the writes of a call: the version of each, or the error.
    fn answered(&self, asked: Asked<'_>, answer: Result<Vec<Option<Version>>, Error>, known: &mut Known) {
        for (key, _) in &asked.writes {
            known.remove(key);
        }
        match answer {
            Ok(versions) => {
                self.log().seen.answered += 1;
                for ((key, value), version) in asked.writes.iter().zip(&versions) {
                    match (value, version) {
                        (Some(_), Some(version)) => drop(known.insert(key, *version)),
                        (None, None) => {}
                        _ => self.absurd(format!("a write of {key} was answered with {version:?}")),
                    }
                }
                let mut versions = versions.into_iter();
                self.note(asked, |_| Fate::Done(versions.next().flatten()));
            }
            Err(e) if e.is_conflict() => {
                self.log().seen.answered += 1;
                self.note(asked, |_| Fate::Failed);
            }
            Err(e) => {
                self.failed(&e);
                let is_unknown = e.kind() == ErrorKind::OutcomeUnknown;
                self.note(asked, |_| if is_unknown { Fate::Unknown } else { Fate::Failed });
            }
        }
    }

    pub(super) fn failed(&self, error: &Error) {
        match self.field.failed(error) {
            Failed::Nothing => self.log().seen.failed += 1,
            Failed::Unknown => self.log().seen.unknown += 1,
            Failed::Absurd => self.absurd(error.to_string()),
        }
    }

    fn note(&self, asked: Asked<'_>, mut fate: impl FnMut(usize) -> Fate) {
        let (ended, ttl) = (self.field.now(), asked.ttl);
        let ttl = ttl.map(|ttl| u64::try_from(ttl.as_micros()).unwrap_or(u64::MAX));
        let mut log = self.log();
        for (nth, (key, value)) in asked.writes.into_iter().enumerate() {
            let (client, key, fate) = (asked.client.to_owned(), key.to_owned(), fate(nth));
            log.writes.push(Write { client, key, value, ttl, began: asked.began, ended, fate });
        }
    }
}
