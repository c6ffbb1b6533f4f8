//! From what the writer did to what the watches are told.

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

/// What is seen under one prefix: the watches of all clients that use it.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) prefix: Arc<str>,
    pub(crate) hub: Hub,
}

/// The key of a whole name without its prefix: a user's, or one of the library's own.
pub(crate) fn key(name: &str) -> Option<Key> {
    Key::from_stored(name).or_else(|| {
        let (area, name) = name.strip_prefix(".kv/")?.split_once('/')?;
        Key::from_stored(name).map(|name| Key::internal(area, &name))
    })
}

impl View {
    /// The key that the event is about, if it is seen under this prefix: data wherever they lie below it, locks alone of
    /// their own store.
    fn key(&self, event: &Event) -> Option<Key> {
        match event {
            Event::Put { name, .. } | Event::Delete { name, .. } => {
                name.strip_prefix(&*self.prefix).and_then(key)
            }
            Event::Held { name, .. } | Event::Freed { name, .. } => {
                let (lock, prefix) = name.split_once('\0')?;
                Key::from_stored(lock).filter(|_| *prefix == *self.prefix)
            }
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
