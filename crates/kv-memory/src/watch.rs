//! Watches.

use crate::{
    Memory,
    faults::{Does, pausing},
};
use kv_core::{Cursor, Deadline, Entry, Item, ListOptions, Page, Target, Version, WatchStream};

impl Memory {
    pub(crate) fn events(&self, target: &Target) -> WatchStream {
        self.look().sweep();
        let (memory, of) = (self.clone(), target.clone());
        let changes = self.0.hub.watch("memory", target, move |from| {
            let (memory, of) = (memory.clone(), of.clone());
            async move {
                let read = || Ok(memory.there(&of, from.as_ref()));
                memory.call(Does::Read, Deadline::NEVER, read).await
            }
        });
        pausing(changes, self.trouble().clone())
    }

    /// A page of what there is to watch.
    fn there(&self, target: &Target, from: Option<&Cursor>) -> Page {
        let one =
            |entry: Option<Entry>| Page { items: entry.map(Item::Entry).into_iter().collect(), next: None };
        match target {
            Target::Key(key) => one(self.found(&self.look(), key)),
            Target::Tree(directory) => self.page(directory, from, &ListOptions::default()),
            Target::Holder(name) => {
                let holder = self.look().holder(&self.lock_name(name));
                one(holder.map(|h| Entry::new(name.clone(), h.value, Version::new(h.token, 0))))
            }
        }
    }
}
