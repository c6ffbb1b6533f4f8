//! The suite's own proof: a store that breaks one promise on purpose makes the cases of that promise red; and the same
//! store without a fault is green.
//!
//! Every case that an answer of a `Store` can break is named by a fault in `fault.rs`; for the others `unproven.rs` says
//! how each was seen red. A case that is in neither fails this program.
//!
//! `cargo test -p kv-testsuite --test proof -- NAME` runs the faults whose names hold `NAME`. With `KV_PROOF_DISCOVER`
//! set, each fault runs on every case, and the red ones are printed: how the table is made.

mod broken;
mod fault;
mod full;
mod lease;
mod lock;
mod torture;
mod tree;
mod txn;
mod unproven;
mod watch;
#[path = "../wire/mod.rs"]
mod wire;

use broken::{Broken, State};
use fault::{FAULTS, Fault, NET_FAULTS};
use kv_core::{Bytes, Error, Kv, Result, Store, StoreUrl, async_trait, backend::directory_prefix};
use kv_memory::Memory;
use kv_testsuite::{Case, Foreign, Full, Harness, Options, Outcome, cases, run};
use libtest_mimic::{Arguments, Failed, Trial};
use std::{sync::Arc, time::Duration};

/// A server with a fault.
struct Faulty {
    server: Memory,
    /// Another, which has all names as well.
    beside: Memory,
    fault: Fault,
    state: Arc<State>,
}

#[async_trait]
impl Harness for Faulty {
    fn name(&self) -> String {
        format!("{:?}", self.fault)
    }

    async fn open(&self, prefix: &str) -> Result<Kv> {
        let prefix = if self.fault == Fault::IgnoresPrefix { "" } else { prefix };
        let inner: Arc<dyn Store> = Arc::new(self.server.with_raw_prefix(prefix));
        let mut capabilities = inner.as_ref().capabilities().clone();
        match self.fault {
            Fault::CapabilitiesDiffer => capabilities.max_txn_ops += prefix.len(),
            Fault::DeclaresOneMoment => capabilities.list_snapshot = true,
            _ => {}
        }
        let capabilities = Arc::new(capabilities);
        self.state.check_open(self.fault)?;
        let (server, fault, state) = (self.server.clone(), self.fault, self.state.clone());
        let (beside, home) = (self.beside.with_raw_prefix(prefix), Arc::default());
        let prefix = prefix.into();
        Ok(Kv::new(Broken { inner, server, beside, home, fault, state, prefix, capabilities }))
    }

    async fn beside(&self, prefix: &str) -> Vec<(&'static str, Result<Kv>)> {
        vec![("memory", Ok(Kv::new(self.beside.with_prefix(prefix))))]
    }

    async fn full(&self) -> Option<Arc<dyn Full>> {
        Some(Arc::new(Faulty::new(self.fault)))
    }

    async fn internals(&self, prefix: &str) -> Option<Vec<String>> {
        Some(self.leftovers(prefix).await)
    }

    fn url(&self, prefix: &str) -> Option<String> {
        Some(format!("broken://user:hunter2@server/{prefix}"))
    }

    async fn open_url(&self, url: &str) -> Option<Result<Kv>> {
        Some(self.open_this(url).await.map_err(|e| e.in_call("open", "memory", None)))
    }

    fn foreign(&self) -> Option<Arc<dyn Foreign>> {
        Some(Arc::new(Tool(self.server.clone())))
    }

    async fn leftovers(&self, prefix: &str) -> Vec<String> {
        self.server.with_prefix(prefix).leftovers()
    }
}

impl Faulty {
    fn new(fault: Fault) -> Self {
        Self { server: Memory::new(), beside: Memory::new(), fault, state: Arc::default() }
    }

    async fn open_this(&self, url: &str) -> Result<Kv> {
        let shown = |e: Error| match self.fault {
            Fault::ShowsBadUrls => Error::new(e.kind(), format!("cannot read {url}")),
            _ => e,
        };
        let url = StoreUrl::parse(url).map_err(shown)?;
        let prefix = match self.fault {
            Fault::IgnoresTheUrlsPath => String::new(),
            Fault::PrefixesAreText => url.prefix().to_owned(),
            _ => directory_prefix(url.prefix()),
        };
        if self.fault != Fault::IgnoresUnknownParameters {
            url.finish()?;
        }
        Harness::open(self, &prefix).await
    }
}

/// What looks at the server from outside.
struct Tool(Memory);

#[async_trait]
impl Foreign for Tool {
    async fn put(&self, name: &str, value: Bytes) {
        self.0.raw_put(name, value);
    }

    async fn get(&self, name: &str) -> Option<Bytes> {
        self.0.raw_get(name)
    }

    async fn delete(&self, name: &str) {
        self.0.raw_delete(name);
    }
}

/// A server of which one promise is broken, or of the two kinds that keep all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Server {
    /// In this process.
    Here(Fault),
    /// Over a network that fails.
    There(Option<wire::Fault>),
}

