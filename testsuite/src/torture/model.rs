//! The model: random calls, answered by the store under fire as the store in memory answers them.

use super::{
    chance::Chance,
    field::{Failed, Field},
    stroke::Stroke,
    workload::{Bar, Seen, Violation, Workload},
};
use crate::{
    Failure,
    model::{self, Call, Side},
};
use kv_core::{Capabilities, Kv, Linearizable, driver::async_trait};
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use std::sync::{Mutex, MutexGuard, PoisonError};

const CLIENTS: usize = 2;
/// The number of calls after which a client begins anew, in another directory of its own.
const CALLS: usize = 60;
/// The least number of answered calls that shows anything.
const LEAST: u64 = 20;

/// Some clients, each alone in its directory, and a store in memory beside each of them.
#[derive(Debug, Default)]
pub struct Model(());

#[async_trait]
impl Workload for Model {
    fn name(&self) -> &'static str {
        "model"
    }

    fn unsuited(&self, capabilities: &Capabilities, strokes: &[Stroke]) -> Option<String> {
        if capabilities.linearizable != Linearizable::Always {
            return Some("reads are not always linearizable".into());
        }
        let is_lossy = strokes.iter().any(|stroke| stroke.may_lose(capabilities.durability));
        is_lossy.then(|| "what was acknowledged may be lost".into())
    }

    async fn run(&self, field: &Field) -> Result<Seen, Failure> {
        let work = Work { field, seen: Mutex::default() };
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            clients.push(field.client(self.name()).await?);
        }
        let clients = clients.into_iter().map(|(name, kv)| work.client(name, kv));
        for ended in futures::future::join_all(clients).await {
            ended?;
        }
        let seen = work.seen.into_inner().unwrap_or_else(PoisonError::into_inner);
        if seen.answered < LEAST && seen.violations.is_empty() {
            return Err(format!("only {} calls were answered, which shows nothing", seen.answered).into());
        }
        Ok(seen)
    }
}

struct Work<'a> {
    field: &'a Field,
    seen: Mutex<Seen>,
}

impl Work<'_> {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn client(&self, name: String, kv: Kv) -> Result<(), Failure> {
        let mut chance = self.field.chance(&name);
        let mut turn = 0;
        while !self.field.is_over() {
            let root = format!("{name}-{turn}");
            turn += 1;
            let seed = chance.below(usize::MAX) as u64;
            self.sequence(&name, kv.clone(), &root, seed, &mut chance).await?;
        }
        let _ = kv.close().await;
        Ok(())
    }

    /// Runs one sequence, to its end or to the first call after which nobody knows what is there.
    async fn sequence(
        &self,
        client: &str,
        kv: Kv,
        root: &str,
        seed: u64,
        chance: &mut Chance,
    ) -> Result<(), Failure> {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let mut runner = TestRunner::new_with_rng(Config::default(), random);
        let mut ours = Side::new(kv, root)?;
        let mut expected = Side::new(kv_memory::open("memory://").await?, root)?;
        let mut calls = Vec::new();
        while calls.len() < CALLS && !self.field.is_over() {
            let call = model::call().new_tree(&mut runner).map_err(|e| e.to_string())?.current();
            if !model::is_supported(self.field.capabilities(), &call) {
                continue;
            }
            // A store in this process answers at once, and the workloads share a task: without a
            // pause this one would starve those that are polled after it.
            tokio::time::sleep(chance.millis(0, 5)).await;
            let began = self.field.now();
            let found = ours.answer(&call).await;
            let ended = self.field.now();
            let failed = match &found {
                Err(e) if !model::is_refusal(e.kind()) => Some(self.field.failed(e)),
                _ => None,
            };
            let label = format!("{call:?}: {found:?}");
            let bar = Bar { client: client.to_owned(), label, began, ended: Some(ended) };
            match failed {
                None => {
                    let expected = expected.answer(&call).await;
                    calls.push(bar);
                    if !model::agree(self.field.capabilities(), &call, &found, &expected) {
                        self.wrong(format!("{call:?} answered {found:?}, not {expected:?}"), ended, calls);
                        return Ok(());
                    }
                    self.seen().answered += 1;
                }
                Some(Failed::Nothing) => {
                    self.seen().failed += 1;
                    // Some of it may have been done, or seen.
                    if matches!(call, Call::DeleteTree(_) | Call::List { .. } | Call::GetMany(_)) {
                        return Ok(());
                    }
                    calls.push(bar);
                }
                Some(Failed::Unknown) => {
                    self.seen().unknown += 1;
                    return Ok(());
                }
                Some(Failed::Absurd) => {
                    calls.push(bar);
                    self.wrong(format!("{call:?} answered {found:?}"), ended, calls);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn wrong(&self, what: String, at: u64, calls: Vec<Bar>) {
        self.seen().violations.push(Violation { what, at, calls });
    }
}
