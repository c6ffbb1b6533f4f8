//! Registers: reads, writes, compare-and-swaps, deletes and transactions, checked for
//! linearizability.

mod judge;

use super::{
    chance::Chance,
    field::{Failed, Field},
    linear::{Call, Id, Is},
    patience::until_done,
    stroke::Stroke,
    workload::{Seen, Violation, Workload},
};
use crate::Failure;
use judge::{Log, Told, judge};
use kv_core::{
    Capabilities, Entry, Error, ErrorKind, Kv, Linearizable, Outcome, Version, driver::async_trait,
};
use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

/// The number of groups of registers that are in use at one moment.
const GROUPS: usize = 3;
/// The number of registers of a group, all of which one transaction may touch.
const REGISTERS: usize = 2;
/// The number of calls after which a group's registers are left for new ones: the search stays
/// short.
const CALLS: u32 = 240;
const CLIENTS: usize = 5;

/// Some clients that read and write a few registers at random.
#[derive(Debug, Default)]
pub struct Registers(());

struct Work<'a> {
    field: &'a Field,
    log: Mutex<Log>,
    next: AtomicU32,
    begun: [AtomicU32; GROUPS],
}

#[async_trait]
impl Workload for Registers {
    fn name(&self) -> &'static str {
        "registers"
    }

    fn unsuited(&self, capabilities: &Capabilities, _: &[Stroke]) -> Option<String> {
        let never = capabilities.linearizable == Linearizable::Never;
        never.then(|| "reads are not linearizable".to_owned())
    }

    async fn run(&self, field: &Field) -> Result<Seen, Failure> {
        let work = Work { field, log: Mutex::default(), next: AtomicU32::new(1), begun: Default::default() };
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            clients.push(field.client(self.name()).await?);
        }
        let clients = clients.into_iter().map(|(name, kv)| work.client(name, kv));
        futures::future::join_all(clients).await;
        field.calm().await;
        work.read_all(field.observer(self.name()).await?).await?;
        let log = work.log.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(judge(field, log))
    }
}

/// The values and versions that a client knows of registers.
type Known = HashMap<(String, usize), (Id, Version)>;

/// A call that is to be made.
struct Asked {
    group: String,
    began: u64,
    label: String,
    when: Vec<(usize, Is)>,
    writes: Vec<(usize, Option<Id>)>,
}

