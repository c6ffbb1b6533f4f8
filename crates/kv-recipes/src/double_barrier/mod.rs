//! A barrier through which several go in together, and come out together.

mod seen;

use crate::{
    json::corrupt,
    names::{below, in_recipe, new_id},
    needs,
    own_key::OwnKey,
    patience::{DEFAULT_TTL, backoff, ends, until_lost},
    record::{self, Format},
};
use futures_core::future::BoxFuture;
use kv_core::{Error, ErrorKind, IntoKey, Key, Kv, Lease, Result, WatchEvent};
use seen::{Member, OPENED, Opened, Seen, member, opened};
use std::{fmt, future::Future, time::Duration};
use tokio::time::sleep;

/// The pause after which a round is looked at again that could be opened, and was not.
const LATE_WATCH: Duration = Duration::from_millis(100);

/// A double barrier: members go in together once so many are there, and go on together once all
/// have left. It can be used again and again; each time is a round.
///
/// A member is there by a key under a lease. One that dies, or is cut off for longer than its TTL,
/// counts as gone: before the round opens the others wait for another in its place, afterwards they
/// do not wait for it to leave.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_recipes::DoubleBarrier;
///
/// let kv = kv_memory::open("memory://").await?;
/// let step = DoubleBarrier::new(&kv, "job/step", 2);
/// let other = tokio::spawn({
///     let step = step.clone();
///     async move {
///         let inside = step.enter().await?;
///         inside.leave().await
///     }
/// });
/// let inside = step.enter().await?; // together with the other
/// assert!(!other.is_finished(), "it waits until all have left");
/// inside.leave().await?;
/// other.await.unwrap()
/// # }
/// ```
///
/// # When things fail
/// | when a member is | then |
/// |---|---|
/// | paused beyond the TTL | it counts as gone; inside, [`Inside::lost`] tells it when it wakes; outside, it comes again |
/// | killed | it is gone within the TTL and its [lateness](kv_core::Capabilities::lateness) |
/// | robbed of its key, which somebody deletes | it counts as gone; inside, [`Inside::lost`] tells it; outside, it comes again |
/// | cut off from the server | it waits; after the TTL as after a pause |
/// | there while the server restarts | the round goes on, for the members whose leases outlive the restart |
/// | told nothing, because an answer was lost | it puts its key until that stands, and reads which round is open, and with whom |
/// | no longer waiting (the future is dropped) | it is gone, in the background |
///
/// A round opens when so many were there, and those go in. One that dies in that moment is missed
/// by the others as one that leaves at once; one that comes in that moment waits for the next round.
///
/// # Layout, format 1
/// | name | has |
/// |---|---|
/// | the keys `NAME/members/ID` | the members, each under its lease, with the round that it is in, or waits for: `{"v":1,"round":3}` |
/// | the key `NAME/opened` | the last round that was opened, and the ids of those who went in: `{"v":1,"round":2,"members":["9f86d081884c7d65"]}`; none when it is missing |
///
/// A member waits for the round behind the one that is open when it comes. Any member opens the
/// next round, by a compare-and-swap, when it sees enough members of it and none of an earlier
/// one. A member that is not among those who went in comes anew. Of 10,000 members the record is
/// one that every store takes.
#[derive(Clone, Debug)]
#[must_use = "nothing happens until one enters"]
pub struct DoubleBarrier {
    kv: Kv,
    name: Result<Key>,
    members: usize,
    ttl: Duration,
}

impl DoubleBarrier {
    /// Makes the double barrier of this name, for so many members. No I/O.
    pub fn new(kv: &Kv, name: impl IntoKey, members: usize) -> Self {
        Self { kv: kv.clone(), name: name.into_key(), members, ttl: DEFAULT_TTL }
    }

