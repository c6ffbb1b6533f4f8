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

impl Held for Guard {
    fn left(&self) -> Duration {
        self.remaining()
    }
    fn is_held(&self) -> bool {
        self.is_held()
    }
    fn lost(&self) -> Loss {
        Box::pin(self.lost())
    }
    fn environment(&self) -> Environment {
        vec![
            ("KV_LOCK_NAME".into(), self.name().as_str().into()),
            ("KV_LOCK_TOKEN".into(), self.token().to_string().into()),
        ]
    }
}

impl Held for Term {
    fn left(&self) -> Duration {
        self.remaining()
    }
    fn is_held(&self) -> bool {
        self.is_held()
    }
    fn lost(&self) -> Loss {
        Box::pin(self.lost())
    }
    fn environment(&self) -> Environment {
        vec![
            ("KV_LOCK_NAME".into(), self.name().as_str().into()),
            ("KV_LOCK_TOKEN".into(), self.number().to_string().into()),
        ]
    }
}

impl Held for Permit {
    fn left(&self) -> Duration {
        self.remaining()
    }
    fn is_held(&self) -> bool {
        self.is_held()
    }
    fn lost(&self) -> Loss {
        Box::pin(self.lost())
    }
    fn environment(&self) -> Environment {
        // The key is NAME/slots/NUMBER.
        let key = self.key();
        let name = key.parent().as_str().strip_suffix("/slots").unwrap_or_default().to_owned();
        vec![
            ("KV_LOCK_NAME".into(), name.into()),
            ("KV_LOCK_TOKEN".into(), self.token().to_string().into()),
            ("KV_LOCK_SLOT".into(), key.name().into()),
        ]
    }
}

impl Held for Lease {
    fn left(&self) -> Duration {
        self.remaining()
    }
    fn is_held(&self) -> bool {
        self.is_held()
    }
    fn lost(&self) -> Loss {
        Box::pin(self.lost())
    }
    fn environment(&self) -> Environment {
        vec![("KV_LEASE_ID".into(), self.id().as_str().into())]
    }
}
