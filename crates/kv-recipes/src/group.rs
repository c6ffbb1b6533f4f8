//! Groups of processes that see each other.

use crate::{Changes, Instance, Registered, Registration, RegistrationState, Service, names::in_recipe};
use kv_core::{Error, ErrorKind, IntoKey, Key, Kv, Result};
use serde::{Serialize, de::DeserializeOwned};
use std::{fmt, future::Future, sync::Arc, time::Duration};

/// A group of processes that know each other: each joins by a name and a value, and sees all who
/// have joined. It is a [`Registration`] and a [`Service`] in one.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// use kv_recipes::Group;
///
/// let kv = kv_memory::open("memory://").await?;
/// let workers = Group::new(&kv, "app/workers");
/// let one = workers.join("host-1", &10).await?;
/// let two = workers.join("host-2", &20).await?;
/// let of_two: Vec<i32> = two.members().iter().map(|member| member.value).collect();
/// assert_eq!(of_two, [10, 20], "who joins sees itself and those before");
///
/// one.leave().await?;
/// two.synced_now().await?;
/// assert_eq!(two.members().len(), 1);
/// # Ok(()) }
/// ```
///
/// # When things fail
/// | when a member is | then |
/// |---|---|
/// | paused beyond the TTL, or cut off from the server | the others see it gone after the TTL and its [lateness](kv_core::Capabilities::lateness); it sees the others as they were, and joins again by itself |
/// | killed | it is gone within the TTL and its lateness |
/// | there while the server restarts | nobody goes whose lease outlives the restart |
/// | told nothing, because an answer was lost | it reads its key again |
/// | no longer waiting (the future is dropped) | it is gone, in the background |
/// | given the name of another | it takes the place, and the other gives up: [`RegistrationState::Superseded`] |
///
/// Members can see different groups for a while. Whatever must be done by one of them alone takes a
/// lock or an [`Election`](crate::Election).
///
/// # Layout, format 1
/// The keys `NAME/MEMBER`, as a [`Registration`] writes them, with JSON as values.
#[doc(alias = "members")]
#[doc(alias = "cluster")]
#[derive(Clone, Debug)]
#[must_use = "nobody joins until `join` is awaited"]
pub struct Group {
    kv: Kv,
    name: Result<Key>,
    ttl: Duration,
}

impl Group {
    /// Makes the group of this name. No I/O.
    pub fn new(kv: &Kv, name: impl IntoKey) -> Self {
        Self { kv: kv.clone(), name: name.into_key(), ttl: crate::patience::DEFAULT_TTL }
    }

    /// Sets how long a member that dies still counts as there: 15 s unless it is set.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Joins by this name, one segment of a key, with a value; it returns when the group is known,
    /// this member among it. Outages are ridden out.
    ///
    /// # Errors
    /// [`InvalidKey`](ErrorKind::InvalidKey) for a name of several segments; those of
    /// [`Registration::register`] and [`Service::open`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves the group in the background.
    pub async fn join<T>(&self, member: &str, value: &T) -> Result<Membership<T>>
    where
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        let (directory, key) = self.key(member)?;
        let joining = Registration::new(&self.kv, key).ttl(self.ttl).json(value).register();
        let registered = joining.await?;
        let members = Service::open(&self.kv, directory).await?;
        Ok(Membership { registered, members })
    }

    /// Watches the group without joining it.
    ///
    /// # Errors
    /// Those of [`Service::open`].
    ///
    /// # Cancel safety
    /// A future that is dropped leaves no watch behind.
    pub async fn observe<T>(&self) -> Result<Service<T>>
    where
        T: DeserializeOwned + Send + Sync + 'static,
    {
        let name = self.name.clone().map_err(|e| in_recipe(e, &self.kv, "observe", None))?;
        Service::open(&self.kv, name).await
    }

    /// Returns the group's directory and the member's key.
    fn key(&self, member: &str) -> Result<(Key, Key)> {
        let in_call = |e| in_recipe(e, &self.kv, "join", self.name.as_ref().ok());
        let (name, own) = (self.name.clone().map_err(in_call)?, Key::parse(member).map_err(in_call)?);
        if own.segments().count() > 1 {
            let why = format!("the member's name {own:?} has several segments; give it one");
            return Err(in_call(Error::new(ErrorKind::InvalidKey, why)));
        }
        let key = name.as_directory().join(&own).map_err(in_call)?;
        Ok((name, key))
    }
}

/// One's place in a [`Group`]. Dropping it leaves in the background.
#[must_use = "dropping it leaves the group"]
pub struct Membership<T> {
    registered: Registered,
    members: Service<T>,
}

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Membership<T> {
    /// Returns who is there, this member included as long as the others see it, sorted by name. No
    /// I/O.
    pub fn members(&self) -> Vec<Arc<Instance<T>>> {
        self.members.instances()
    }

    /// Returns the set of the members, which also tells what cannot be read.
    pub fn service(&self) -> &Service<T> {
        &self.members
    }

    /// Returns the changes of the group from now on.
    pub fn changes(&self) -> Changes<Instance<T>> {
        self.members.changes()
    }

    /// Waits until this member sees all who joined, and lacks all who left, before this call.
    ///
    /// # Errors
    /// Those of [`Service::synced_now`].
    ///
    /// # Cancel safety
    /// A future that is dropped has no effect.
    pub async fn synced_now(&self) -> Result<()> {
        self.members.synced_now().await
    }

    /// Returns whether the others see this member, as it knows. No I/O.
    pub fn state(&self) -> RegistrationState {
        self.registered.state()
    }

    /// Waits until the state is one for which this is true, as [`Registered::until`] does.
    ///
    /// # Cancel safety
    /// A future that is dropped has no effect.
    pub async fn until(&self, is_so: impl FnMut(&RegistrationState) -> bool) -> RegistrationState {
        self.registered.until(is_so).await
    }

    /// Waits until this membership has ended, though it did not leave; see [`Registered::over`].
    ///
    /// # Cancel safety
    /// A future that is dropped has no effect.
    pub fn over(&self) -> impl Future<Output = Error> + Send + 'static {
        self.registered.over()
    }

    /// Replaces this member's value, as [`Registered::set_json`] does.
    ///
    /// # Errors
    /// Those of [`Registered::set_json`].
    ///
    /// # Cancel safety
    /// The value is put in the background when the future is dropped.
    pub async fn set(&self, value: &T) -> Result<()> {
        self.registered.set_json(value).await
    }

    /// Leaves the group, and returns whether this member was still in it.
    ///
    /// # Errors
    /// Those of [`Registered::deregister`].
    ///
    /// # Cancel safety
    /// It goes on in the background when the caller stops waiting.
    pub async fn leave(self) -> Result<bool> {
        self.registered.deregister().await
    }
}

impl<T> fmt::Debug for Membership<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { registered, members } = self;
        f.debug_struct("Membership").field("registered", registered).field("members", members).finish()
    }
}
