//! Watches of a hub, which read what a test has prepared.

use kv_core::{
    Directory, Error, ErrorKind, Item,
    backend::Hub,
    driver::{Page, Target, WatchStream},
};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

/// The answers that a hub's watch reads, in turn: a page, or a failure.
pub(crate) type Answers = Arc<Mutex<VecDeque<Result<Vec<Item>, ErrorKind>>>>;

/// Makes a watch of the whole tree, which reads these answers and is told what the hub publishes.
pub(crate) fn hub_watch(hub: &Hub, answers: &Answers) -> WatchStream {
    let answers = answers.clone();
    hub.watch("model", &Target::Tree(Directory::root()), move |_| {
        let answer = answers.lock().unwrap().pop_front().expect("no list too many");
        async move {
            let items = answer.map_err(|kind| Error::new(kind, "the server is away"))?;
            Ok(Page { items, next: None })
        }
    })
}
