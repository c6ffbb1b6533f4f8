//! Shards of work among members.

mod member;
mod plan;
mod planner;

use crate::{
    Registration,
    names::{below, in_recipe, new_id},
    needs,
    patience::DEFAULT_TTL,
};
use kv_core::{Error, ErrorKind, Fence, IntoKey, Key, Kv, Result};
use member::Member;
use plan::MOST;
use std::{convert::Infallible, future::Future, sync::Arc, time::Duration};

/// Shards of work among members: each shard has one owner at most, which is fenced, and all shards
/// have one as long as somebody lives.
///
/// Every process runs the same [`run`](Self::run). One of them, under a lock, plans who owns what:
/// by weights, evenly, and so that as little as possible moves. What counts is another lock for
/// each shard: the work of a shard runs under it, so that a new owner begins when the old one has
/// let go or lost it, whatever anybody believes of the plan.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_recipes::{Shard, Shards};
/// use std::collections::BTreeMap;
/// use tokio::sync::mpsc;
///
/// let kv = kv_memory::open("memory://").await?;
/// let (told, mut owned) = mpsc::unbounded_channel();
/// let members = ["host-1", "host-2"].map(|name| {
///     let shards = Shards::new(&kv, "indexer", 8).member(name);
///     let (kv, told) = (kv.clone(), told.clone());
///     tokio::spawn(async move {
///         let work = move |shard: Shard| {
///             let owner = kv.put(format!("owner/{}", shard.id()), name).fenced(&shard);
///             let told = told.clone();
///             async move {
///                 owner.await.expect("no other owns it");
///                 told.send((shard.id(), name)).expect("it is waited for");
///                 std::future::pending().await // goes on until the shard moves
///             }
///         };
///         shards.run(work).await
///     })
/// });
/// let mut owners: BTreeMap<usize, &str> = BTreeMap::new();
/// while owners.len() < 8 || owners.values().filter(|owner| **owner == "host-1").count() != 4 {
///     let (shard, owner) = owned.recv().await.unwrap();
///     owners.insert(shard, owner);
/// }
///
/// members[0].abort(); // it dies, and the other takes over what it had
/// while owners.values().any(|owner| *owner == "host-1") {
///     let (shard, owner) = owned.recv().await.unwrap();
///     owners.insert(shard, owner);
/// }
/// # Ok(()) }
/// ```
///
/// # When things fail
/// | when a member is | then |
/// |---|---|
/// | paused beyond the TTL | its shards are others'; when it wakes, their work is not polled once more but dropped, and what it wrote under them is refused if it comes late |
/// | killed | its shards are others' within the TTL and its [lateness](kv_core::Capabilities::lateness), and those of the others stay where they are |
/// | cut off from the server | it drops the work of its shards by its own clock, a tenth of the TTL before others can own them |
/// | there while the server restarts | owners stay, as far as locks and leases outlive the restart; else as when it is cut off |
/// | told nothing, because an answer was lost | the plan is read again; nothing is planned twice |
/// | there when somebody deletes the plan, or writes another | it is planned anew, by whoever plans |
/// | no longer waiting (the future is dropped) | the work of its shards is dropped, and they are handed over |
///
/// When one of M members of equal weight dies, its shards move, N/M of them rounded up at most, and
/// no others. On a store that may lose acknowledged writes
/// ([`Durability::MayLose`](kv_core::Durability)) a failover can give a shard to two for a while:
/// the older one's fenced writes are refused.
///
/// # Layout, format 1
/// | name | has |
/// |---|---|
/// | the locks `NAME/shards/0` to `NAME/shards/255` | who owns each shard: what counts; the value is the member's name |
/// | the keys `NAME/members/ID` | the members, as a [`Registration`] writes them, with JSON as value: `{"name":"host-7","weight":1}` |
/// | the lock `NAME` | who plans |
/// | the key `NAME/plan` | a line of JSON: `{"v":1,"owners":["9f86d081884c7d65",null]}`, the id of the member that is to own each shard; written by the holder of the lock, fenced by it |
#[doc(alias = "partition")]
#[doc(alias = "assignment")]
#[doc(alias = "rebalance")]
#[derive(Clone, Debug)]
#[must_use = "nothing happens until `run` is awaited"]
pub struct Shards {
    kv: Kv,
    name: Result<Key>,
    shards: usize,
    member: String,
    weight: u32,
    ttl: Duration,
}

