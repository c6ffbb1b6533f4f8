//! Random sequences of calls, on the backend and on the store in memory side by side: every answer must be the same.

use crate::{Ended, Failure, Trial, Verdict};
use kv_core::{
    Condition, Directory, ErrorKind, Item, Key, Kv, Outcome, Position, Version, WatchEvent, Watching,
};
use proptest::{
    collection::vec,
    prelude::*,
    sample::select,
    test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner},
};
use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

cases! {
    "model.sequences": "random sequences of calls answer as the store in memory does" => sequences,
}

/// The name of the variable that sets the seed.
const SEED: &str = "KV_SUITE_SEED";
/// How many sequences are tried, unless they take longer than this.
const MANY: u64 = 256;
const TIME: Duration = Duration::from_secs(8);

const KEYS: &[&str] = &["a", "a/b", "a/b/c", "a!", "ab", "a/😀", "b", "b/x y", "b/%2F", "é"];
const DIRECTORIES: &[&str] = &["", "a", "a/b", "b", "none"];
const VALUES: &[&[u8]] = &[b"", b"x", b"y", b"\0\xff", b"a longer value, a longer value, a longer value"];

#[derive(Clone, Debug)]
enum Call {
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

/// Which version: the key's own now, or one of those that were seen, counted from the newest.
#[derive(Clone, Copy, Debug)]
enum Seen {
    Now,
    Before(usize),
}

#[derive(Clone, Copy, Debug)]
enum After {
    Key(&'static str),
    Directory(&'static str),
}

#[derive(Clone, Copy, Debug)]
enum When {
    Version(&'static str, Seen),
    Exists(&'static str),
    Missing(&'static str),
}

fn call() -> impl Strategy<Value = Call> {
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

/// One of the two stores, with the versions of its keys numbered in the order in which they were first seen: two stores
/// that answer alike give the same numbers. A version is one of its key: a server may give the same to all that one
/// transaction writes.
struct Side {
    kv: Kv,
    root: Directory,
    numbers: HashMap<(Key, Version), usize>,
    versions: Vec<(Key, Version)>,
}

type Answer = Result<String, kv_core::Error>;

impl Side {
    fn new(kv: Kv, root: &str) -> kv_core::Result<Self> {
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

    /// The answer as text in which both sides must agree.
    async fn answer(&mut self, call: &Call) -> Answer {
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

/// Whether the answers may differ as declared, or the call is ruled out.
fn left_out(t: &Trial, call: &Call) -> bool {
    matches!(call, Call::Transact(when, writes) if when.len() + writes.len() > t.capabilities().max_txn_ops)
        || matches!(call, Call::Transact(..) if t.capabilities().max_txn_ops == 0)
}

async fn compare(t: &Trial, kv: &Kv, root: &str, calls: &[Call]) -> Result<(), Failure> {
    let mut ours = Side::new(kv.clone(), root)?;
    let mut model = Side::new(kv_memory::open("memory://").await?, root)?;
    let mut watch = match t.capabilities().watch {
        Watching::Unsupported => None,
        _ => Some(kv.watch_tree(root).await?),
    };
    for (n, call) in calls.iter().enumerate().filter(|(_, call)| !left_out(t, call)) {
        let (found, expected) = (ours.answer(call).await, model.answer(call).await);
        let counted = !matches!(call, Call::DeleteTree(_)) || t.capabilities().delete_tree_counts;
        let same = match (&found, &expected) {
            (Ok(found), Ok(expected)) => found == expected || !counted,
            (Err(found), Err(expected)) => found.kind() == expected.kind() && known(found.kind()),
            _ => false,
        };
        if !same {
            let call = format!("call {} of the sequence, {call:?}", n + 1);
            return Err(format!("{call}: expected {expected:?}, found {found:?}").into());
        }
    }
    let all = |listed: Vec<kv_core::Entry>| -> BTreeMap<String, kv_core::Bytes> {
        listed.into_iter().map(|e| (e.key.to_string(), e.value)).collect()
    };
    let (found, expected) = (all(kv.list(root).await?), all(model.kv.list(root).await?));
    if found != expected {
        return Err(format!("the listing in the end: expected {expected:?}, found {found:?}").into());
    }
    if let Some(watch) = &mut watch {
        let mut mirror = super::snapshot(t, watch).await?;
        let end = format!("{root}/end");
        let version = kv.put(&end, "").await?.version;
        super::told(t, watch, &end, version)
            .await?
            .into_iter()
            .for_each(|event: WatchEvent| mirror.fold(event));
        mirror.0.remove(&end);
        let mirror = all(mirror.0.into_values().collect());
        if mirror != expected {
            return Err(format!("what a watch told: expected {expected:?}, found {mirror:?}").into());
        }
    }
    Ok(())
}

/// Refusals that a sequence may meet; an outage is none.
fn known(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::KeyExists | ErrorKind::KeyModified | ErrorKind::InvalidArgument)
}

/// One sequence of this seed, shrunk when it fails.
fn one(t: &Trial, kv: &Kv, runtime: &tokio::runtime::Handle, seed: u64) -> Result<(), Failure> {
    let config = Config {
        cases: 1,
        failure_persistence: None,
        max_shrink_iters: 2_000,
        max_shrink_time: 30_000,
        ..Config::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let tries = std::cell::Cell::new(0);
    let ended = runner.run(&vec(call(), 1..60), |calls| {
        // Every try begins in a directory that is new.
        tries.set(tries.get() + 1);
        let root = format!("{seed:x}-{}", tries.get());
        runtime.block_on(compare(t, kv, &root, &calls)).map_err(|e| TestCaseError::fail(e.to_string()))
    });
    match ended {
        Ok(()) => Ok(()),
        Err(TestError::Fail(why, calls)) => {
            let calls: Vec<_> = calls.iter().map(|call| format!("\n  {call:?}")).collect();
            Err(format!(
                "{why}\nthe shortest sequence found:{}\n{SEED}={seed} tries it again",
                calls.concat()
            )
            .into())
        }
        Err(TestError::Abort(why)) => Err(format!("{why}; {SEED}={seed} tries it again").into()),
    }
}

async fn sequences(t: Trial) -> Verdict {
    let kv = t.open().await?;
    let given = std::env::var(SEED).ok().map(|seed| seed.parse::<u64>());
    let given = given.transpose().map_err(|e| format!("{SEED} is not a number: {e}"))?;
    let runtime = tokio::runtime::Handle::current();
    t.note("random sequences");
    let work = tokio::task::spawn_blocking(move || {
        let (begun, random) = (Instant::now(), rand_seed());
        if let Some(seed) = given {
            return one(&t, &kv, &runtime, seed);
        }
        (0..MANY)
            .take_while(|_| begun.elapsed() < TIME)
            .try_for_each(|n| one(&t, &kv, &runtime, random.wrapping_add(n)))
    });
    work.await??;
    Ok(Ended::Kept)
}

/// Another one for each run.
fn rand_seed() -> u64 {
    use std::hash::BuildHasher;
    std::hash::RandomState::new().hash_one(std::process::id())
}
