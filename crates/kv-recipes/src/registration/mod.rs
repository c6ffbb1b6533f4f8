//! A key that is there as long as its owner is.

mod handle;
mod keeper;
mod line;
mod state;

pub use handle::Registered;
pub(crate) use line::read;
pub use state::RegistrationState;

use crate::{
    json,
    names::{in_recipe, new_id},
    needs,
    patience::DEFAULT_TTL,
};
use keeper::Keeper;
use kv_core::{Bytes, IntoKey, IntoValue, Key, Kv, Result};
use serde::Serialize;
use state::{Told, Wanted};
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// A key that is there as long as its owner is, with the owner's newest value: an instance of a
/// service, a member of a group, the status of a host.
///
/// The key lives under a lease of its own, and mends itself in the background: when the lease was
/// lost in an outage, or somebody deleted the key, it is put again with the newest value. It is
/// never put again after [`deregister`](Registered::deregister), because the lease under which
/// every put of it stands is revoked.
///
/// Who registers a key that another has registered takes it over: the process that was started
/// anew need not wait until the key of its predecessor has expired. The other sees it and gives up
/// for good, as [`Superseded`](RegistrationState::Superseded), so that two that were given the same
/// name by mistake do not take the key from each other again and again.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_recipes::{Registration, Service};
///
/// let kv = kv_memory::open("memory://").await?;
/// let me = Registration::new(&kv, "services/web/host-7").json(&"10.0.0.7:80").register().await?;
/// me.set_json(&"10.0.0.7:8080").await?;
///
/// let web: Service<String> = Service::open(&kv, "services/web").await?;
/// assert_eq!(web.instances()[0].value, "10.0.0.7:8080");
///
/// let mut changes = web.changes();
/// kv.delete("services/web/host-7").await?; // by mistake
/// while changes.next().await?.new.is_none() {} // it mends itself
/// assert_eq!(web.instances()[0].value, "10.0.0.7:8080");
///
/// assert!(me.deregister().await?);
/// assert!(!kv.exists("services/web/host-7").await?);
/// # Ok(()) }
/// ```
///
/// # When things fail
/// | when the owner is | then |
/// |---|---|
/// | paused beyond the TTL | the key goes; when the owner wakes, the key comes again with the newest value, unless another has registered it meanwhile |
/// | killed | the key is gone within the TTL and its [lateness](kv_core::Capabilities::lateness) |
/// | cut off from the server | it is [`Mending`](RegistrationState::Mending), and the key goes after the TTL; then as after a pause |
/// | there while the server restarts | nothing flaps if the lease outlives the restart; else as after a pause |
/// | told nothing, because an answer was lost | it reads the key again, and knows its own by the id in the record |
/// | no longer waiting ([`register`](Self::register) is dropped) | it is deregistered in the background |
///
/// On a store that may lose acknowledged writes ([`Durability::MayLose`](kv_core::Durability)) a
/// failover can take the key away; it mends itself as after a deletion.
///
/// # Layout, format 1
/// The key has one line of JSON, a line feed, and the value as it was given:
/// `{"v":1,"id":"9f86d081884c7d65","born":"4711","change":17}`. The id is the registration's own.
/// It is born with its first put, which has no `born`; each later one has the
/// [version](kv_core::Version) that the first gave the key. A registration gives up when the key
/// bears another id that was born later, since versions of one key only grow, also over the time in
/// which there is no key; it takes the key back from one that was born earlier. The change counts
/// the values of this registration. A program in another language takes part by writing such a
/// record under a lease; every put depends on the version that was read before it.
#[doc(alias = "ephemeral")]
#[doc(alias = "heartbeat")]
#[doc(alias = "discovery")]
#[derive(Clone, Debug)]
#[must_use = "nothing is registered until `register` is awaited"]
pub struct Registration {
    kv: Kv,
    key: Result<Key>,
    value: Result<Bytes>,
    ttl: Duration,
}

impl Registration {
    /// Makes the registration of this key, which has an empty value unless one is set. No I/O.
    pub fn new(kv: &Kv, key: impl IntoKey) -> Self {
        Self { kv: kv.clone(), key: key.into_key(), value: Ok(Bytes::new()), ttl: DEFAULT_TTL }
    }

    /// Sets the value that is registered.
    pub fn value(mut self, value: impl IntoValue) -> Self {
        self.value = Ok(value.into_value());
        self
    }

    /// Sets the value that is registered, as JSON: the form that a [`Service`](crate::Service)
    /// reads.
    pub fn json<T: Serialize + ?Sized>(mut self, value: &T) -> Self {
        self.value = json::write(value);
        self
    }

    /// Sets how long the key outlives its owner's last renewal: 15 s unless it is set. It is
    /// rounded as the TTL of a lease.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Puts the key, and keeps it there until the answer is dropped or
    /// [deregistered](Registered::deregister). It returns when the key is there. Outages are ridden
    /// out, before as after: to wait for a limited time, use `tokio::time::timeout`.
    ///
    /// # Errors
    /// Before any I/O [`InvalidKey`](kv_core::ErrorKind::InvalidKey),
    /// [`Unsupported`](kv_core::ErrorKind::Unsupported) where the store has no leases or no
    /// watches, [`InvalidArgument`](kv_core::ErrorKind::InvalidArgument) for the TTL and for a
    /// value that is no JSON, [`TooLarge`](kv_core::ErrorKind::TooLarge) for the value with its
    /// line. Then [`Corrupt`](kv_core::ErrorKind::Corrupt) for a key that holds something else
    /// than a registration, which is left alone, and the server's lasting refusals.
    ///
    /// # Cancel safety
    /// A future that is dropped deregisters in the background, and leaves nothing behind.
    pub async fn register(self) -> Result<Registered> {
        let Self { kv, key, value, ttl } = self;
        let key = key.map_err(|e| in_recipe(e, &kv, "register", None))?;
        let value = value.map_err(|e| in_recipe(e, &kv, "register", Some(&key)))?;
        let can = needs::watches(&kv).and_then(|()| needs::leases(&kv, ttl));
        can.map_err(|e| in_recipe(e, &kv, "register", Some(&key)))?;
        let id = new_id();
        let wanted = watch::Sender::new(Wanted { change: 1, value: value.clone() });
        let (told, heard) = watch::channel(Told::nothing());
        let (stop, stopped) = oneshot::channel();
        let keeper = Keeper::new(&kv, &key, &id, ttl, wanted.subscribe(), told);
        let registered = Registered::new(kv, key, id, wanted, heard, stop);
        registered.fits(&value)?;
        tokio::spawn(keeper.run(stopped));
        registered.until_written(1).await?;
        Ok(registered)
    }
}
