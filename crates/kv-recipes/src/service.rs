//! The instances of a service.

use crate::{Changes, View, json, registration};
use kv_core::{Entry, Error, IntoKey, Key, Kv, Result};
use serde::de::DeserializeOwned;
use std::{
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// The living instances of a service: a [`View`] of what was [registered](crate::Registration)
/// below a directory, as JSON. Reading it is no I/O. Clones are one.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_recipes::{Registration, Service};
///
/// let kv = kv_memory::open("memory://").await?;
/// let one = Registration::new(&kv, "services/web/1").json(&"10.0.0.1:80").register().await?;
/// let _two = Registration::new(&kv, "services/web/2").json(&"10.0.0.2:80").register().await?;
/// let _bad = Registration::new(&kv, "services/web/3").json(&["no address"]).register().await?;
///
/// let web: Service<String> = Service::open(&kv, "services/web").await?;
/// assert_eq!(web.instances().len(), 2);
/// assert_eq!(web.unreadable()[0].0.as_str(), "services/web/3"); // it harms no other
///
/// let (a, b) = (web.pick().unwrap(), web.pick().unwrap());
/// assert_ne!(a.value, b.value, "in turn");
///
/// one.deregister().await?;
/// web.synced_now().await?;
/// assert_eq!(web.pick().unwrap().value, "10.0.0.2:80");
/// # Ok(()) }
/// ```
///
/// # When things fail
/// | what fails | then |
/// |---|---|
/// | an instance is paused beyond its TTL, killed, or cut off | it is gone from the set within the TTL and its [lateness](kv_core::Capabilities::lateness); when it comes back, it mends itself |
/// | this process is paused, or cut off from the server | the set stays as it was, and is never empty because of that; its [`age`](Self::age) grows |
/// | the server restarts | as when this process is cut off; no instance flaps whose lease outlives the restart |
/// | one record cannot be read | it is among the [`unreadable`](Self::unreadable), and the others are not affected |
/// | an answer is lost | the watch reads again |
/// | the last clone is dropped | all its work ends, on the server too |
///
/// # Layout, format 1
/// That of a [`Registration`](crate::Registration), whose value is JSON.
#[doc(alias = "discovery")]
#[doc(alias = "registry")]
pub struct Service<T> {
    view: View<Instance<T>>,
    turn: Arc<AtomicUsize>,
}

/// One instance of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Instance<T> {
    /// The key under which it is registered.
    pub key: Key,
    /// The id of the registration, another one after each start of the process.
    pub id: String,
    /// The value that the instance has registered.
    pub value: T,
}

fn instance<T: DeserializeOwned>(entry: &Entry) -> Result<Instance<T>> {
    let (line, value) = registration::read(entry)?;
    Ok(Instance { key: entry.key.clone(), id: line.id, value: json::read(&entry.key, &value)? })
}

impl<T: DeserializeOwned + Send + Sync + 'static> Service<T> {
    /// Opens the set of the instances below a directory; it returns when the set is complete.
    /// Outages are ridden out.
    ///
    /// # Errors
    /// Those of [`OpenView`](crate::OpenView).
    ///
    /// # Cancel safety
    /// A future that is dropped leaves no watch behind.
    pub async fn open(kv: &Kv, directory: impl IntoKey) -> Result<Self> {
        let view = View::decoded(kv, directory, instance::<T>).await?;
        Ok(Self { view, turn: Arc::default() })
    }

    /// Returns the instances that can be read, sorted by key. No I/O.
    pub fn instances(&self) -> Vec<Arc<Instance<T>>> {
        self.view.entries().into_iter().filter_map(|entry| entry.value.ok()).collect()
    }

    /// Returns the keys whose records cannot be read, and why. No I/O.
    pub fn unreadable(&self) -> Vec<(Key, Error)> {
        let entries = self.view.entries().into_iter();
        let directory = self.view.directory();
        let bad = entries.filter_map(|entry| Some((directory.join(&entry.name).ok()?, entry.value.err()?)));
        bad.collect()
    }

    /// Returns one of the instances, each in its turn; `None` when there is none. No I/O.
    #[doc(alias = "load_balancer")]
    pub fn pick(&self) -> Option<Arc<Instance<T>>> {
        self.view.good_in_turn(self.turn.fetch_add(1, Ordering::Relaxed))
    }

    /// Returns the changes of the set from now on. A record that cannot be read is an error in the
    /// place of its [value](crate::ViewEntry::value).
    pub fn changes(&self) -> Changes<Instance<T>> {
        self.view.changes()
    }

    /// Waits until the set holds everything that was registered, and lacks what was deregistered,
    /// before this call.
    ///
    /// # Errors
    /// Those of [`View::synced_now`].
    ///
    /// # Cancel safety
    /// A future that is dropped has no effect.
    pub async fn synced_now(&self) -> Result<()> {
        self.view.synced_now().await
    }

    /// Returns how old the set may be, as [`View::age`] says. No I/O.
    pub fn age(&self) -> Duration {
        self.view.age()
    }

    /// Waits until the set is followed no longer, as [`View::ended`] says. The future keeps nothing
    /// alive.
    ///
    /// # Cancel safety
    /// A future that is dropped has no effect.
    pub fn ended(&self) -> impl Future<Output = Error> + Send + 'static {
        self.view.ended()
    }
}

impl<T> Clone for Service<T> {
    fn clone(&self) -> Self {
        Self { view: self.view.clone(), turn: self.turn.clone() }
    }
}

impl<T> fmt::Debug for Service<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("view", &self.view).finish_non_exhaustive()
    }
}
