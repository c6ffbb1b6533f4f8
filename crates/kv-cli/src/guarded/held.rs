//! The things that a command runs under: a lock, a term, a permit, a lease.

use super::Environment;
use kv_core::{Error, Guard, Lease};
use kv_recipes::{Permit, Term};
use std::{future::Future, pin::Pin, time::Duration};

/// The reason of a loss, when it comes. It borrows nothing.
pub(crate) type Loss = Pin<Box<dyn Future<Output = Error> + Send>>;

/// Something that is lost by time unless it is renewed: a tenth of its TTL before the store may
/// give it to another.
pub(crate) trait Held {
    /// Returns how long it is held at least.
    fn left(&self) -> Duration;
    /// Tells whether it is held.
    fn is_held(&self) -> bool;
    /// Waits until it is lost.
    fn lost(&self) -> Loss;
    /// Returns what the command is told of it.
    fn environment(&self) -> Environment;
}

/// Writes what all of them have by methods of the same names.
macro_rules! by_its_own_methods {
    () => {
        fn left(&self) -> Duration {
            self.remaining()
        }
        fn is_held(&self) -> bool {
            self.is_held()
        }
        fn lost(&self) -> Loss {
            Box::pin(self.lost())
        }
    };
}

/// Returns what a command is told of a lock, or of what is as one.
fn of_a_lock(name: &str, token: u64) -> Environment {
    vec![("KV_LOCK_NAME".into(), name.into()), ("KV_LOCK_TOKEN".into(), token.to_string().into())]
}

impl Held for Guard {
    by_its_own_methods!();
    fn environment(&self) -> Environment {
        of_a_lock(self.name().as_str(), self.token())
    }
}

impl Held for Term {
    by_its_own_methods!();
    fn environment(&self) -> Environment {
        of_a_lock(self.name().as_str(), self.number())
    }
}

impl Held for Permit {
    by_its_own_methods!();
    fn environment(&self) -> Environment {
        // The key is NAME/slots/NUMBER.
        let key = self.key();
        let slots = key.parent();
        let name = slots.as_str().strip_suffix("/slots").unwrap_or_default();
        let mut environment = of_a_lock(name, self.token());
        environment.push(("KV_LOCK_SLOT".into(), key.name().into()));
        environment
    }
}

impl Held for Lease {
    by_its_own_methods!();
    fn environment(&self) -> Environment {
        vec![("KV_LEASE_ID".into(), self.id().as_str().into())]
    }
}
