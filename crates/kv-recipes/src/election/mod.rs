//! One of several candidates leads.

mod observe;
mod precedence;
mod ranked;
mod seat;
mod term;

pub use observe::{Leader, Leaders, Leadership};
pub use term::Term;

use crate::patience::{DEFAULT_TTL, backoff, until_lost};
use kv_core::{Bytes, Error, ErrorKind, IntoKey, IntoValue, Key, Kv, Result, backend::apart};
use seat::Seat;
use std::{future::Future, sync::Arc, time::Duration};

/// An election: of all candidates for one name, one leads at a time, for a [`Term`].
///
/// A term is a held lock of the election's name. Its number is the fencing token, which grows with
/// every term. A write that must not happen once another leads is
/// [`fenced`](kv_core::Put::fenced) by the term: the store itself refuses it then. That, and not
/// the belief of a process that it leads, is what makes a leader safe.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_core::{ErrorKind, Result};
/// use kv_memory::Faults;
/// use kv_recipes::{Election, Leadership};
///
/// let kv = kv_memory::open("memory://").await?;
/// let election = Election::new(&kv, "app/leader").candidate("host-7").value("10.0.0.7:80");
/// let mut leaders = election.observe().await?;
/// assert_eq!(leaders.next().await?, Leadership::Vacant);
///
/// // The work runs while this candidate leads, and is dropped when it does not.
/// let plan = kv.clone();
/// let led = election.lead(|term| {
///     let plan = plan.clone();
///     async move {
///         plan.put("app/plan", format!("of term {}", term.number())).fenced(&term).await?;
///         term.proclaim("10.0.0.7:8080").await?;
///         Result::Ok(term.number())
///     }
/// });
/// let first = led.await?;
/// assert_eq!(kv.get("app/plan").await?.unwrap().text(), Some(&*format!("of term {first}")));
///
/// // Who leads can be seen from the present leader on, with what it proclaims.
/// let term = election.campaign().await?;
/// let leader = loop {
///     match leaders.next().await? {
///         Leadership::Leader(leader) if leader.term == term.number() => break leader,
///         _ => {} // the term before, and its end
///     }
/// };
/// assert_eq!((&*leader.candidate, &*leader.value), ("host-7", &b"10.0.0.7:80"[..]));
///
/// // Once another leads, the store refuses what the old leader writes.
/// Faults::of(&kv).unwrap().evict_lock("app/leader")?; // or a pause beyond the TTL
/// let second = Election::new(&kv, "app/leader").campaign().await?;
/// let late = kv.put("app/plan", "old").fenced(&term).await.unwrap_err();
/// assert_eq!(late.kind(), ErrorKind::LockLost);
/// assert!(second.number() > term.number());
/// # Ok(()) }
/// ```
///
/// # When things fail
/// | when the leader is | then |
/// |---|---|
/// | paused beyond the TTL | another leads; when the old one wakes, the work of [`lead`](Self::lead) is not polled once more but dropped, and what it wrote under the term is refused if it comes late |
/// | killed | the term ends within the TTL and its [lateness](kv_core::Capabilities::lateness), and the next candidate in line leads |
/// | cut off from the server | it knows the loss by its own clock, a tenth of the TTL before the server may let another lead; [`lead`](Self::lead) drops the work then, and campaigns again |
/// | there while the server restarts | the same term goes on, if the lock outlives the restart; else as when it is cut off |
/// | told nothing, because an answer was lost | a candidate finds its place in line again, or takes a new one, never two; what a leader says is written once, and never after what it says later |
/// | no longer waited for (the future is dropped) | a candidate leaves the line, a leader resigns, both in the background, and nothing is left |
///
/// Observers never see two leaders of one term, and see [`Vacant`](Leadership::Vacant) between
/// terms. An observer that is cut off hears nothing, and goes on afterwards.
///
/// On a store that may lose acknowledged writes ([`Durability::MayLose`](kv_core::Durability)) two
/// can believe for a while that they lead, after a failover: the older one's fenced writes are
/// refused.
///
/// # Layout, format 1
/// | name | has |
/// |---|---|
/// | the lock `NAME` | the term, whose number is the token; its value is a line of JSON, for operators: `{"v":1,"id":"9f86d081884c7d65","candidate":"host-7"}` |
/// | the key `NAME/leader` | what the leader says: a line of JSON, a line feed, and the value: `{"v":1,"term":42,"change":0,"id":"9f86d081884c7d65","candidate":"host-7"}`. The holder of the lock writes it, fenced by its term, and leads once it stands; change 0 takes office, and each proclamation counts it up |
/// | keys below `NAME/candidates` | who waits, and with which [priority](Self::priority) |
/// | the key `NAME/nominee` | whom the leader [nominates](Term::nominate) |
///
/// Who leads is what `NAME/leader` says, if its term is the token of the lock's holder; otherwise
/// nobody. A program in another language takes part if it keeps to that.
#[doc(alias = "leader")]
#[doc(alias = "leader_election")]
#[doc(alias = "singleton")]
#[doc(alias = "primary")]
#[derive(Clone, Debug)]
#[must_use = "an election does nothing until one campaigns, leads or observes"]
pub struct Election {
    kv: Kv,
    name: Result<Key>,
    candidate: String,
    value: Bytes,
    ttl: Duration,
    priority: Option<i32>,
}

