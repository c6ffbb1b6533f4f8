//! Listings and `delete_tree`.

use super::{each, in_order, names, put_all, text};
use crate::{
    Ended, Failure, Trial, Verdict,
    check::{holds, same},
};
use kv_core::{
    Directory, Error, ErrorKind, Item, Key, Kv, Listing,
    driver::{Cursor, Deadline, ListOptions, ReadOptions, WriteOptions},
};
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

cases! {
    "list/order": "entries come in ascending byte order of their keys, with value and version" => order,
    "list/missing": "a directory that is not there is empty, not an error" => missing,
    "list/children": "the immediate children, keys and directories told apart, in order; a name that is both gives two" => children,
    "list/children-deep": "a large directory among the children counts once, and hides no other" => children_deep,
    "list/keys-only": "keys without values, in the same order" => keys_only,
    "list/limit": "a limit cuts the listing, in every form" => limit,
    "list/start-after": "a listing goes on behind a key or a directory, which need not be there" => start_after,
    "list/start-after-children": "children go on behind a key or a directory" => start_after_children,
    "list/pages": "more than 1,000 keys come whole, once each, in order, in every form" => pages,
    "list/large-values": "a listing of many large values comes whole" => large_values,
    "list/concurrent": "while others write, a key present throughout appears once, a key absent throughout never" => concurrent,
    "list/one-moment": "a listing shows one moment, where the backend says so" => one_moment,
    "list/left": "a listing that is not read to its end leaves the handle as it was" => left,
    "list/cursor": "a cursor of another directory, or of another store, shows nothing from outside of this one, and its refusal says what to do" => cursor,
    "delete_tree/below": "every descendant goes, at any depth, and nothing else" => tree_below,
    "delete_tree/missing": "a directory that is not there is no error, and counts nothing" => tree_missing,
    "delete_tree/count": "the count is that of the keys, where it is declared" => tree_count,
    "delete_tree/many": "more than 1,000 keys go" => tree_many,
    "delete_tree/again": "keys can be made anew at once, and the call made again" => tree_again,
    "delete_tree/atomic": "a reader sees all of it or nothing, where the backend says that it is one step" => tree_atomic,
    "delete_tree/cursor": "a cursor of another directory, or of another store, deletes nothing outside of this one" => tree_cursor,
}

async fn order(t: Trial) -> Verdict {
    let kv = t.open().await?;
    let keys =
        ["b", "a", "a/b", "a!", "a-b", "a.b", "a0", "B", "z/é", "z/e", "z/😀", "z/\u{ffee}", "aa", "10", "9"];
    put_all(&kv, keys).await?;
    let listed = kv.list("").await?;
    let found: Vec<_> = listed.iter().map(|e| e.key.to_string()).collect();
    same("the order", found, in_order(keys))?;
    for entry in listed {
        same("the value", entry.text(), Some(entry.key.as_str()))?;
        same("the entry by get", kv.get(&entry.key).await?, Some(entry))?;
    }
    Ok(Ended::Kept)
}

async fn missing(t: Trial) -> Verdict {
    let kv = t.open().await?;
    same("the listing of the empty root", names(&kv, "").await?, Vec::<String>::new())?;
    put_all(&kv, ["a/b"]).await?;
    for directory in ["none", "a/b", "a/c", "b"] {
        same(format!("the listing of {directory}"), names(&kv, directory).await?, Vec::<String>::new())?;
        same("its children", places(kv.list(directory).children()).await?, Vec::<String>::new())?;
    }
    Ok(Ended::Kept)
}

/// Returns the positions of all items, in the order in which they came; a directory ends with a
/// slash.
async fn places(mut listing: Listing<Item>) -> kv_core::Result<Vec<String>> {
    let mut places = Vec::new();
    while let Some(item) = listing.next().await {
        places.push(item?.position().start());
    }
    Ok(places)
}