    /// Sets how long a member that dies still counts as there: 15 s unless it is set. It is rounded
    /// as the TTL of a lease.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Waits until so many members are there, and goes in with them. Outages are ridden out.
    ///
    /// # Errors
    /// Before any I/O [`InvalidKey`](ErrorKind::InvalidKey),
    /// [`Unsupported`](ErrorKind::Unsupported) where there are no leases or no watches,
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for the TTL. Then
    /// [`Corrupt`](ErrorKind::Corrupt) where something else stands in the place of a record,
    /// [`Closed`](ErrorKind::Closed), and the server's lasting refusals.
    ///
    /// # Cancel safety
    /// Dropping the future leaves, and leaves nothing behind but the number of the round. One that
    /// is not polled counts as there until it is dropped: the others go in with it, and wait for it
    /// to leave.
    pub async fn enter(&self) -> Result<Inside> {
        let name = self.name.clone().map_err(|e| in_recipe(e, &self.kv, "enter", None))?;
        let can = needs::watches(&self.kv).and_then(|()| needs::leases(&self.kv, self.ttl));
        can.map_err(|e| in_recipe(e, &self.kv, "enter", Some(&name)))?;
        let mut backoff = backoff();
        loop {
            match self.enter_once(&name).await {
                // What was put under the lease goes with it; the member comes anew.
                Err(e) if !ends(&e) => backoff.pause().await,
                entered => return entered.map_err(|e| in_recipe(e, &self.kv, "enter", Some(&name))),
            }
        }
    }

    /// Waits under one lease.
    async fn enter_once(&self, name: &Key) -> Result<Inside> {
        let lease = self.kv.lease(self.ttl).await?;
        let lost: BoxFuture<'static, Error> = Box::pin(lease.lost());
        let id = new_id();
        let entered = until_lost(|| lease.is_held(), lost, self.wait(name, &id, &lease)).await;
        let round = entered.flatten()?;
        // The others count whoever has a key.
        let member = OwnKey::new(&self.kv, lease, member(name, &id)?, None);
        Ok(Inside { name: name.clone(), member, round })
    }

    /// Waits until the round of this member is open; returns the round.
    async fn wait(&self, name: &Key, id: &str, lease: &Lease) -> Result<u64> {
        let (barrier, last) = (name.as_directory(), below(name, OPENED)?);
        let mut watch = self.kv.watch_tree(&barrier).await?;
        let before = opened(self.kv.get(&last).await?.as_ref())?.round;
        let mine = before.checked_add(1).ok_or_else(|| corrupt(&last, "is the last round that can be"))?;
        let member = member(name, id)?;
        self.come(&member, mine, lease).await?;
        let gone = || {
            let why = "the key of this member was deleted while it waited";
            Err(Error::new(ErrorKind::Unavailable, why))
        };
        let (mut seen, mut is_known, mut is_late, mut was_there) = (Seen::default(), false, false, false);
        loop {
            let is_there = seen.members.contains_key(id);
            if is_known && seen.opened.round >= mine {
                if seen.opened.round == mine && seen.opened.members.iter().any(|member| member == id) {
                    return Ok(mine);
                }
                let why = "the round was opened before this member was there";
                return Err(Error::new(ErrorKind::Unavailable, why));
            }
            if is_known && was_there && !is_there {
                return gone();
            }
            was_there |= is_there;
            // One of them opens the round, the others if it does not.
            let could_open = is_known && seen.can_open(mine, self.members);
            if could_open && (is_late || seen.of_round(mine).next().is_some_and(|first| first == id)) {
                match self.open(name, mine).await {
                    Err(e) if ends(&e) => return Err(e),
                    _ => {} // the watch tells whether it is open
                }
            }
            let event = tokio::select! {
                biased;
                event = watch.event() => event?,
                () = sleep(LATE_WATCH), if could_open || !is_there => {
                    // A watch may leave out a key that is deleted as soon as it was put.
                    match self.kv.get(&member).await {
                        Ok(None) => return gone(),
                        Err(e) if ends(&e) => return Err(e),
                        _ => is_late = could_open,
                    }
                    continue;
                }
            };
            is_known |= event == WatchEvent::Synced;
            seen.fold(&barrier, &event)?;
        }
    }