impl Server {
    async fn start(self) -> Arc<dyn Harness> {
        match self {
            Self::Here(fault) => Arc::new(Faulty::new(fault)),
            Self::There(fault) => Arc::new(wire::Net::start(fault).await),
        }
    }

    fn name(self) -> String {
        match self {
            Self::Here(fault) => format!("{fault:?}"),
            Self::There(fault) => format!("Wire{fault:?}"),
        }
    }
}

/// Every server with a fault, what it does, and the cases that it must make red.
fn servers() -> Vec<(Server, &'static str, &'static [&'static str])> {
    let here = FAULTS.iter().map(|&(fault, does, names)| (Server::Here(fault), does, names));
    let there = NET_FAULTS.iter().map(|&(fault, does, names)| (Server::There(Some(fault)), does, names));
    here.chain(there).collect()
}

/// Runs these cases on such a server.
fn on(server: Server, cases: &[Case]) -> Result<Vec<(&'static str, Outcome)>, Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    // A broken promise is waited for in vain; a kept one takes no time here.
    let options = Options::default().patience(Duration::from_secs(3)).limit(Duration::from_secs(20));
    let report = runtime.block_on(async { run(server.start().await, cases, &options).await })?;
    runtime.shutdown_background();
    Ok(report.results.into_iter().map(|(case, outcome)| (case.name, outcome)).collect())
}

/// The case of this name must be red.
fn proves(server: Server, names: &'static [&'static str]) -> Result<(), Failed> {
    let named: Vec<Case> = cases::all().into_iter().filter(|case| names.contains(&case.name)).collect();
    if named.is_empty() || named.len() != names.len() {
        return Err(format!("names cases that are not there: {names:?}").into());
    }
    for (case, outcome) in on(server, &named)? {
        if !matches!(outcome, Outcome::Broken(_)) {
            return Err(format!("{case} did not notice: {outcome:?}").into());
        }
    }
    Ok(())
}

/// What the faults of such servers prove, one without a fault passes.
fn control(server: Server) -> Result<(), Failed> {
    let alike = |other: Server| matches!(other, Server::Here(_)) == matches!(server, Server::Here(_));
    let proven = |case: &Case| servers().iter().any(|(s, _, names)| alike(*s) && names.contains(&case.name));
    let named: Vec<Case> = cases::all().into_iter().filter(proven).collect();
    for (case, outcome) in on(server, &named)? {
        // What a store does not declare it cannot break; the fault is to declare it.
        let undeclared = case == "list/one-moment" && matches!(outcome, Outcome::Ignored(_));
        if outcome != Outcome::Kept && !undeclared {
            return Err(format!("{case} is red, or was not tried, without a fault: {outcome:?}").into());
        }
    }
    Ok(())
}

/// Every case is proven, or it is said why not.
fn complete() -> Result<(), Failed> {
    let mut wrong = Vec::new();
    for case in cases::all() {
        let proven = servers().iter().any(|(.., names)| names.contains(&case.name));
        let noted = unproven::NOTES.iter().any(|(names, _)| names.contains(&case.name));
        match (proven, noted) {
            (false, false) => wrong.push(format!("{} is neither proven nor noted", case.name)),
            (true, true) => wrong.push(format!("{} is proven, and noted as unproven", case.name)),
            _ => {}
        }
    }
    for name in unproven::NOTES.iter().flat_map(|(names, _)| *names) {
        if cases::all().iter().all(|case| case.name != *name) {
            wrong.push(format!("{name} is noted, and no case"));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n").into()) }
}

fn discover(arguments: &Arguments) {
    let wanted = |server: Server| arguments.filter.as_ref().is_none_or(|f| server.name().contains(f));
    for (server, ..) in servers().into_iter().filter(|(server, ..)| wanted(*server)) {
        match on(server, &cases::all()) {
            Ok(results) => {
                let red =
                    results.iter().filter(|(_, o)| matches!(o, Outcome::Broken(_))).map(|(name, _)| *name);
                println!("{}: {}", server.name(), red.collect::<Vec<_>>().join(" "));
            }
            Err(e) => println!("{}: {e:?}", server.name()),
        }
    }
}

fn main() {
    let mut arguments = Arguments::from_args();
    if std::env::var_os("KV_PROOF_DISCOVER").is_some() {
        return discover(&arguments);
    }
    arguments.test_threads.get_or_insert(8);
    let mut trials = vec![
        Trial::test("every case is proven or noted", complete),
        Trial::test("without a fault all is green", || control(Server::Here(Fault::None))),
        Trial::test("without a fault all is green over a network", || control(Server::There(None))),
    ];
    trials.extend(servers().into_iter().map(|(server, does, names)| {
        Trial::test(format!("{}: {does}", server.name()), move || proves(server, names))
    }));
    trials.extend(torture::trials().map(|(name, proves)| Trial::test(name, proves)));
    libtest_mimic::run(&arguments, trials).exit();
}
