//! A server that went back, said step by step.

use kv_core::{
    Entry, Key, Result, Version, WatchEvent,
    backend::watch::{self, Change, Detail, Listed, Listing, Source, WatchState},
};
use std::collections::VecDeque;

/// The answers of a source, in their order.
#[derive(Default)]
struct Script {
    /// The lists, each with what the watch asks for.
    lists: VecDeque<(Detail, Vec<Listed>, Option<()>)>,
    fetched: VecDeque<Entry>,
    changes: VecDeque<Change>,
}

impl Source for Script {
    type Token = ();

    fn backend(&self) -> &'static str {
        "script"
    }

    async fn subscribe(&mut self) -> Result<()> {
        Ok(())
    }

    async fn list(&mut self, delivered: &WatchState, _: Option<&()>) -> Result<Listing<()>> {
        let (detail, entries, next) = self.lists.pop_front().expect("no list too many");
        assert_eq!(delivered.detail(), detail);
        Ok(Listing::Page { entries, position: None, next })
    }

    async fn fetch(&mut self, keys: &[Key]) -> Result<Vec<Option<Entry>>> {
        let found = self.fetched.pop_front().expect("no fetch too many");
        assert_eq!(keys, std::slice::from_ref(&found.key));
        Ok(vec![Some(found)])
    }

    async fn next(&mut self, _: &WatchState) -> Result<Change> {
        match self.changes.pop_front() {
            Some(change) => Ok(change),
            None => std::future::pending().await,
        }
    }
}

fn entry(name: &str, value: &'static str, version: u64) -> Entry {
    Entry::new(Key::parse(name).unwrap(), value, Version::new(version, 0))
}

fn whole(name: &str, value: &'static str, version: u64) -> Listed {
    Listed::Entry(entry(name, value, version))
}

fn version(name: &str, version: u64) -> Listed {
    Listed::Version(Key::parse(name).unwrap(), Version::new(version, 0))
}

async fn plays(script: Script, expected: &[&str]) {
    use futures::StreamExt;
    let told = watch::start(script).take(expected.len()).map(|event| match event.unwrap() {
        WatchEvent::Put(e) => format!("{} is {} at {}", e.key, e.text().unwrap(), e.version),
        WatchEvent::Delete { key, version } => format!("{key} is gone at {version}"),
        WatchEvent::Synced => "synced".to_owned(),
    });
    assert_eq!(super::soon(told.collect::<Vec<_>>()).await, expected);
}

#[tokio::test(start_paused = true)]
async fn once_a_version_went_back_no_other_is_trusted() {
    let lists = [
        (Detail::Values, vec![whole("a", "old", 5), whole("b", "old", 5)], None),
        (Detail::Versions, vec![version("a", 5), version("b", 3)], None),
        (Detail::Values, vec![whole("a", "new", 5), whole("b", "new", 3)], None),
        (Detail::Versions, vec![version("a", 5), version("b", 3)], None),
    ];
    let fetched = [entry("b", "new", 3)].into();
    let changes = [Change::Lagged, Change::Lagged].into();
    let expected = [
        "a is old at 5",
        "b is old at 5",
        "synced",
        "b is gone at 5",
        "b is new at 3",
        "a is gone at 5",
        "a is new at 5",
        "synced",
        "synced",
    ];
    plays(Script { lists: lists.into(), fetched, changes }, &expected).await;
}

#[tokio::test(start_paused = true)]
async fn a_list_during_which_the_server_went_back_is_taken_again() {
    let lists = [
        (Detail::Values, vec![whole("a", "old", 5), whole("b", "old", 5)], None),
        (Detail::Values, vec![whole("a", "old", 5)], Some(())),
        (Detail::Values, vec![whole("b", "new", 3)], None),
        (Detail::Values, vec![whole("a", "new", 4), whole("b", "new", 3)], None),
    ];
    let changes = [Change::Found(entry("b", "other", 5))].into();
    let expected = [
        "a is old at 5",
        "b is old at 5",
        "synced",
        "b is gone at 5",
        "b is other at 5",
        "b is gone at 5",
        "b is new at 3",
        "a is gone at 5",
        "a is new at 4",
        "synced",
    ];
    plays(Script { lists: lists.into(), changes, ..Script::default() }, &expected).await;
}