    /// Puts the key of a member. The name is new, so that whatever is there is this member's.
    async fn come(&self, member: &Key, round: u64, lease: &Lease) -> Result<()> {
        let (record, mut backoff) = (record::write(&Member { v: Format, round }, b"")?, backoff());
        loop {
            match self.kv.put(member, &record).if_missing().lease(lease).await {
                Err(e) if e.kind() == ErrorKind::KeyExists => return Ok(()),
                Err(e) if !ends(&e) && e.kind() != ErrorKind::LeaseLost => backoff.pause().await,
                answer => return answer.map(drop),
            }
        }
    }

    /// Opens the round, if what the store shows now allows it. Whether it was opened, by this
    /// member or another, is told by the watch.
    async fn open(&self, name: &Key, round: u64) -> Result<()> {
        let (barrier, mut now) = (name.as_directory(), Seen::default());
        for entry in self.kv.list(&barrier).await? {
            now.set(&barrier, &entry.key, Some(&entry))?;
        }
        if !now.can_open(round, self.members) {
            return Ok(());
        }
        let members = now.of_round(round).cloned().collect();
        let record = record::write(&Opened { v: Format, round, members }, b"")?;
        let put = self.kv.put(below(name, OPENED)?, record);
        let put = match now.version {
            Some(version) => put.if_version(version),
            None => put.if_missing(),
        };
        match put.await {
            Err(e) if !e.is_conflict() && e.kind() != ErrorKind::OutcomeUnknown => Err(e),
            _ => Ok(()),
        }
    }
}

/// A member that went in. Dropping it leaves in the background, without waiting for the others.
#[must_use = "dropping it leaves"]
pub struct Inside {
    name: Key,
    member: OwnKey,
    round: u64,
}

impl Inside {
    /// Returns the number of the round, which counts from 1.
    pub fn round(&self) -> u64 {
        self.round
    }

    /// Tells whether the others count this member as there, by this side's clock and by the rule of
    /// [`Lease::is_held`]. No I/O. That somebody has deleted the member's key is known here only
    /// once a [`lost`](Self::lost), which watches the key, has seen it.
    pub fn is_held(&self) -> bool {
        self.member.is_held()
    }

    /// Waits until this member counts as gone, and returns the reason, a
    /// [`LeaseLost`](ErrorKind::LeaseLost) or [`Closed`](ErrorKind::Closed): its time is over, as
    /// [`Lease::lost`] says, or somebody has deleted its key, which is watched for this while it is
    /// waited for. The future borrows nothing.
    ///
    /// # Cancel safety
    /// A future that is dropped leaves no watch behind.
    pub fn lost(&self) -> impl Future<Output = Error> + Send + 'static {
        self.member.lost()
    }

    /// Leaves, and waits until all who went in have left or are gone. Outages are ridden out.
    ///
    /// # Errors
    /// [`Corrupt`](ErrorKind::Corrupt) where something else stands in the place of a record;
    /// [`Closed`](ErrorKind::Closed), and the server's lasting refusals. This member has left in
    /// any case, by its TTL at the latest.
    ///
    /// # Cancel safety
    /// This member has left, or leaves in the background, when the future is dropped.
    pub async fn leave(self) -> Result<()> {
        let Self { name, member, round } = self;
        let kv = member.kv().clone();
        // What could not be revoked ends by its TTL, and is waited for as any other.
        match member.give_back().await {
            Err(e) if ends(&e) => return Err(e),
            _ => {}
        }
        let barrier = name.as_directory();
        let mut watch = kv.watch_tree(&barrier).await?;
        let (mut seen, mut is_known) = (Seen::default(), false);
        loop {
            if is_known && !seen.has_members_up_to(round) {
                return Ok(());
            }
            let event = watch.event().await?;
            is_known |= event == WatchEvent::Synced;
            seen.fold(&barrier, &event).map_err(|e| in_recipe(e, &kv, "leave", Some(&name)))?;
        }
    }
}

impl fmt::Debug for Inside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, round, .. } = self;
        f.debug_struct("Inside").field("name", name).field("round", round).finish_non_exhaustive()
    }
}