/// One shard that is owned, for the work that it runs.
#[derive(Clone, Debug)]
pub struct Shard {
    id: usize,
    fence: Fence,
}

impl Shard {
    /// Returns the number of the shard, which counts from 0.
    pub fn id(&self) -> usize {
        self.id
    }

    /// Returns the fencing token of this ownership, which grows with every owner of the shard. Hand
    /// it to resources outside the store, which refuse a token smaller than one they have seen.
    pub fn token(&self) -> u64 {
        self.fence.token()
    }

    /// Returns the proof of owning the shard, for writes that are
    /// [`fenced`](kv_core::Put::fenced) by it.
    pub fn fence(&self) -> &Fence {
        &self.fence
    }
}

impl AsRef<Fence> for Shard {
    fn as_ref(&self) -> &Fence {
        &self.fence
    }
}

impl Shards {
    /// Makes so many shards of this name, up to 8,192; all members ask for as many. No I/O.
    pub fn new(kv: &Kv, name: impl IntoKey, shards: usize) -> Self {
        let (member, weight, ttl) = (String::new(), 1, DEFAULT_TTL);
        Self { kv: kv.clone(), name: name.into_key(), shards, member, weight, ttl }
    }

    /// Sets the name of this member, which others read of the owner of a shard.
    pub fn member(mut self, name: impl Into<String>) -> Self {
        self.member = name.into();
        self
    }

    /// Sets the weight of this member: one with twice the weight owns twice as many shards. It is 1
    /// unless it is set; a member of weight 0 owns none, and may plan.
    pub fn weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    /// Sets how long the shards of a member outlive its last renewal: 15 s unless it is set. It is
    /// rounded as the TTLs of locks and leases.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Takes part: runs the work of each shard that falls to this member, in a task of its own, as
    /// long as it owns the shard. When the shard moves, or is lost, its work is dropped where it
    /// stands. Work that ends by itself is not run again while the shard stays. Outages are ridden
    /// out.
    ///
    /// It returns only what ends it: [`InvalidKey`](ErrorKind::InvalidKey),
    /// [`Unsupported`](ErrorKind::Unsupported) where there are no leases, no watches, or no writes
    /// that depend on a lock, [`InvalidArgument`](ErrorKind::InvalidArgument) for the TTL and for
    /// the number of shards, before any I/O; `InvalidArgument` when the plan is one of another
    /// number of shards, [`Corrupt`](ErrorKind::Corrupt) for a plan that cannot be read,
    /// [`KeyModified`](ErrorKind::KeyModified) when somebody writes over the member's registration,
    /// [`Closed`](ErrorKind::Closed), and the server's lasting refusals.
    ///
    /// # Panics
    /// Panics when the work of a shard has panicked.
    ///
    /// # Cancel safety
    /// Dropping the future drops the work of all shards, and hands them over. One that is not polled
    /// keeps its place, and the shards that it was granted, until it is dropped.
    pub async fn run<W, F>(&self, work: W) -> Error
    where
        W: Fn(Shard) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let Err(e) = Box::pin(self.go(Arc::new(work))).await;
        in_recipe(e, &self.kv, "shards", self.name.as_ref().ok())
    }

    async fn go<W, F>(&self, work: Arc<W>) -> Result<Infallible>
    where
        W: Fn(Shard) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let (name, kv) = (self.name.clone()?, &self.kv);
        needs::watches(kv).and_then(|()| needs::leases(kv, self.ttl))?;
        needs::fences(kv, self.ttl)?;
        if !(1..=MOST).contains(&self.shards) {
            let why = format!("{} shards; take 1 to {MOST}", self.shards);
            return Err(Error::new(ErrorKind::InvalidArgument, why));
        }
        let id = new_id();
        let is = plan::Is { name: self.member.clone(), weight: self.weight };
        let key = below(&name, &format!("members/{id}"))?;
        let registered = Registration::new(kv, key).ttl(self.ttl).json(&is).register().await?;
        let member = Member::new(kv, name, id, is, (self.shards, self.ttl));
        tokio::select! {
            biased;
            why = registered.over() => Err(why),
            ended = member.follow(work) => ended,
            ended = planner::plan(&member) => ended,
        }
    }
}
