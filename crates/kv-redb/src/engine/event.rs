//! Makes the events that watches are told of the writer's changes.

use crate::names;
use kv_core::{Bytes, Entry, Key, Version, WatchEvent, backend::Hub};
use std::sync::Arc;

/// A change, by the whole name.
#[derive(Debug)]
pub(crate) enum Event {
    Put { name: Arc<str>, value: Bytes, version: Version },
    Delete { name: Arc<str>, version: Version },
    Held { name: Arc<str>, value: Bytes, version: Version },
    Freed { name: Arc<str>, version: Version },
}

/// The view of one prefix: the watches of all clients that use it.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) prefix: Arc<str>,
    pub(crate) hub: Hub,
}

impl View {
    /// Returns the key that the event is about, if it is seen under this prefix: data wherever
    /// they lie below it, a lock only if it belongs to the store of this prefix.
    fn key(&self, event: &Event) -> Option<Key> {
        match event {
            Event::Put { name, .. } | Event::Delete { name, .. } => {
                name.strip_prefix(&*self.prefix).and_then(names::key)
            }
            Event::Held { name, .. } | Event::Freed { name, .. } => names::lock_key(&self.prefix, name),
        }
    }

    pub(crate) fn tell(&self, event: &Event) {
        let Some(key) = self.key(event) else { return };
        match event {
            Event::Put { value, version, .. } => {
                self.hub.publish(&WatchEvent::Put(Entry::new(key, value.clone(), *version)));
            }
            Event::Delete { version, .. } => self.hub.publish(&WatchEvent::Delete { key, version: *version }),
            Event::Held { value, version, .. } => {
                self.hub.publish_holder(&WatchEvent::Put(Entry::new(key, value.clone(), *version)));
            }
            Event::Freed { version, .. } => {
                self.hub.publish_holder(&WatchEvent::Delete { key, version: *version });
            }
        }
    }
}