/// A tree in which `d/both` is a key and a directory; other names sort between the two.
const TREE: [&str; 8] =
    ["d/a", "d/both", "d/both!", "d/both.x/y", "d/both/1", "d/both/2/3", "d/deep/er/est", "d/z"];
const CHILDREN: [&str; 7] = ["d/a", "d/both", "d/both!", "d/both.x/", "d/both/", "d/deep/", "d/z"];

async fn children(t: Trial) -> Verdict {
    let kv = t.open().await?;
    put_all(&kv, TREE).await?;
    put_all(&kv, ["e/x"]).await?;
    same("the children of d", places(kv.list("d").children()).await?, CHILDREN)?;
    same("the children of the root", places(kv.list("").children()).await?, ["d/", "e/"])?;
    same("those of d/both", places(kv.list("d/both").children()).await?, ["d/both/1", "d/both/2/"])?;
    let mut items = kv.list("d").children();
    while let Some(item) = items.next().await {
        if let Item::Entry(entry) = item? {
            same("the entry by get", kv.get(&entry.key).await?, Some(entry))?;
        }
    }
    Ok(Ended::Kept)
}

async fn children_deep(t: Trial) -> Verdict {
    let kv = t.open().await?;
    put_all(&kv, (0..250).map(|n| format!("d/big/{n:03}"))).await?;
    put_all(&kv, (0..120).map(|n| format!("d/small{n:03}/x"))).await?;
    put_all(&kv, ["d/a", "d/z"]).await?;
    let small = (0..120).map(|n| format!("d/small{n:03}/"));
    let expected: Vec<_> =
        ["d/a".to_owned(), "d/big/".to_owned()].into_iter().chain(small).chain(["d/z".to_owned()]).collect();
    same("the children", places(kv.list("d").children()).await?, expected)?;
    Ok(Ended::Kept)
}

async fn keys_only(t: Trial) -> Verdict {
    let kv = t.open().await?;
    put_all(&kv, TREE).await?;
    same("the keys", names(&kv, "d").await?, TREE)?;
    let mut children = kv.list("d").child_keys();
    let mut found = Vec::new();
    while let Some(item) = children.next().await {
        let item = item?;
        holds(format!("{item:?} has no value"), !matches!(item, Item::Entry(_)))?;
        found.push(item.position().start());
    }
    same("the children", found, CHILDREN)?;
    Ok(Ended::Kept)
}

async fn limit(t: Trial) -> Verdict {
    let kv = t.open().await?;
    put_all(&kv, TREE).await?;
    for most in [0, 1, 3, TREE.len(), TREE.len() + 1, usize::MAX] {
        let cut = &TREE[..most.min(TREE.len())];
        let entries: Vec<_> =
            kv.list("d").limit(most).await?.into_iter().map(|e| e.key.to_string()).collect();
        same(format!("at most {most} entries"), entries, cut)?;
        let mut keys = kv.list("d").limit(most).keys();
        let mut found = Vec::new();
        while let Some(key) = keys.next().await {
            found.push(key?.to_string());
        }
        same(format!("at most {most} keys"), found, cut)?;
        let children = places(kv.list("d").limit(most).children()).await?;
        same(format!("at most {most} children"), children, &CHILDREN[..most.min(CHILDREN.len())])?;
    }
    Ok(Ended::Kept)
}

