//! The number of requests that calls send, counted at the server or on the way to it.

use crate::Failure;
use kv_core::{ErrorKind, Kv};
use std::{fmt, ops::RangeInclusive, time::Duration};

/// The TTL of locks: longer than the count takes, so that no renewal comes between. A lock that a
/// backend holds meanwhile, for what the first lock of a store takes, has it too.
pub const LONG: Duration = Duration::from_secs(600);
/// The TTL of keys.
const TTL: Duration = Duration::from_secs(60);

/// Counts what calls send, and compares it with what they may send.
pub struct Costs<'a, F> {
    asked: F,
    others: &'a [(&'a str, RangeInclusive<usize>)],
}

impl<F> fmt::Debug for Costs<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Costs").field("others", &self.others).finish_non_exhaustive()
    }
}

impl<'a, F: AsyncFn() -> Result<Vec<String>, Failure>> Costs<'a, F> {
    /// Makes the counter out of `asked`, which returns the requests since it was called last, with
    /// what is known of each. A call takes one request, or as many as `others` says of its name.
    pub fn new(asked: F, others: &'a [(&'a str, RangeInclusive<usize>)]) -> Self {
        Self { asked, others }
    }

    /// Makes a call, and checks what it sends.
    ///
    /// # Errors
    /// The call or the counting failed; or the call sent another number of requests.
    pub async fn of<T, E: Into<Failure>>(
        &self,
        name: &str,
        call: impl IntoFuture<Output = Result<T, E>>,
    ) -> Result<T, Failure> {
        (self.asked)().await?;
        let answer = call.await.map_err(Into::into)?;
        let found = (self.asked)().await?;
        let other = self.others.iter().find(|(other, _)| *other == name);
        let allowed = other.map_or(1..=1, |(_, count)| count.clone());
        if allowed.contains(&found.len()) {
            Ok(answer)
        } else {
            Err(format!("{name}: {} requests, not {allowed:?}: {found:?}", found.len()).into())
        }
    }

    /// Makes each kind of call once, and checks what it sends. The directory that is listed and
    /// deleted has so many keys, and the deletion answers `deleted`.
    ///
    /// # Errors
    /// A call failed, or sent another number of requests.
    ///
    /// # Panics
    /// A call gave a wrong answer.
    pub async fn of_each_call(&self, kv: &Kv, keys: usize, deleted: Option<u64>) -> Result<(), Failure> {
        let new = self.of("put of a new key", kv.put("k", "v")).await?;
        let seen = self.of("put", kv.put("k", "v")).await?.version;
        assert_ne!(new.version, seen);
        assert!(self.of("get", kv.get("k")).await?.is_some());
        self.of("stale get", kv.get("k").stale()).await?;
        assert!(self.of("exists", kv.exists("k")).await?);
        assert!(!self.of("exists", kv.exists("missing")).await?);
        assert_eq!(self.of("get_many", kv.get_many(["k", "l", "m"])).await?.len(), 3);
        let swapped = self.of("atomic_put", kv.atomic_put("k", "w", seen)).await?.version;
        let refused = async { Ok::<_, Failure>(kv.atomic_put("k", "x", seen).await.map(drop)) };
        let refused = self.of("atomic_put", refused).await?.map_err(|e| e.kind());
        assert_eq!(refused, Err(ErrorKind::KeyModified));
        self.of("atomic_delete", kv.atomic_delete("k", swapped)).await?;
        self.of("atomic_put", kv.atomic_put("k", "v", None)).await?;
        let steps = kv.transact().when_exists("k").then(kv.put("l", "")).then(kv.delete("k"));
        assert!(self.of("transact", steps).await?.is_committed());
        assert!(self.of("delete", kv.delete("l")).await?);
        assert!(!self.of("delete", kv.delete("l")).await?);
        self.of("put with a TTL", kv.put("t", "v").ttl(TTL)).await?;
        self.of("put with the same TTL", kv.put("u", "v").ttl(TTL)).await?;

        for n in 0..keys {
            kv.put(format!("d/{n}"), "v").await?;
        }
        assert_eq!(self.of("list", kv.list("d")).await?.len(), keys);
        assert_eq!(self.of("list of some", kv.list("d").limit(10)).await?.len(), 10);
        assert_eq!(self.of("delete_tree", kv.delete_tree("d")).await?, deleted);

        let lock = |name| kv.new_lock(name).ttl(LONG);
        let first = self.of("acquire", lock("first").acquire()).await?;
        assert!(self.of("release", first.release()).await?);
        let guard = self.of("acquire", lock("l").acquire()).await?;
        assert!(self.of("try_acquire", lock("l").try_acquire()).await?.is_none());
        self.of("fenced put", kv.put("k", "v").fenced(&guard)).await?;
        assert!(!self.of("locks", kv.locks("")).await?.is_empty());
        self.of("set_value", guard.set_value("v")).await?;
        assert!(self.of("lock_holder", kv.lock_holder("l")).await?.is_some());
        assert!(self.of("release", guard.release()).await?);
        let broken = self.of("acquire", lock("l").acquire()).await?;
        assert!(self.of("break_lock", kv.break_lock("l").token(broken.token())).await?);
        assert!(!broken.release().await?);
        Ok(())
    }
}
