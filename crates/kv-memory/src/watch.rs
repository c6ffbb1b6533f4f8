//! Watches.

use crate::Memory;
use kv_core::{Entry, Item, ListOptions, Page, Result, Target, Version, WatchStream};
use std::future::ready;

impl Memory {
    pub(crate) fn events(&self, target: &Target) -> WatchStream {
        self.look().sweep();
        let (memory, of) = (self.clone(), target.clone());
        self.0.hub.watch(target, move |from| {
            let there = |entry: Option<Entry>| Page {
                items: entry.map(Item::Entry).into_iter().collect(),
                next: None,
            };
            let page = match &of {
                Target::Key(key) => there(memory.found(&memory.look(), key)),
                Target::Tree(directory) => memory.page(directory, from.as_ref(), &ListOptions::default()),
                Target::Holder(name) => {
                    let holder = memory.look().holder(&memory.lock_name(name));
                    there(holder.map(|h| Entry::new(name.clone(), h.value, Version::new(h.token, 0))))
                }
            };
            ready(Result::Ok(page))
        })
    }
}