async fn start_after(t: Trial) -> Verdict {
    let kv = t.open().await?;
    put_all(&kv, TREE).await?;
    put_all(&kv, ["c", "e"]).await?;
    let behind_key =
        ["d/a", "d/both", "d/both/2/3", "d/z", "d", "c", "e", "d/both/", "d/m", "d/both/0", "d/é"];
    for place in behind_key {
        let place = Key::parse(place)?;
        let expected: Vec<_> = TREE.into_iter().filter(|key| *key > place.as_str()).collect();
        let found: Vec<_> =
            kv.list("d").start_after(&place).await?.into_iter().map(|e| e.key.to_string()).collect();
        same(format!("behind the key {place:?}"), found, expected)?;
    }
    for place in ["d/both", "d/deep", "d", "c", "e", "d/m", ""] {
        let place = Directory::parse(place)?;
        // The position of the root is before everything.
        let start = if place.is_root() { "/".to_owned() } else { place.start() };
        let expected: Vec<_> = TREE.into_iter().filter(|key| *key > start.as_str()).collect();
        let found: Vec<_> =
            kv.list("d").start_after(&place).await?.into_iter().map(|e| e.key.to_string()).collect();
        same(format!("behind the directory {place:?}"), found, expected)?;
    }
    let rest = kv.list("d").start_after(Key::parse("d/both")?).limit(2).await?;
    let rest: Vec<_> = rest.iter().map(|e| e.key.as_str()).collect();
    same("two behind d/both", rest, ["d/both!", "d/both.x/y"])?;
    Ok(Ended::Kept)
}

async fn start_after_children(t: Trial) -> Verdict {
    let kv = t.open().await?;
    put_all(&kv, TREE).await?;
    // A place may be in a child, before the directory, behind it, or the directory itself.
    for place in ["d/a", "d/both", "d/both/1", "d/both/2/3", "d/both/0", "d/z", "d/m", "c", "d", "e"] {
        let key = Key::parse(place)?;
        let expected: Vec<_> = in_children(|child| child > place);
        let found = places(kv.list("d").start_after(key).children()).await?;
        same(format!("behind the key {place:?}"), found, expected)?;
        let start = format!("{place}/");
        let expected: Vec<_> = in_children(|child| child > start.as_str());
        let found = places(kv.list("d").start_after(Directory::parse(place)?).children()).await?;
        same(format!("behind the directory {place:?}"), found, expected)?;
    }
    // The children are listed one by one, as a program that shows pages does.
    let (mut found, mut last) = (Vec::new(), None::<kv_core::Position>);
    loop {
        let mut list = kv.list("d").limit(1);
        if let Some(last) = &last {
            list = list.start_after(last.clone());
        }
        let Some(item) = list.children().next().await.transpose()? else { break };
        found.push(item.position().start());
        last = Some(item.position());
        holds("the pages end", found.len() <= CHILDREN.len())?;
    }
    same("the children, one a page", found, CHILDREN)?;
    Ok(Ended::Kept)
}

fn in_children(wanted: impl Fn(&str) -> bool) -> Vec<&'static str> {
    CHILDREN.into_iter().filter(|child| wanted(child)).collect()
}

async fn pages(t: Trial) -> Verdict {
    const MANY: usize = 1_250;
    let kv = t.open().await?;
    let keys: Vec<_> = (0..MANY).map(|n| format!("d/{:02}/{n:04}", n % 7)).chain(["d/x".into()]).collect();
    put_all(&kv, keys.clone()).await?;
    put_all(&kv, ["a", "d", "e"]).await?;
    let all = in_order(keys);
    let found: Vec<_> = kv.list("d").await?.into_iter().map(|e| e.key.to_string()).collect();
    holds(format!("all {} entries come, in order, once; found {}", all.len(), found.len()), found == all)?;
    let found = names(&kv, "d").await?;
    holds(format!("all {} keys come, in order, once; found {}", all.len(), found.len()), found == all)?;
    let directories = (0..7).map(|n| format!("d/{n:02}/"));
    let children = directories.chain(["d/x".into()]).collect::<Vec<_>>();
    same("the children", places(kv.list("d").children()).await?, children)?;
    let cut: Vec<_> = kv.list("d").limit(1_100).await?.into_iter().map(|e| e.key.to_string()).collect();
    holds("the first 1,100 come", cut == all[..1_100])?;
    let behind = Key::parse(&all[1_099])?;
    let rest: Vec<_> =
        kv.list("d").start_after(behind).await?.into_iter().map(|e| e.key.to_string()).collect();
    holds("and the rest behind them", rest == all[1_100..])?;
    Ok(Ended::Kept)
}

