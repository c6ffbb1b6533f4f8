//! Servers of which one promise is broken.

use crate::{
    broken::{Broken, State},
    fault::Fault,
    wire,
};
use kv_core::{
    Bytes, Error, Kv, Result, StoreUrl,
    backend::directory_prefix,
    driver::{Store, async_trait},
};
use kv_memory::Memory;
use kv_testsuite::{Foreign, Full, Harness};
use std::sync::Arc;

/// A server with a fault.
pub(crate) struct Faulty {
    server: Memory,
    /// Another server, which has all names as well.
    beside: Memory,
    fault: Fault,
    pub(crate) state: Arc<State>,
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
            Fault::KeysFillTransactions => capabilities.max_txn_bytes = capabilities.max_value,
            Fault::DeclaresOneMoment => capabilities.list_snapshot = true,
            _ => {}
        }
        let capabilities = Arc::new(capabilities);
        self.state.check_open(self.fault)?;
        let (server, fault, state) = (self.server.clone(), self.fault, self.state.clone());
        let (beside, home) = (self.beside.with_raw_prefix(prefix), Arc::default());
        let (prefix, closing) = (prefix.into(), Arc::default());
        Ok(Kv::new(Broken { inner, server, beside, closing, home, fault, state, prefix, capabilities }))
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
    pub(crate) fn new(fault: Fault) -> Self {
        Self { server: Memory::new(), beside: Memory::new(), fault, state: Arc::default() }
    }

    async fn open_this(&self, url: &str) -> Result<Kv> {
        let shown = |e: Error| match self.fault {
            Fault::ShowsBadUrls => Error::new(e.kind(), format!("cannot read {url}")),
            _ => e,
        };
        let url = StoreUrl::parse(url).map_err(shown)?;
        if self.fault != Fault::OpensAnyScheme {
            url.expect(&["broken"])?;
        }
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

/// A tool that looks at the server from outside.
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

/// A server of which one promise is broken, or one of the two kinds that keep all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    /// In this process.
    Here(Fault),
    /// Over a network that fails.
    There(Option<wire::Fault>),
}

impl Server {
    pub(crate) async fn start(self) -> Arc<dyn Harness> {
        match self {
            Self::Here(fault) => Arc::new(Faulty::new(fault)),
            Self::There(fault) => Arc::new(wire::Net::start(fault).await),
        }
    }

    pub(crate) fn name(self) -> String {
        match self {
            Self::Here(fault) => format!("{fault:?}"),
            Self::There(fault) => format!("Wire{fault:?}"),
        }
    }
}
