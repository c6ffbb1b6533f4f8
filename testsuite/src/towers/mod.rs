//! The layers of `kv-layers` under the suite: a layer keeps every promise that its capabilities do
//! not take back, on every backend, and so does the tower of all.
//!
//! A test program names the stores to run on, each by the harness of its backend:
//!
//! ```no_run
//! use kv_testsuite::towers::{self, Tower};
//! # use kv_core::{Kv, driver::async_trait};
//! # struct Mine;
//! # #[async_trait]
//! # impl kv_testsuite::Harness for Mine {
//! #     fn name(&self) -> String { "mine".into() }
//! #     async fn open(&self, _: &str) -> kv_core::Result<Kv> { unreachable!() }
//! # }
//!
//! fn main() {
//!     towers::main(1, towers::trials("on_mine", &[Tower::All], 300, || async { Ok(Mine) }))
//! }
//! ```

mod layered;
mod split;

use crate::{
    Failure, Harness, Options, Outcome, cases,
    lateness::Lateness,
    run::{self, text},
    sites::{Make, Sites},
};
use futures::FutureExt;
use layered::Layered;
use libtest_mimic::{Arguments, Failed, Trial};
use std::{
    future::Future,
    panic::{self, AssertUnwindSafe},
    sync::Arc,
    time::Instant,
};
use tokio::runtime::Builder;

/// One layer over the store of a harness, or all of them at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tower {
    /// `ReadOnly`, with the writes beside it.
    ReadOnly,
    /// `Prefix`, in the place of the store's own.
    Prefix,
    /// `Limit`, with so few permits that most calls wait for one.
    Limit,
    /// `Encrypt`.
    Encrypt,
    /// `Encrypt` over a store whose transactions have little room.
    EncryptInLittleRoom,
    /// `Chaos` that holds calls and events back: what fails by chance would break promises, as it
    /// is meant to.
    Chaos,
    /// `Coalesce`.
    Coalesce,
    /// `Tee`, which copies into a store in memory.
    Tee,
    /// All layers, one over the other.
    All,
}

impl Tower {
    /// Each of them.
    pub const EACH: [Self; 9] = [
        Self::ReadOnly,
        Self::Prefix,
        Self::Limit,
        Self::Encrypt,
        Self::EncryptInLittleRoom,
        Self::Chaos,
        Self::Coalesce,
        Self::Tee,
        Self::All,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::ReadOnly => "read_only",
            Self::Prefix => "prefix",
            Self::Limit => "limit",
            Self::Encrypt => "encrypt",
            Self::EncryptInLittleRoom => "encrypt_in_little_room",
            Self::Chaos => "chaos",
            Self::Coalesce => "coalesce",
            Self::Tee => "tee",
            Self::All => "all",
        }
    }
}

/// Returns a test for each tower, named `GROUND::TOWER`, which runs the whole suite on a harness
/// that is made for it, with a runtime of its own. Those that are not in `always` take part in a
/// run with `--ignored` alone, as `ci/long layers` makes one. At least so many cases have to be
/// tried: the others are for hooks that the harness lacks, or ruled out by its capabilities.
pub fn trials<H, F>(
    ground: &'static str,
    always: &[Tower],
    least: usize,
    make: impl Fn() -> F + Clone + Send + Sync + 'static,
) -> Vec<Trial>
where
    H: Harness,
    F: Future<Output = Result<H, Failure>> + Send + 'static,
{
    let trial = |tower: Tower| {
        let make = make.clone();
        let run = move || one(tower, least, make);
        Trial::test(format!("{ground}::{}", tower.name()), run).with_ignored_flag(!always.contains(&tower))
    };
    Tower::EACH.into_iter().map(trial).collect()
}

/// Does all that the test program has to do, with `harness = false` in its `Cargo.toml`: runs these
/// tests, so many at once unless it is told otherwise, and ends the program. A suite mostly waits;
/// each has a server of its own.
pub fn main(at_once: usize, trials: Vec<Trial>) -> ! {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(at_once);
    libtest_mimic::run(&arguments, trials).exit()
}

/// Runs the suite on one tower, and ends its harnesses.
fn one<H, F>(tower: Tower, least: usize, make: impl Fn() -> F + Send + Sync + 'static) -> Result<(), Failed>
where
    H: Harness,
    F: Future<Output = Result<H, Failure>> + Send + 'static,
{
    let runtime = Builder::new_multi_thread().worker_threads(4).enable_all().build()?;
    let make: Make = Box::new(move || {
        let made = make();
        async move { Ok(Arc::new(Layered::new(made.await?, tower).await?) as Arc<dyn Harness>) }.boxed()
    });
    let sites = runtime.block_on(runtime.spawn(Sites::several(make)))??;
    let sites = Arc::new(sites);
    let kept = runtime.block_on(runtime.spawn(keeps_every_promise(sites.clone(), least)))?;
    let ended = {
        // A harness that ends may wait here until its server shows nothing of ours.
        let _inside = runtime.enter();
        panic::catch_unwind(AssertUnwindSafe(|| drop(sites)))
    };
    runtime.shutdown_background();
    kept?;
    ended.map_err(|panic| text(&*panic).into())
}

/// Runs the suite, and checks that no promise is broken, and that enough were tried.
async fn keeps_every_promise(sites: Arc<Sites>, least: usize) -> Result<(), Failed> {
    let (began, lateness) = (Instant::now(), Lateness::watch());
    let report = run::on(sites, &cases::all(), &Options::default()).await?;
    let broken: Vec<_> = report.broken().map(|(case, why)| format!("{case}: {why}")).collect();
    if !broken.is_empty() {
        let late = lateness.since(began).unwrap_or_default();
        return Err(format!("{} promises are broken:\n{}\n{late}", broken.len(), broken.join("\n")).into());
    }
    let kept = report.results.iter().filter(|(_, outcome)| *outcome == Outcome::Kept).count();
    if kept < least {
        return Err(format!("{kept} cases were tried, and not {least}").into());
    }
    Ok(())
}