impl Election {
    /// Makes the election of this name. No I/O.
    pub fn new(kv: &Kv, name: impl IntoKey) -> Self {
        let (candidate, value) = (String::new(), Bytes::new());
        let name = name.into_key();
        Self { kv: kv.clone(), name, candidate, value, ttl: DEFAULT_TTL, priority: None }
    }

    /// Sets the name of the candidate, which others read of the leader. Without it the candidate is
    /// called by the id that each campaign has.
    pub fn candidate(mut self, name: impl Into<String>) -> Self {
        self.candidate = name.into();
        self
    }

    /// Sets the value that the leader says when it takes office, such as its address; see
    /// [`Term::proclaim`]. It is empty unless it is set.
    pub fn value(mut self, value: impl IntoValue) -> Self {
        self.value = value.into_value();
        self
    }

    /// Sets how long a term outlives its leader's last renewal: 15 s unless it is set. It is
    /// rounded as the TTL of a lock.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Gives the candidate a priority, and has it take part in precedence: while it waits it
    /// registers as a candidate, under a lease; it steps aside for living candidates with a greater
    /// priority, and for the one whom the leader [nominates](Term::nominate). Among equals the one
    /// that asked first leads.
    ///
    /// Give it to all candidates of an election, or to none: one without a priority waits in the
    /// lock's line and steps aside for nobody. A priority costs a lease and a watch for each
    /// candidate that waits, and changes nothing about who may lead: that is the lock's alone. A
    /// leader is not ended by it; [`Term::outranked`] tells the leader, which may resign.
    ///
    /// # Example
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// use kv_recipes::Election;
    ///
    /// let kv = kv_memory::open("memory://").await?;
    /// let election = Election::new(&kv, "app/leader");
    /// let term = election.clone().candidate("first").priority(1).campaign().await?;
    ///
    /// let spare = election.clone().candidate("spare").priority(1);
    /// let best = election.candidate("best").priority(9);
    /// let waits = [spare, best].map(|election| tokio::spawn(async move { election.campaign().await }));
    /// assert_eq!(term.outranked().await?, "best");
    /// term.resign().await?;
    ///
    /// let [spare, best] = waits;
    /// let term = best.await.unwrap()?; // though the other asked first
    /// assert_eq!(term.candidate(), "best");
    /// assert!(!spare.is_finished());
    /// # spare.abort();
    /// # Ok(()) }
    /// ```
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = Some(priority);
        self
    }

    /// Waits in line until this candidate leads. Outages are ridden out, as by a wait for a lock,
    /// and a term that is lost before its leader has taken office is never given.
    ///
    /// # Errors
    /// Before any I/O [`InvalidKey`](ErrorKind::InvalidKey),
    /// [`Unsupported`](ErrorKind::Unsupported) where writes cannot depend on a lock,
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for the TTL. Then
    /// [`TooLarge`](ErrorKind::TooLarge) for the value, [`Corrupt`](ErrorKind::Corrupt) where
    /// something else stands in the place of what the leader says, [`Closed`](ErrorKind::Closed),
    /// and the server's lasting refusals; with a [priority](Self::priority) also
    /// [`KeyModified`](ErrorKind::KeyModified), when somebody writes over the candidate's
    /// registration.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the line, and leaves nothing behind. One that is not polled keeps
    /// its place, and leads when its turn comes, until it is dropped.
    pub async fn campaign(&self) -> Result<Term> {
        let (seat, is_ranked) = (Arc::new(self.seat()?), self.priority.is_some());
        // Others step aside for it, or wait behind it, polled or not.
        let campaigns = apart(async move {
            let term = match is_ranked {
                true => Box::pin(ranked::campaign(&seat)).await,
                false => Box::pin(campaign(&seat)).await,
            };
            term.map_err(|e| seat.in_call(e))
        });
        campaigns.await
    }

    /// Leads, again and again: runs the work whenever this candidate leads, until the work has
    /// ended once. When the term is lost, the work is dropped where it stands, before another can
    /// lead, and the candidate campaigns again. When the work ends, the leader resigns.
    ///
    /// The work is made anew for each term, by the function, which gets the term. Work that it
    /// spawns as a task of its own is not dropped with it; [`Term::lost`] tells such work. Work
    /// that resigns by [`Term::resign`], in place of ending, is dropped as at a loss.
    ///
    /// # Errors
    /// The error of the work, if the term still was this candidate's: one that comes when the term
    /// is over, by this side's clock or by the store's word, belongs to the loss, and the work runs
    /// again in the next term. Those of [`campaign`](Self::campaign), and
    /// [`Closed`](ErrorKind::Closed).
    ///
    /// # Cancel safety
    /// Dropping the future drops the work, and resigns in the background.
    pub async fn lead<T, E, W, F>(&self, mut work: W) -> Result<T, E>
    where
        W: FnMut(Term) -> F,
        F: Future<Output = Result<T, E>>,
        E: From<Error>,
    {
        loop {
            let led = Led(self.campaign().await?);
            let term = &led.0;
            let ended = until_lost(|| term.is_held(), term.lost(), work(term.another())).await;
            if matches!(ended, Ok(Err(_))) && term.is_over().await {
                continue;
            }
            match ended {
                Ok(ended) => {
                    if let Some(guard) = term.end() {
                        drop(guard.release().await);
                    }
                    return ended;
                }
                Err(lost) if lost.kind() == ErrorKind::Closed => return Err(lost.into()),
                Err(_) => {}
            }
        }
    }

    /// Watches who leads, beginning with the present leader.
    ///
    /// # Errors
    /// Before any I/O [`InvalidKey`](ErrorKind::InvalidKey), and
    /// [`Unsupported`](ErrorKind::Unsupported) where the store has no watches, or writes cannot
    /// depend on a lock. Later ones come from [`Leaders::next`].
    ///
    /// # Cancel safety
    /// A future that is dropped leaves no watch behind.
    #[doc(alias = "watch")]
    pub async fn observe(&self) -> Result<Leaders> {
        let seat = self.seat()?;
        Leaders::begin(&seat).await.map_err(|e| seat.in_call(e))
    }

    /// Reads who leads; `None` when nobody does, or has not taken office yet.
    ///
    /// # Errors
    /// Those of [`Kv::lock_holder`] and [`Kv::get`]; [`Corrupt`](ErrorKind::Corrupt) for a record
    /// that cannot be read.
    ///
    /// # Cancel safety
    /// A future that is dropped leaves nothing behind.
    pub async fn leader(&self) -> Result<Option<Leader>> {
        let seat = self.seat()?;
        observe::leader(&seat).await.map_err(|e| seat.in_call(e))
    }

    fn seat(&self) -> Result<Seat> {
        let Self { kv, name, candidate, value, ttl, priority } = self;
        Seat::new(kv, name.clone(), candidate, value, *ttl, priority.unwrap_or_default())
    }
}

/// A term that is over when this is dropped, whatever handles on it are left.
struct Led(Term);

impl Drop for Led {
    fn drop(&mut self) {
        drop(self.0.end()); // the lock is given back in the background
    }
}

/// Waits in the lock's line, and takes office.
async fn campaign(seat: &Arc<Seat>) -> Result<Term> {
    let mut backoff = backoff();
    loop {
        let guard = seat.lock().acquire().await?;
        if let Some(term) = Term::begin(seat, guard).await? {
            return Ok(term);
        }
        backoff.pause().await;
    }
}
