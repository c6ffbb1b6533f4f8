//! Compares what each layer does to every field of the capabilities with its documentation, and
//! with the table in `docs/layers.md`.

use kv_core::{
    Bytes, Capabilities, Directory, Entry, Key, Kv, Result, Written,
    driver::{
        Cursor, Expect, Layer, ListOptions, Page, PutOptions, ReadOptions, Store, Target, WatchOptions,
        WatchStream, WriteOptions, async_trait,
    },
};
use kv_layers::{Chaos, Coalesce, Encrypt, Keyring, Limit, Prefix, ReadOnly, Tee};
use std::{collections::BTreeSet, fs, path::Path, sync::Arc, time::Duration};

/// The bytes that sealing adds to a value.
const SEALED: usize = 36;

/// A layer that claims these capabilities, for another side of a [`Tee`].
struct Claims(Capabilities);

impl Layer for Claims {
    fn layer(&self, inner: Arc<dyn Store>) -> Arc<dyn Store> {
        Arc::new(Claiming(inner, self.0.clone()))
    }
}

#[derive(Debug)]
struct Claiming(Arc<dyn Store>, Capabilities);

#[async_trait]
impl Store for Claiming {
    fn capabilities(&self) -> &Capabilities {
        &self.1
    }
    async fn get(&self, key: &Key, options: &ReadOptions) -> Result<Option<Entry>> {
        self.0.as_ref().get(key, options).await
    }
    async fn put(&self, key: &Key, value: Bytes, expect: Expect, options: &PutOptions) -> Result<Written> {
        self.0.as_ref().put(key, value, expect, options).await
    }
    async fn delete(&self, key: &Key, expect: Expect, options: &WriteOptions) -> Result<bool> {
        self.0.as_ref().delete(key, expect, options).await
    }
    async fn list(&self, d: &Directory, from: Option<&Cursor>, options: &ListOptions) -> Result<Page> {
        self.0.as_ref().list(d, from, options).await
    }
    async fn watch(&self, target: &Target, options: &WatchOptions) -> Result<WatchStream> {
        self.0.as_ref().watch(target, options).await
    }
}

/// Opens a store in memory, by a handle that claims to have the least.
async fn least() -> Kv {
    let mut least = Capabilities::new("least");
    least.children_of_expiring = false;
    kv_memory::open("memory://").await.expect("a store").layer(Claims(least))
}

macro_rules! fields {
    ($($field:ident)*) => {
        const FIELDS: &[&str] = &[$(stringify!($field)),*];

        /// Returns the names of the fields that differ.
        fn differing(one: &Capabilities, other: &Capabilities) -> BTreeSet<&'static str> {
            let mut names = BTreeSet::new();
            $(if one.$field != other.$field {
                names.insert(stringify!($field));
            })*
            // Made alike in the fields of the list, the two are alike: none is left out of it.
            let mut alike = one.clone();
            $(alike.$field = other.$field.clone();)*
            assert_eq!(alike, *other, "a field is not in the list");
            names
        }
    };
}
fields! {
    backend durability linearizable max_value ttl children_of_expiring lease watch watch_ordered lock
    max_txn_ops max_txn_bytes list_snapshot delete_tree_atomic delete_tree_counts native_values
    foreign_keys health hint
}

/// Returns each layer by its name, with the capabilities of a store in memory under it.
async fn all() -> Vec<(&'static str, Capabilities)> {
    let kv = kv_memory::open("memory://").await.expect("a store");
    let under = |kv: Kv| kv.capabilities().clone();
    vec![
        ("ReadOnly", under(kv.clone().layer(ReadOnly))),
        ("Prefix", under(kv.clone().layer(Prefix::new("app").expect("a directory")))),
        ("Limit", under(kv.clone().layer(Limit::new().reads(1).writes(1).watches(1)))),
        ("Coalesce", under(kv.clone().layer(Coalesce))),
        ("Encrypt", under(kv.clone().layer(Encrypt::new(&Keyring::new(1, [1; 32]))))),
        ("Tee", under(kv.clone().layer(Tee::to(least().await.store().clone())))),
        ("Chaos", under(kv.layer(Chaos::new(1).failures(0.5).lost_answers(0.5)))),
    ]
}

async fn plain() -> Capabilities {
    kv_memory::open("memory://").await.expect("a store").capabilities().clone()
}