impl Work<'_> {
    fn log(&self) -> std::sync::MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn client(&self, name: String, kv: Kv) {
        let (mut chance, mut known) = (self.field.chance(&name), Known::new());
        while !self.field.is_over() {
            let number = chance.below(GROUPS);
            let turn = self.begun[number].fetch_add(1, Ordering::Relaxed) / CALLS;
            let group = format!("g{number}-{turn}");
            self.call(&name, &kv, group, &mut chance, &mut known).await;
            tokio::time::sleep(chance.millis(0, 8)).await;
        }
        let _ = kv.close().await;
    }

    /// Reads once more every register that was used.
    async fn read_all(&self, kv: Kv) -> Result<(), Failure> {
        let groups: Vec<_> = self.log().calls.keys().cloned().collect();
        for group in groups {
            for register in 0..REGISTERS {
                let began = self.field.now();
                let read = || kv.get(key(&group, register)).into_future();
                let found = until_done("reading a register", read).await?;
                self.found("the end", &group, register, began, found);
            }
        }
        kv.close().await?;
        Ok(())
    }

    fn id(&self) -> Id {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    async fn call(&self, name: &str, kv: &Kv, group: String, chance: &mut Chance, known: &mut Known) {
        let register = chance.below(REGISTERS);
        let at = key(&group, register);
        let seen = known.get(&(group.clone(), register)).copied();
        let can_transact = self.field.capabilities().max_txn_ops >= 2 * REGISTERS;
        match (chance.below(12), seen) {
            (0 | 1, _) => {
                let began = self.field.now();
                match kv.get(&at).await {
                    Ok(found) => {
                        known.extend(self.found(name, &group, register, began, found));
                    }
                    Err(e) => self.read_failed(&e),
                }
            }
            (2, _) => {
                let began = self.field.now();
                match kv.get_many((0..REGISTERS).map(|r| key(&group, r))).await {
                    Ok(found) => {
                        for (register, found) in found.into_iter().enumerate() {
                            known.extend(self.found(name, &group, register, began, found));
                        }
                    }
                    Err(e) => self.read_failed(&e),
                }
            }
            (3 | 4, _) => {
                let id = self.id();
                let asked =
                    self.asked(group, format!("put {id} into {register}"), [], [(register, Some(id))]);
                let answer = kv.put(&at, id.to_string()).await.map(|written| Some(written.version));
                self.answered(name, asked, answer, None, known);
            }
            (5, _) => {
                let id = self.id();
                let label = format!("create {id} in {register}");
                let asked = self.asked(group, label, [(register, Is::Missing)], [(register, Some(id))]);
                let answer = kv.atomic_put(&at, id.to_string(), None).await.map(|w| Some(w.version));
                self.answered(name, asked, answer, Some((ErrorKind::KeyExists, Is::There)), known);
            }
            (6, _) => {
                let (began, answer) = (self.field.now(), kv.delete(&at).await);
                let mut asked = self.asked(group, format!("delete {register}"), [], [(register, None)]);
                asked.began = began;
                match answer {
                    Ok(was_there) => {
                        asked.when.push((register, if was_there { Is::There } else { Is::Missing }));
                        asked.label += if was_there { ": it was there" } else { ": it was not there" };
                        self.answered(name, asked, Ok(None), None, known);
                    }
                    Err(e) => self.answered(name, asked, Err(e), None, known),
                }
            }
            (7, Some((was, version))) => {
                let label = format!("delete {register} at {was}");
                let asked = self.asked(group, label, [(register, Is::At(was))], [(register, None)]);
                let answer = kv.atomic_delete(&at, version).await.map(|_| None);
                self.answered(name, asked, answer, Some((ErrorKind::KeyModified, Is::NotAt(was))), known);
            }
            (8 | 9, _) if can_transact => self.transact(name, kv, group, chance, known).await,
            (_, Some((was, version))) => {
                let id = self.id();
                let label = format!("swap {was} for {id} in {register}");
                let asked = self.asked(group, label, [(register, Is::At(was))], [(register, Some(id))]);
                let answer = kv.atomic_put(&at, id.to_string(), version).await.map(|w| Some(w.version));
                self.answered(name, asked, answer, Some((ErrorKind::KeyModified, Is::NotAt(was))), known);
            }
            _ => {}
        }
    }

    /// Writes or empties both registers, if what is known of them, or of their being there, is
    /// true.
    async fn transact(&self, name: &str, kv: &Kv, group: String, chance: &mut Chance, known: &mut Known) {
        let (mut txn, mut when, mut writes) = (kv.transact(), Vec::new(), Vec::new());
        for register in 0..REGISTERS {
            let at = key(&group, register);
            match (known.get(&(group.clone(), register)), chance.below(3)) {
                (Some((id, version)), 0 | 1) => {
                    txn = txn.when_version(&at, *version);
                    when.push((register, Is::At(*id)));
                }
                (None, 0) => {
                    txn = txn.when_missing(&at);
                    when.push((register, Is::Missing));
                }
                (_, 2) => {
                    txn = txn.when_exists(&at);
                    when.push((register, Is::There));
                }
                _ => {}
            }
            if chance.one_in(5) {
                txn = txn.then(kv.delete(&at));
                writes.push((register, None));
            } else {
                let id = self.id();
                txn = txn.then(kv.put(&at, id.to_string()));
                writes.push((register, Some(id)));
            }
        }
        let mut asked = self.asked(group, format!("if {when:?} write {writes:?}"), when, writes);
        match txn.await {
            Ok(Outcome::Committed(written)) => {
                let ended = self.field.now();
                for ((register, id), written) in asked.writes.iter().zip(written) {
                    if let (Some(id), Some(written)) = (id, written) {
                        let told = (*id, written.version);
                        known.insert((asked.group.clone(), *register), told);
                        self.told(key(&asked.group, *register), told, Some((asked.began, ended)));
                    }
                }
                self.answered(name, asked, Ok(None), None, known);
            }
            Ok(Outcome::Refused(refusal)) => {
                let Some((register, is)) = asked.when.get(refusal.index).copied() else {
                    self.absurd(format!("a transaction was refused by {refusal}, which it did not ask"));
                    return;
                };
                // The conditions before it were true, and this one was not.
                asked.when.truncate(refusal.index);
                asked.when.push((register, not(is)));
                asked.writes.clear();
                asked.label += &format!(": refused by {}", refusal.index);
                for (known_of, is) in &asked.when {
                    if let Is::NotAt(_) = is {
                        known.remove(&(asked.group.clone(), *known_of));
                    }
                }
                self.answered(name, asked, Ok(None), None, known);
            }
            Err(e) => self.answered(name, asked, Err(e), None, known),
        }
    }

    fn asked(
        &self,
        group: String,
        label: String,
        when: impl Into<Vec<(usize, Is)>>,
        writes: impl Into<Vec<(usize, Option<Id>)>>,
    ) -> Asked {
        Asked { group, began: self.field.now(), label, when: when.into(), writes: writes.into() }
    }

    /// Notes a call and its answer: the version of what was written, or the error. An error of the
    /// kind that `refusal` names says that its state was true instead.
    fn answered(
        &self,
        name: &str,
        asked: Asked,
        answer: Result<Option<Version>, Error>,
        refusal: Option<(ErrorKind, Is)>,
        known: &mut Known,
    ) {
        let now = self.field.now();
        let Asked { group, began, mut label, mut when, mut writes } = asked;
        let mut ended = Some(now);
        match answer {
            Ok(version) => {
                for (register, id) in &writes {
                    match (id, version) {
                        (Some(id), Some(version)) => {
                            known.insert((group.clone(), *register), (*id, version));
                            self.told(key(&group, *register), (*id, version), Some((began, now)));
                        }
                        (None, _) => drop(known.remove(&(group.clone(), *register))),
                        _ => {}
                    }
                }
                self.log().seen.answered += 1;
            }
            Err(e) => match refusal.filter(|(kind, _)| *kind == e.kind()) {
                Some((kind, is)) => {
                    label += &format!(": {kind}");
                    for (register, was) in &mut when {
                        *was = is;
                        known.remove(&(group.clone(), *register));
                    }
                    writes.clear();
                    self.log().seen.answered += 1;
                }
                None => match self.field.failed(&e) {
                    Failed::Nothing => {
                        self.log().seen.failed += 1;
                        return;
                    }
                    Failed::Unknown => {
                        label += ": ?";
                        ended = None;
                        self.log().seen.unknown += 1;
                    }
                    Failed::Absurd => return self.absurd(format!("{label}: {e}")),
                },
            },
        }
        let call = Call { client: name.into(), label, began, ended, when, writes, reverts: false };
        self.log().calls.entry(group).or_default().push(call);
    }

    fn found(
        &self,
        name: &str,
        group: &str,
        register: usize,
        began: u64,
        found: Option<Entry>,
    ) -> Option<((String, usize), (Id, Version))> {
        let ended = Some(self.field.now());
        let mut told = None;
        let (is, label) = match found {
            None => (Is::Missing, format!("get {register}: nothing")),
            Some(entry) => {
                let Some(id) = entry.text().and_then(|text| text.parse().ok()) else {
                    self.absurd(format!("{}, which nobody wrote, was read from {}", show(&entry), entry.key));
                    return None;
                };
                self.told(key(group, register), (id, entry.version), None);
                told = Some(((group.to_owned(), register), (id, entry.version)));
                (Is::At(id), format!("get {register}: {id}"))
            }
        };
        let when = vec![(register, is)];
        let call = Call { client: name.into(), label, began, ended, when, writes: vec![], reverts: false };
        let mut log = self.log();
        log.seen.answered += 1;
        log.calls.entry(group.to_owned()).or_default().push(call);
        told
    }

    fn told(&self, key: String, (id, version): (Id, Version), written: Option<(u64, u64)>) {
        self.log().told.push(Told { key, id, version, written });
    }

    fn read_failed(&self, e: &Error) {
        match self.field.failed(e) {
            Failed::Absurd => self.absurd(e.to_string()),
            _ => self.log().seen.failed += 1,
        }
    }

    fn absurd(&self, what: String) {
        let violation = Violation { what, at: self.field.now(), calls: Vec::new() };
        self.log().seen.violations.push(violation);
    }
}

fn not(is: Is) -> Is {
    match is {
        Is::At(id) => Is::NotAt(id),
        Is::NotAt(id) => Is::At(id),
        Is::There => Is::Missing,
        Is::Missing => Is::There,
    }
}

fn key(group: &str, register: usize) -> String {
    format!("{group}/r{register}")
}

fn show(entry: &Entry) -> String {
    String::from_utf8_lossy(&entry.value).into_owned()
}
