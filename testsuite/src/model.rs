//! Random calls, and two stores whose answers can be compared.

use kv_core::{Capabilities, Condition, Directory, ErrorKind, Item, Key, Kv, Outcome, Position, Version};
use proptest::{collection::vec, prelude::*, sample::select};
use std::collections::HashMap;

const KEYS: &[&str] = &["a", "a/b", "a/b/c", "a!", "ab", "a/😀", "b", "b/x y", "b/%2F", "é"];
const DIRECTORIES: &[&str] = &["", "a", "a/b", "b", "none"];
const VALUES: &[&[u8]] = &[b"", b"x", b"y", b"\0\xff", b"a longer value, a longer value, a longer value"];

/// One call, with names below a root.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    Get(&'static str),
    GetMany(Vec<&'static str>),
    Exists(&'static str),
    Put(&'static str, &'static [u8]),
    Create(&'static str, &'static [u8]),
    Swap(&'static str, &'static [u8], Seen),
    Delete(&'static str),
    DeleteAt(&'static str, Seen),
    List {
        directory: &'static str,
        children: bool,
        keys_only: bool,
        limit: Option<usize>,
        after: Option<After>,
    },
    DeleteTree(&'static str),
    Transact(Vec<When>, Vec<(&'static str, Option<&'static [u8]>)>),
}

/// A version of a key: the one that it has now, or one that was seen, counted from the newest.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Seen {
    Now,
    Before(usize),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum After {
    Key(&'static str),
    Directory(&'static str),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum When {
    Version(&'static str, Seen),
    Exists(&'static str),
    Missing(&'static str),
}

/// Returns a strategy that makes any of the calls.
pub(crate) fn call() -> impl Strategy<Value = Call> {
    let key = || select(KEYS);
    let value = || select(VALUES);
    let directory = || select(DIRECTORIES);
    let seen = || prop_oneof![3 => Just(Seen::Now), 2 => (0..6_usize).prop_map(Seen::Before)];
    let after = prop_oneof![key().prop_map(After::Key), directory().prop_map(After::Directory)];
    let when = prop_oneof![
        (key(), seen()).prop_map(|(k, s)| When::Version(k, s)),
        key().prop_map(When::Exists),
        key().prop_map(When::Missing),
    ];
    let write = (key(), proptest::option::weighted(0.7, value()));
    prop_oneof![
        2 => key().prop_map(Call::Get),
        1 => vec(key(), 0..5).prop_map(Call::GetMany),
        1 => key().prop_map(Call::Exists),
        6 => (key(), value()).prop_map(|(k, v)| Call::Put(k, v)),
        2 => (key(), value()).prop_map(|(k, v)| Call::Create(k, v)),
        3 => (key(), value(), seen()).prop_map(|(k, v, s)| Call::Swap(k, v, s)),
        2 => key().prop_map(Call::Delete),
        2 => (key(), seen()).prop_map(|(k, s)| Call::DeleteAt(k, s)),
        3 => (directory(), any::<bool>(), any::<bool>(), proptest::option::of(0..5_usize), proptest::option::of(after))
            .prop_map(|(directory, children, keys_only, limit, after)| {
                Call::List { directory, children, keys_only, limit, after }
            }),
        1 => directory().prop_map(Call::DeleteTree),
        3 => (vec(when, 0..3), vec(write, 0..4)).prop_map(|(when, writes)| Call::Transact(when, writes)),
    ]
}

/// One of the two stores, with the versions of its keys numbered in the order in which they were
/// first seen: two stores that answer alike give the same numbers. A number is that of a key and a
/// version, for a server may give one version to all keys that a transaction writes.
pub(crate) struct Side {
    pub(crate) kv: Kv,
    root: Directory,
    numbers: HashMap<(Key, Version), usize>,
    versions: Vec<(Key, Version)>,
}

pub(crate) type Answer = Result<String, kv_core::Error>;

impl Side {
    pub(crate) fn new(kv: Kv, root: &str) -> kv_core::Result<Self> {
        Ok(Self { kv, root: Directory::parse(root)?, numbers: HashMap::new(), versions: Vec::new() })
    }

    fn key(&self, name: &str) -> kv_core::Result<Key> {
        self.root.join(&Key::parse(name)?)
    }

    fn directory(&self, name: &str) -> kv_core::Result<Directory> {
        self.root.join_directory(&Directory::parse(name)?)
    }

    fn number(&mut self, key: &Key, version: Version) -> usize {
        let next = self.versions.len();
        let number = *self.numbers.entry((key.clone(), version)).or_insert(next);
        if number == next {
            self.versions.push((key.clone(), version));
        }
        number
    }

    async fn version(&mut self, key: &Key, seen: Seen) -> kv_core::Result<Version> {
        let of_key = self.versions.iter().rev().filter(|(of, _)| of == key).map(|(_, version)| *version);
        let stale = |n: usize| of_key.clone().nth(n).unwrap_or(Version::new(0, 0));
        Ok(match seen {
            Seen::Before(n) => stale(n),
            Seen::Now => self.kv.get(key).await?.map_or(Version::new(0, 0), |e| e.version),
        })
    }

    fn entry(&mut self, entry: &kv_core::Entry) -> String {
        format!("{} = {:?} at #{}", entry.key, entry.value, self.number(&entry.key, entry.version))
    }

    fn found(&mut self, entry: Option<kv_core::Entry>) -> String {
        entry.map_or_else(|| "nothing".into(), |e| self.entry(&e))
    }

    fn written(&mut self, key: &Key, written: kv_core::Written) -> String {
        format!("#{}", self.number(key, written.version))
    }

    /// Makes the call, and returns its answer as text, in which both sides must agree.
    pub(crate) async fn answer(&mut self, call: &Call) -> Answer {
        let kv = self.kv.clone();
        match *call {
            Call::Get(key) => kv.get(self.key(key)?).await.map(|e| self.found(e)),
            Call::GetMany(ref keys) => {
                let keys = keys.iter().map(|k| self.key(k)).collect::<kv_core::Result<Vec<_>>>()?;
                let found = kv.get_many(keys).await?;
                Ok(found.into_iter().map(|e| self.found(e)).collect::<Vec<_>>().join(", "))
            }
            Call::Exists(key) => Ok(kv.exists(self.key(key)?).await?.to_string()),
            Call::Put(key, value) => {
                let key = self.key(key)?;
                kv.put(&key, value).await.map(|w| self.written(&key, w))
            }
            Call::Create(key, value) => {
                let key = self.key(key)?;
                kv.atomic_put(&key, value, None).await.map(|w| self.written(&key, w))
            }
            Call::Swap(key, value, seen) => {
                let key = self.key(key)?;
                let version = self.version(&key, seen).await?;
                kv.atomic_put(&key, value, version).await.map(|w| self.written(&key, w))
            }
            Call::Delete(key) => Ok(kv.delete(self.key(key)?).await?.to_string()),
            Call::DeleteAt(key, seen) => {
                let key = self.key(key)?;
                let version = self.version(&key, seen).await?;
                Ok(kv.atomic_delete(key, version).await?.to_string())
            }
            Call::List { directory, children, keys_only, limit, after } => {
                let mut list = kv.list(self.directory(directory)?.as_str());
                if let Some(limit) = limit {
                    list = list.limit(limit);
                }
                if let Some(after) = after {
                    list = list.start_after(match after {
                        After::Key(name) => Position::Key(self.key(name)?),
                        After::Directory(name) => Position::Directory(self.directory(name)?),
                    });
                }
                let mut found = Vec::new();
                if children {
                    let mut items = if keys_only { list.child_keys() } else { list.children() };
                    while let Some(item) = items.next().await {
                        found.push(match item? {
                            Item::Entry(entry) => self.entry(&entry),
                            Item::Key(key, version) => format!("{key} at #{}", self.number(&key, version)),
                            Item::Directory(directory) => directory.start(),
                        });
                    }
                } else if keys_only {
                    let mut keys = list.keys();
                    while let Some(key) = keys.next().await {
                        found.push(key?.to_string());
                    }
                } else {
                    for entry in list.await? {
                        found.push(self.entry(&entry));
                    }
                }
                Ok(found.join(", "))
            }
            Call::DeleteTree(directory) => {
                kv.delete_tree(self.directory(directory)?.as_str()).await.map(|n| format!("{n:?}"))
            }
            Call::Transact(ref when, ref writes) => {
                let mut txn = kv.transact();
                for condition in when {
                    txn = txn.when(match *condition {
                        When::Version(key, seen) => {
                            let key = self.key(key)?;
                            let version = self.version(&key, seen).await?;
                            Condition::Version(key, version)
                        }
                        When::Exists(key) => Condition::Exists(self.key(key)?),
                        When::Missing(key) => Condition::Missing(self.key(key)?),
                    });
                }
                let keys =
                    writes.iter().map(|(key, _)| self.key(key)).collect::<kv_core::Result<Vec<_>>>()?;
                for (key, (_, value)) in keys.iter().zip(writes) {
                    txn = match *value {
                        Some(value) => txn.then(kv.put(key, value)),
                        None => txn.then(kv.delete(key)),
                    };
                }
                Ok(match txn.await? {
                    Outcome::Refused(refusal) => format!("condition {} is not true", refusal.index),
                    Outcome::Committed(written) => {
                        let written = keys.iter().zip(written);
                        let written =
                            written.map(|(key, w)| w.map_or_else(|| "-".into(), |w| self.written(key, w)));
                        written.collect::<Vec<_>>().join(", ")
                    }
                })
            }
        }
    }
}

/// Tells whether the store can take the call.
pub(crate) fn is_supported(capabilities: &Capabilities, call: &Call) -> bool {
    match call {
        Call::Transact(when, writes) => {
            capabilities.max_txn_ops > 0 && when.len() + writes.len() <= capabilities.max_txn_ops
        }
        _ => true,
    }
}

/// Tells whether the two answers are the same, but for a count that the store declares not to
/// give. Two refusals of one kind are the same.
pub(crate) fn agree(capabilities: &Capabilities, call: &Call, found: &Answer, expected: &Answer) -> bool {
    let is_counted = !matches!(call, Call::DeleteTree(_)) || capabilities.delete_tree_counts;
    match (found, expected) {
        (Ok(found), Ok(expected)) => found == expected || !is_counted,
        (Err(found), Err(expected)) => found.kind() == expected.kind() && is_refusal(found.kind()),
        _ => false,
    }
}

/// Tells whether the error is a refusal that a sequence may meet; an outage is none.
pub(crate) fn is_refusal(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::KeyExists | ErrorKind::KeyModified | ErrorKind::InvalidArgument)
}