#[tokio::test]
async fn each_layer_changes_what_it_says_and_nothing_else() {
    let plain = plain().await;
    for (name, found) in all().await {
        let mut expected = plain.clone();
        match name {
            "ReadOnly" => {
                (expected.lock, expected.lease) = (None, None);
                (expected.max_txn_ops, expected.max_txn_bytes) = (0, 0);
                expected.hint = found.hint.clone();
                assert!(found.hint.as_deref().is_some_and(|hint| hint.contains("`ReadOnly`")), "{found:?}");
            }
            "Encrypt" => {
                expected.max_value = plain.max_value - SEALED;
                expected.max_txn_bytes = plain.max_txn_bytes - SEALED * plain.max_txn_ops;
                expected.native_values = false;
            }
            "Tee" => {
                (expected.ttl, expected.lease) = (None, None);
                expected.max_value = 256 << 10;
                expected.children_of_expiring = false;
            }
            _ => {}
        }
        assert_eq!(found, expected, "{name}");
    }
}

#[tokio::test]
async fn tee_has_the_ttls_of_both_stores() {
    let (memory, folder) = (kv_memory::open("memory://").await.expect("a store"), tempfile::tempdir());
    let path = folder.as_ref().expect("a folder").path().join("other.redb");
    let redb = kv_redb::Config::new(path).open().await.expect("a new file");
    let (here, there) = (memory.capabilities().clone(), redb.capabilities().clone());
    let both = memory.layer(Tee::to(redb.store().clone())).capabilities().clone();
    for (both, here, there) in [(&both.ttl, &here.ttl, &there.ttl), (&both.lease, &here.lease, &there.lease)]
    {
        let [both, here, there] = [both, here, there].map(|range| range.as_ref().expect("both have TTLs"));
        assert!(there.greatest < here.greatest, "the other store has the smaller one");
        assert_eq!((both.least, both.greatest), (here.least, there.greatest));
        assert_eq!(both.lateness(Duration::from_secs(9)), here.lateness(Duration::from_secs(9)));
    }
}

#[tokio::test]
async fn a_store_with_little_room_keeps_it_when_values_are_sealed() {
    let mut small = Capabilities::new("small");
    (small.max_txn_ops, small.max_txn_bytes) = (100, small.max_value + 1000);
    let kv = kv_memory::open("memory://").await.expect("a store").layer(Claims(small.clone()));
    let sealed = kv.layer(Encrypt::new(&Keyring::new(1, [1; 32]))).capabilities().clone();
    assert_eq!(sealed.max_value, small.max_value - SEALED * small.max_txn_ops);
    assert_eq!(sealed.max_txn_bytes, sealed.max_value + 1000, "room for the greatest value and its key");
    let grown = sealed.max_txn_bytes + SEALED * sealed.max_txn_ops;
    assert_eq!(grown, small.max_txn_bytes, "the most operations have room when they are sealed");

    (small.max_txn_ops, small.max_txn_bytes) = (0, 0);
    let kv = kv_memory::open("memory://").await.expect("a store").layer(Claims(small.clone()));
    let without = kv.layer(Encrypt::new(&Keyring::new(1, [1; 32]))).capabilities().clone();
    assert_eq!((without.max_value, without.max_txn_bytes), (small.max_value - SEALED, 0));
}

#[tokio::test]
async fn the_table_of_the_documentation_is_that_of_this_run() {
    let (plain, all) = (plain().await, all().await);
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/layers.md");
    // The package alone is without the page.
    let Ok(page) = fs::read_to_string(page) else { return };
    let table = page.split("<!-- capabilities:begin -->").nth(1).expect("the table begins");
    let table = table.split("<!-- capabilities:end -->").next().expect("the table ends");
    let rows: Vec<Vec<_>> = table
        .lines()
        .filter(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`')).collect())
        .collect();
    let (head, rows) = (&rows[0], &rows[2..]);
    assert_eq!(head.len(), all.len() + 1, "a column a layer");
    for (name, capabilities) in &all {
        let column = head.iter().position(|cell| cell == name).expect("the layer has a column");
        let shown: BTreeSet<_> =
            rows.iter().filter(|row| !row[column].is_empty()).map(|row| row[0]).collect();
        assert_eq!(shown, differing(&plain, capabilities), "the fields that {name} changes");
    }
    let fields: Vec<_> = rows.iter().map(|row| row[0]).collect();
    assert_eq!(fields, FIELDS, "a row a field");
}
