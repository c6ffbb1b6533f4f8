//! The harness of a backend, with layers over each store that it opens.

use super::{
    Tower,
    split::{LittleRoom, ReadsThroughReadOnly},
};
use crate::{Failure, Foreign, Full, Harness, Proxy, Server};
use kv_core::{Capabilities, Kv, Result, driver::async_trait};
use kv_layers::{Chaos, Coalesce, Encrypt, Keyring, Limit, Prefix, Tee};
use kv_memory::Memory;
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

/// The directory in which the tower of all has everything, by its own layer [`Prefix`].
const INSIDE: &str = "inside";

fn limit() -> Limit {
    Limit::new().reads(8).writes(8).watches(4096)
}

/// Has all reads, and of the writes those that do not come alone, be tasks.
fn little_limit() -> Limit {
    Limit::new().reads(1).writes(2).watches(4096)
}

fn encrypt() -> Encrypt {
    Encrypt::new(&Keyring::new(1, [7; 32]))
}

fn chaos() -> Chaos {
    Chaos::new(17).delays(0.2, Duration::from_millis(2))
}

/// Splits a prefix of the suite into that of its case, and the directory in it.
fn of_case(prefix: &str) -> (&str, &str) {
    match prefix.match_indices('/').nth(1) {
        Some((at, _)) => prefix.split_at(at + 1),
        None => (prefix, ""),
    }
}

/// A tower, and the store to which its [`Tee`] copies.
#[derive(Clone)]
struct Over {
    tower: Tower,
    copies: String,
}

impl Over {
    /// Returns the prefix with which the store under the tower is opened. Stores of different
    /// prefixes would seal one value under different names: those of a case have one below the
    /// layers, and directories or a layer [`Prefix`] above it.
    fn below<'a>(&self, prefix: &'a str) -> &'a str {
        match self.tower {
            Tower::Prefix => "",
            Tower::Encrypt | Tower::EncryptInLittleRoom | Tower::All => of_case(prefix).0,
            _ => prefix,
        }
    }

    async fn tee(&self, prefix: &str) -> Result<Tee> {
        let other = kv_memory::Config::new().name(&self.copies).prefix(self.below(prefix)).open().await?;
        Ok(Tee::to(other.store().clone()))
    }

    /// Puts the layers over a store that was opened for this prefix.
    async fn layers(&self, kv: Kv, prefix: &str) -> Result<Kv> {
        let inside = of_case(prefix).1;
        Ok(match self.tower {
            Tower::ReadOnly => kv.layer(ReadsThroughReadOnly),
            Tower::Prefix => kv.layer(Prefix::new(prefix)?),
            Tower::Limit => kv.layer(little_limit()),
            Tower::Encrypt => kv.layer(encrypt()).within(inside)?,
            Tower::EncryptInLittleRoom => kv.layer(LittleRoom).layer(encrypt()).within(inside)?,
            Tower::Chaos => kv.layer(chaos()),
            Tower::Coalesce => kv.layer(Coalesce),
            Tower::Tee => kv.layer(self.tee(prefix).await?),
            Tower::All => {
                let kv = kv.layer(chaos()).layer(self.tee(prefix).await?).layer(encrypt()).layer(Coalesce);
                let prefix = Prefix::new(format!("{INSIDE}/{inside}"))?;
                kv.layer(ReadsThroughReadOnly).layer(limit()).layer(prefix)
            }
        })
    }
}

/// The harness of a backend, with layers over each store that it opens.
pub(super) struct Layered<H> {
    below: H,
    over: Over,
    /// Keeps the store of the copies.
    _copies: Memory,
}

impl<H: Harness> Layered<H> {
    pub(super) async fn new(below: H, tower: Tower) -> Result<Self, Failure> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let copies = format!("towers-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let kept = kv_memory::Config::new().name(&copies).build().await?;
        Ok(Self { below, over: Over { tower, copies }, _copies: kept })
    }
}

#[async_trait]
impl<H: Harness> Harness for Layered<H> {
    fn name(&self) -> String {
        format!("{} under {}", self.below.name(), self.over.tower.name())
    }

    async fn open(&self, prefix: &str) -> Result<Kv> {
        let kv = self.below.open(self.over.below(prefix)).await?;
        self.over.layers(kv, prefix).await
    }

    async fn open_through(&self, proxy: &Proxy, prefix: &str) -> Option<Result<Kv>> {
        Some(match self.below.open_through(proxy, self.over.below(prefix)).await? {
            Ok(kv) => self.over.layers(kv, prefix).await,
            Err(e) => Err(e),
        })
    }

    fn address(&self) -> Option<SocketAddr> {
        self.below.address()
    }

    fn other_addresses(&self) -> Vec<SocketAddr> {
        self.below.other_addresses()
    }

    fn server(&self) -> Option<Arc<dyn Server>> {
        self.below.server()
    }

    fn foreign(&self) -> Option<Arc<dyn Foreign>> {
        // Other tools cannot seal.
        let sealed = matches!(self.over.tower, Tower::Encrypt | Tower::EncryptInLittleRoom | Tower::All);
        self.below.foreign().filter(|_| !sealed)
    }

    async fn beside(&self, prefix: &str) -> Vec<(&'static str, Result<Kv>)> {
        let mut all = Vec::new();
        for (what, opened) in self.below.beside(self.over.below(prefix)).await {
            let kv = match opened {
                Ok(kv) => self.over.layers(kv, prefix).await,
                Err(e) => Err(e),
            };
            all.push((what, kv));
        }
        all
    }

    async fn internals(&self, prefix: &str) -> Option<Vec<String>> {
        let below = self.over.below(prefix);
        // The root has those of other cases too.
        if below.is_empty() { None } else { self.below.internals(below).await }
    }

    async fn full(&self) -> Option<Arc<dyn Full>> {
        Some(Arc::new(Fillable(self.below.full().await?, self.over.clone())))
    }

    fn speaks_http(&self) -> bool {
        self.below.speaks_http()
    }

    fn excused(&self, case: &str, capabilities: &Capabilities) -> Option<String> {
        self.below.excused(case, capabilities)
    }

    fn is_documented(&self) -> bool {
        false
    }

    async fn leftovers(&self, prefix: &str) -> Vec<String> {
        self.below.leftovers(prefix).await
    }
}

struct Fillable(Arc<dyn Full>, Over);

#[async_trait]
impl Full for Fillable {
    async fn open(&self, prefix: &str) -> Result<Kv> {
        let kv = self.0.open(self.1.below(prefix)).await?;
        self.1.layers(kv, prefix).await
    }

    async fn fill(&self) {
        self.0.fill().await;
    }

    async fn relieve(&self) {
        self.0.relieve().await;
    }
}

#[cfg(test)]
mod tests {
    use super::of_case;

    #[test]
    fn the_prefix_of_a_case_is_told_from_the_directories_in_it() {
        assert_eq!(of_case("kv-suite-1/7/"), ("kv-suite-1/7/", ""));
        assert_eq!(of_case("kv-suite-1/7-1/in/"), ("kv-suite-1/7-1/", "in/"));
        assert_eq!(of_case("kv-suite-1/7"), ("kv-suite-1/7", ""));
    }
}
