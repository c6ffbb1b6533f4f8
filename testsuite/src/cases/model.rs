//! Random sequences of calls, on the backend and on the store in memory side by side: every answer
//! must be the same.

use crate::{
    Ended, Failure, Trial, Verdict,
    model::{Call, Side, agree, call, is_supported},
};
use kv_core::{Kv, WatchEvent, Watching};
use proptest::{
    collection::vec,
    test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner},
};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

cases! {
    "model.sequences": "random sequences of calls answer as the store in memory does" => sequences,
}

/// The name of the variable that sets the seed.
const SEED: &str = "KV_SUITE_SEED";
/// The number of sequences that are tried, unless `TIME` is over before.
const MANY: u64 = 256;
const TIME: Duration = Duration::from_secs(8);

async fn compare(t: &Trial, kv: &Kv, root: &str, calls: &[Call]) -> Result<(), Failure> {
    let mut ours = Side::new(kv.clone(), root)?;
    let mut model = Side::new(kv_memory::open("memory://").await?, root)?;
    let mut watch = match t.capabilities().watch {
        Watching::Unsupported => None,
        _ => Some(kv.watch_tree(root).await?),
    };
    for (n, call) in calls.iter().enumerate().filter(|(_, call)| is_supported(t.capabilities(), call)) {
        let (found, expected) = (ours.answer(call).await, model.answer(call).await);
        if !agree(t.capabilities(), call, &found, &expected) {
            let call = format!("call {} of the sequence, {call:?}", n + 1);
            return Err(format!("{call}: expected {expected:?}, found {found:?}").into());
        }
    }
    let all = |listed: Vec<kv_core::Entry>| -> BTreeMap<String, kv_core::Bytes> {
        listed.into_iter().map(|e| (e.key.to_string(), e.value)).collect()
    };
    let (found, expected) = (all(kv.list(root).await?), all(model.kv.list(root).await?));
    if found != expected {
        return Err(format!("the listing in the end: expected {expected:?}, found {found:?}").into());
    }
    if let Some(watch) = &mut watch {
        let mut mirror = super::snapshot(t, watch).await?;
        let end = format!("{root}/end");
        let version = kv.put(&end, "").await?.version;
        super::told(t, watch, &end, version)
            .await?
            .into_iter()
            .for_each(|event: WatchEvent| mirror.fold(event));
        mirror.0.remove(&end);
        let mirror = all(mirror.0.into_values().collect());
        if mirror != expected {
            return Err(format!("what a watch told: expected {expected:?}, found {mirror:?}").into());
        }
    }
    Ok(())
}

/// Tries one sequence of this seed, and shrinks it when it fails.
fn one(t: &Trial, kv: &Kv, runtime: &tokio::runtime::Handle, seed: u64) -> Result<(), Failure> {
    let config = Config {
        cases: 1,
        failure_persistence: None,
        max_shrink_iters: 2_000,
        max_shrink_time: 30_000,
        ..Config::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let tries = std::cell::Cell::new(0);
    let ended = runner.run(&vec(call(), 1..60), |calls| {
        // Every try begins in a directory that is new.
        tries.set(tries.get() + 1);
        let root = format!("{seed:x}-{}", tries.get());
        runtime.block_on(compare(t, kv, &root, &calls)).map_err(|e| TestCaseError::fail(e.to_string()))
    });
    match ended {
        Ok(()) => Ok(()),
        Err(TestError::Fail(why, calls)) => {
            let calls: Vec<_> = calls.iter().map(|call| format!("\n  {call:?}")).collect();
            Err(format!(
                "{why}\nthe shortest sequence found:{}\n{SEED}={seed} tries it again",
                calls.concat()
            )
            .into())
        }
        Err(TestError::Abort(why)) => Err(format!("{why}; {SEED}={seed} tries it again").into()),
    }
}

async fn sequences(t: Trial) -> Verdict {
    let kv = t.open().await?;
    let given = std::env::var(SEED).ok().map(|seed| seed.parse::<u64>());
    let given = given.transpose().map_err(|e| format!("{SEED} must be a whole number below 2^64: {e}"))?;
    let runtime = tokio::runtime::Handle::current();
    t.note("random sequences");
    let work = tokio::task::spawn_blocking(move || {
        let (begun, random) = (Instant::now(), rand_seed());
        if let Some(seed) = given {
            return one(&t, &kv, &runtime, seed);
        }
        (0..MANY)
            .take_while(|_| begun.elapsed() < TIME)
            .try_for_each(|n| one(&t, &kv, &runtime, random.wrapping_add(n)))
    });
    work.await??;
    Ok(Ended::Kept)
}

/// Returns another seed for each run.
fn rand_seed() -> u64 {
    use std::hash::BuildHasher;
    std::hash::RandomState::new().hash_one(std::process::id())
}