async fn large_values(t: Trial) -> Verdict {
    const LENGTH: usize = 100 << 10;
    let kv = t.open().await?;
    each((0..40_u8).map(|n| kv.put(format!("d/{n:02}"), vec![n; LENGTH]))).await?;
    let listed = kv.list("d").await?;
    same("how many", listed.len(), 40)?;
    for (n, entry) in (0_u8..).zip(listed) {
        holds(format!("{} comes whole, in its place", entry.key), entry.value == vec![n; LENGTH])?;
    }
    Ok(Ended::Kept)
}

/// A task that writes until it is ended, beside what the case does.
struct Writer {
    count: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<kv_core::Result<()>>,
}

impl Writer {
    fn start<F>(mut write: impl FnMut(usize) -> F + Send + 'static) -> Self
    where
        F: Future<Output = kv_core::Result<()>> + Send,
    {
        let (count, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, stopped) = (count.clone(), stop.clone());
        let task = tokio::spawn(async move {
            while !stopped.load(Ordering::Relaxed) {
                write(counted.load(Ordering::Relaxed)).await?;
                counted.fetch_add(1, Ordering::Relaxed);
                // A store in memory never waits, and would keep the thread.
                tokio::task::yield_now().await;
            }
            Ok(())
        });
        Self { count, stop, task }
    }

    /// Tells whether the writer has written fewer times than `count`, and still runs.
    async fn is_below(&self, count: usize) -> bool {
        tokio::task::yield_now().await;
        self.count.load(Ordering::Relaxed) < count && !self.task.is_finished()
    }

    async fn end(self) -> Result<(), Failure> {
        self.stop.store(true, Ordering::Relaxed);
        Ok(self.task.await??)
    }
}

async fn concurrent(t: Trial) -> Verdict {
    let (kv, writing) = (t.open().await?, t.open().await?);
    let there: BTreeSet<_> = (0..400).map(|n| format!("d/{:04}", n * 3)).collect();
    put_all(&kv, there.iter()).await?;
    // Keys between those that stay come and go, and those that stay are written again.
    let writer = Writer::start(move |n| {
        let kv = writing.clone();
        async move {
            let at = (n * 97) % 400;
            kv.put(format!("d/{:04}", at * 3 + 1), "").await?;
            kv.put(format!("d/{:04}", at * 3), "again").await?;
            kv.delete(format!("d/{:04}", ((n + 200) * 97 % 400) * 3 + 1)).await.map(drop)
        }
    });
    let listings = async {
        let mut listed = 0;
        while listed < 8 || writer.is_below(100).await {
            listed += 1;
            let found = t.soon("a listing while others write", names(&kv, "d")).await??;
            holds("the order is ascending, and nothing comes twice", found.is_sorted_by(|a, b| a < b))?;
            let found: BTreeSet<_> = found.into_iter().collect();
            let missing: Vec<_> = there.difference(&found).collect();
            same("keys that were there throughout and were not listed", missing, Vec::<&String>::new())?;
            let odd = found.iter().filter(|k| k[2..].parse::<usize>().map_or(true, |n| n % 3 == 2)).count();
            same("how many keys were listed that never were", odd, 0)?;
        }
        Ok::<_, Failure>(())
    };
    let listed = listings.await;
    writer.end().await?;
    listed?;
    Ok(Ended::Kept)
}

async fn one_moment(t: Trial) -> Verdict {
    if !t.capabilities().list_snapshot {
        return Ended::ignored("its pages may show different moments, as declared");
    }
    let (kv, writing) = (t.open().await?, t.open().await?);
    put_all(&kv, (0..1_200).map(|n| format!("d/m{n:04}"))).await?;
    kv.put("d/a", "0").await?;
    kv.put("d/z", "0").await?;
    // `a` is written first, then `z`: at every moment `a` is as far as `z`, or one ahead.
    let writer = Writer::start(move |n| {
        let kv = writing.clone();
        async move {
            kv.put("d/a", (n + 1).to_string()).await?;
            kv.put("d/z", (n + 1).to_string()).await.map(drop)
        }
    });
    let listings = async {
        let mut listings = 0;
        while listings < 10 || writer.is_below(100).await {
            listings += 1;
            let listed = t.soon("a listing while another writes", kv.list("d").into_future()).await??;
            let count = |key: &str| -> Result<usize, Failure> {
                let entry = listed.iter().find(|e| e.key.as_str() == key).ok_or("a key is missing")?;
                Ok(entry.text().unwrap_or_default().parse()?)
            };
            let (a, z) = (count("d/a")?, count("d/z")?);
            holds(format!("first and last key are of one moment: {a} and {z}"), a == z || a == z + 1)?;
        }
        Ok::<_, Failure>(())
    };
    let listed = listings.await;
    writer.end().await?;
    listed?;
    Ok(Ended::Kept)
}

async fn left(t: Trial) -> Verdict {
    let kv = t.open().await?;
    put_all(&kv, (0..300).map(|n| format!("d/{n:03}"))).await?;
    for _ in 0..20 {
        let mut listing = kv.list("d").entries();
        let first = listing.next().await.transpose()?;
        same("the first entry", first.map(|e| e.key.to_string()), Some("d/000".to_owned()))?;
    }
    same("how many there are", names(&kv, "d").await?.len(), 300)?;
    Ok(Ended::Kept)
}

/// The keys outside of the directory `c`.
const OUTSIDE_OF_C: [&str; 5] = ["a/1", "a/2", "a/3", "b", "b/1"];

/// Puts keys in `c`, and outside of it; returns a cursor of `a`, and one that no store gives.
async fn strange_cursors(t: &Trial, kv: &Kv) -> Result<[Cursor; 2], Failure> {
    put_all(kv, OUTSIDE_OF_C).await?;
    put_all(kv, ["c/1", "c/2"]).await?;
    let one = ListOptions::default().limit(Some(1)).read(read(t));
    let page = kv.store().list(&whole(kv, "a")?, None, &one).await?;
    let of_another = page.next.ok_or("there is more in `a` than its first page has")?;
    Ok([of_another, Cursor::new(&b"\xff"[..])])
}

/// Returns the directory by its name in the whole tree, as the store takes it.
fn whole(kv: &Kv, directory: &str) -> kv_core::Result<Directory> {
    kv.directory().join_directory(&Directory::parse(directory)?)
}

fn read(t: &Trial) -> ReadOptions {
    ReadOptions::default().deadline(Deadline::after(t.patience()))
}

/// Checks that the refusal of a cursor says what to do.
fn says_what_to_do(e: &Error) -> Result<(), Failure> {
    let fine = e.kind() == ErrorKind::InvalidArgument && e.to_string().contains("begin the listing anew");
    holds(format!("the refusal of a cursor says what to do; found {e:?}"), fine)
}

async fn cursor(t: Trial) -> Verdict {
    let kv = t.open().await?;
    let c = whole(&kv, "c")?;
    for from in strange_cursors(&t, &kv).await? {
        for recursive in [true, false] {
            let list = ListOptions::default().recursive(recursive).read(read(&t));
            match kv.store().list(&c, Some(&from), &list).await {
                Ok(page) => {
                    let shown = page.items.iter().map(|item| item.position().start());
                    let outside: Vec<_> =
                        shown.filter(|place| !place.starts_with(&format!("{}/", c.as_str()))).collect();
                    same("what is shown from outside", outside, Vec::<String>::new())?;
                }
                Err(e) => says_what_to_do(&e)?,
            }
        }
    }
    Ok(Ended::Kept)
}

async fn tree_cursor(t: Trial) -> Verdict {
    let kv = t.open().await?;
    let c = whole(&kv, "c")?;
    for from in strange_cursors(&t, &kv).await? {
        let write = WriteOptions::default().deadline(Deadline::after(t.patience()));
        if let Err(e) = kv.store().delete_tree(&c, Some(&from), &write).await {
            says_what_to_do(&e)?;
        }
        let left: Vec<_> = names(&kv, "").await?.into_iter().filter(|name| !name.starts_with("c/")).collect();
        same("what is left outside", left, OUTSIDE_OF_C)?;
    }
    Ok(Ended::Kept)
}

async fn tree_below(t: Trial) -> Verdict {
    let kv = t.open().await?;
    put_all(&kv, ["d", "d/a", "d/a/b", "d/a/b/c/d/e", "d/x", "dd", "d.x", "e/d/a"]).await?;
    kv.delete_tree("d").await?;
    same("what is left", names(&kv, "").await?, ["d", "d.x", "dd", "e/d/a"])?;
    same("the key of the directory's name", text(&kv, "d").await?, Some("d".to_owned()))?;
    kv.delete_tree("").await?;
    same("what the root's leaves", names(&kv, "").await?, Vec::<String>::new())?;
    Ok(Ended::Kept)
}

async fn tree_missing(t: Trial) -> Verdict {
    let kv = t.open().await?;
    put_all(&kv, ["d"]).await?;
    for directory in ["none", "none/deeper", "d", "d/e"] {
        let count = kv.delete_tree(directory).await?;
        holds(format!("{directory} counts 0, found {count:?}"), count.is_none_or(|n| n == 0))?;
    }
    same("what is left", names(&kv, "").await?, ["d"])?;
    Ok(Ended::Kept)
}

async fn tree_count(t: Trial) -> Verdict {
    let kv = t.open().await?;
    put_all(&kv, TREE).await?;
    let count = kv.delete_tree("d").await?;
    let expected = t.capabilities().delete_tree_counts.then_some(TREE.len() as u64);
    same("the count", count, expected)?;
    Ok(Ended::Kept)
}

async fn tree_many(t: Trial) -> Verdict {
    const MANY: u64 = 1_250;
    let kv = t.open().await?;
    put_all(&kv, (0..MANY).map(|n| format!("d/{}/{n}", n % 9))).await?;
    put_all(&kv, ["d", "d0"]).await?;
    let count = kv.delete_tree("d").await?;
    holds(format!("it counts {MANY}, found {count:?}"), count.is_none_or(|n| n == MANY))?;
    same("what is left", names(&kv, "").await?, ["d", "d0"])?;
    Ok(Ended::Kept)
}

async fn tree_again(t: Trial) -> Verdict {
    let kv = t.open().await?;
    for _ in 0..3 {
        put_all(&kv, ["d/a", "d/b/c"]).await?;
        kv.delete_tree("d").await?;
        same("what is left", names(&kv, "").await?, Vec::<String>::new())?;
        kv.delete_tree("d").await?;
        kv.atomic_put("d/a", "", None).await?;
    }
    Ok(Ended::Kept)
}

async fn tree_atomic(t: Trial) -> Verdict {
    let c = t.capabilities();
    if !c.delete_tree_atomic {
        return Ended::ignored("it goes by batches, as declared");
    }
    if c.max_txn_ops < 2 {
        return Ended::ignored("without transactions nothing tells what two keys are at one moment");
    }
    let (kv, reading) = (t.open().await?, t.open().await?);
    let keys: Vec<_> = (0..200).map(|n| format!("d/{}/{n:03}", n % 5)).collect();
    let (first, last) = ("d/0/000", "d/4/199");
    for _ in 0..5 {
        put_all(&kv, keys.clone()).await?;
        let reader = reading.clone();
        let torn = tokio::spawn(async move {
            loop {
                for (there, gone) in [(first, last), (last, first)] {
                    if reader.transact().when_exists(there).when_missing(gone).await?.is_committed() {
                        return Ok::<_, kv_core::Error>(true);
                    }
                }
                if reader.transact().when_missing(first).when_missing(last).await?.is_committed() {
                    return Ok(false);
                }
            }
        });
        kv.delete_tree("d").await?;
        let torn = t.soon("a reader to see the tree gone", torn).await???;
        holds("a reader sees the first key and the last, or neither", !torn)?;
    }
    Ok(Ended::Kept)
}
