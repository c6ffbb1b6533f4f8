//! Keys: names, directories, prefixes, and the names of other tools.

use super::{Mirror, in_order, names, put_all, snapshot, text, told};
use crate::{
    Ended, Trial, Verdict,
    check::{holds, refused, same, still_held},
};
use kv_core::{Bytes, Condition, ErrorKind, Item, Key, Kv, Watching};

cases! {
    "key.normalised/calls": "`/a//b/` and `a/b` are one key in every call" => calls,
    "key.normalised/answers": "keys come back in the normal form, from every call" => answers,
    "key.normalised/directories": "`/a//b/` and `a/b` are one directory in every call" => directories,
    "key.normalised/nothing-more": "names that differ by case or by Unicode's normal forms are different keys" => different,
    "key.refused/names": "a bad name is InvalidKey in every call, and nothing is written" => bad_names,
    "key.refused/length": "a name of more than 512 bytes as given is InvalidKey" => too_long,
    "key.refused/longest": "names of 512 bytes work in every call, of one segment and of many" => longest,
    "key.refused/nothing-else": "every other character works in keys and directories, and aliases no other" => odd_names,
    "dir.segments/list": "`list(\"app\")` shows what is below `app`, never `app` itself or `application/x`" => list_segments,
    "dir.segments/delete_tree": "`delete_tree(\"app\")` deletes what is below `app` and nothing else" => delete_segments,
    "dir.segments/watch_tree": "`watch_tree(\"app\")` tells of what is below `app` and of nothing else" => watch_segments,
    "dir.segments/root": "the root is the empty directory, by any spelling" => root,
    "dir.free/any-order": "a key holds a value and has children, whichever was written first" => any_order,
    "dir.free/parent": "a parent without a value of its own is not a key" => parent_is_no_key,
    "dir.free/delete-parent": "deleting a key leaves its children, and deleting the last child leaves the key" => delete_parent,
    "dir.free/nothing-left": "directories are not left behind when their last key goes" => nothing_left,
    "dir.free/empty-value": "an empty value makes a key also where there are children" => empty_parent,
    "dir.free/expiring": "children of an expiring key, and a TTL for a key with children, work or are Unsupported, with nothing written" => expiring,
    "key.isolated/prefixes": "a store sees nothing outside its prefix, and deletes nothing there" => prefixes,
    "key.isolated/bytes": "the prefix is used byte for byte" => prefix_bytes,
    "key.isolated/internals": "what the backend keeps for itself is not listed, counted or watched as data" => internals,
    "key.isolated/delete_tree": "`delete_tree` of the root leaves locks and versions alone" => internals_stay,
    "foreign.skipped/names": "names of other tools that are not in normal form are skipped, and alias no key" => foreign_names,
    "foreign.skipped/types": "names of other tools that hold another type are skipped" => foreign_types,
}

async fn calls(t: Trial) -> Verdict {
    let kv = t.open().await?;
    let version = kv.put("/a//b/", "1").await?.version;
    same("get of a/b after a put of /a//b/", text(&kv, "a/b").await?, Some("1".to_owned()))?;
    same("get of //a/b", text(&kv, "//a/b").await?, Some("1".to_owned()))?;
    holds("a/b// exists", kv.exists("a/b//").await?)?;
    refused("creating a//b", kv.atomic_put("a//b", "2", None).await, ErrorKind::KeyExists)?;
    let version = kv.atomic_put("/a/b", "2", version).await?.version;
    let both = kv.get_many(["a/b", "a///b"]).await?;
    same("get_many of two spellings", both[0].clone(), both[1].clone())?;
    kv.atomic_delete("a/b/", version).await?;
    kv.put("a/b", "3").await?;
    holds("delete of a//b tells that the key was there", kv.delete("a//b").await?)?;
    same("what is listed in the end", names(&kv, "").await?, Vec::<String>::new())?;
    Ok(Ended::Kept)
}

async fn answers(t: Trial) -> Verdict {
    let kv = t.open().await?;
    kv.put("//x///y//", "1").await?;
    same("the key from get", kv.get("/x/y").await?.map(|e| e.key.to_string()), Some("x/y".to_owned()))?;
    let many = kv.get_many(["x//y"]).await?;
    same("the key from get_many", many[0].as_ref().map(|e| e.key.as_str()), Some("x/y"))?;
    same("the keys from list", names(&kv, "").await?, ["x/y"])?;
    if t.capabilities().watch != Watching::Unsupported {
        same("the keys from a watch", snapshot(&t, &mut kv.watch("/x//y").await?).await?.names(), ["x/y"])?;
        same("the keys from a tree", snapshot(&t, &mut kv.watch_tree("/x/").await?).await?.names(), ["x/y"])?;
    }
    Ok(Ended::Kept)
}

async fn directories(t: Trial) -> Verdict {
    let kv = t.open().await?;
    put_all(&kv, ["a/b/c", "a/d"]).await?;
    for spelling in ["a/b", "/a/b", "a//b/", "//a///b//"] {
        same(format!("list of {spelling:?}"), names(&kv, spelling).await?, ["a/b/c"])?;
    }
    kv.delete_tree("//a//b/").await?;
    same("what delete_tree of //a//b/ left", names(&kv, "").await?, ["a/d"])?;
    Ok(Ended::Kept)
}

async fn different(t: Trial) -> Verdict {
    let kv = t.open().await?;
    let keys = ["Name", "name", "NAME", "caf\u{e9}", "cafe\u{301}", "\u{212b}", "\u{c5}", "\u{ff21}", "A"];
    put_all(&kv, keys).await?;
    for key in keys {
        same(format!("get of {key:?}"), text(&kv, key).await?, Some(key.to_owned()))?;
    }
    same("the listing", names(&kv, "").await?, in_order(keys))?;
    Ok(Ended::Kept)
}

async fn bad_names(t: Trial) -> Verdict {
    let kv = t.open().await?;
    kv.put("good", "1").await?;
    let bad = [
        ".",
        "..",
        ".kv",
        "a/./b",
        "a/../b",
        "a/..",
        ".kv/x",
        "a/.kv/b",
        " a",
        "a ",
        "a/ b",
        "a /b",
        "\ta",
        "a\n",
        "a\0b",
        "a\u{1}b",
        "a\u{7f}b",
        "a\u{85}b",
        "\u{fffe}",
        "a\u{ffff}",
        "\u{fdd0}x",
        "x\u{fdef}",
        "\u{1fffe}",
        "\u{10ffff}",
        "a/\u{a0}",
        "\u{2003}a",
        "\u{3000}",
    ];
    for name in bad {
        every_call(&t, &kv, name).await?;
        refused(format!("list of {name:?}"), kv.list(name).await, ErrorKind::InvalidKey)?;
        refused(format!("delete_tree of {name:?}"), kv.delete_tree(name).await, ErrorKind::InvalidKey)?;
        refused(format!("adopt of {name:?}"), kv.adopt(name).await, ErrorKind::InvalidKey)?;
    }
    for empty in ["", "/", "///"] {
        every_call(&t, &kv, empty).await?;
    }
    same("what is there in the end", names(&kv, "").await?, ["good"])?;
    Ok(Ended::Kept)
}

/// Checks that every call with a key or a lock's name refuses this name.
async fn every_call(t: &Trial, kv: &Kv, name: &str) -> Result<(), crate::Failure> {
    let version = kv.put("good", "1").await?.version;
    let of = |call: &str| format!("{call} of {name:?}");
    refused(of("get"), kv.get(name).await, ErrorKind::InvalidKey)?;
    refused(of("get_many"), kv.get_many(["good", name]).await, ErrorKind::InvalidKey)?;
    refused(of("exists"), kv.exists(name).await, ErrorKind::InvalidKey)?;
    refused(of("put"), kv.put(name, "x").await, ErrorKind::InvalidKey)?;
    refused(of("atomic_put"), kv.atomic_put(name, "x", None).await, ErrorKind::InvalidKey)?;
    refused(of("atomic_put at a version"), kv.atomic_put(name, "x", version).await, ErrorKind::InvalidKey)?;
    refused(of("delete"), kv.delete(name).await, ErrorKind::InvalidKey)?;
    refused(of("atomic_delete"), kv.atomic_delete(name, version).await, ErrorKind::InvalidKey)?;
    refused(of("watch"), kv.watch(name).await, ErrorKind::InvalidKey)?;
    refused(of("lock"), kv.new_lock(name).try_acquire().await, ErrorKind::InvalidKey)?;
    refused(of("lock_holder"), kv.lock_holder(name).await, ErrorKind::InvalidKey)?;
    if t.capabilities().max_txn_ops > 1 {
        let transact = kv.transact().then(kv.put("good", "2")).then(kv.put(name, "x")).await;
        refused(of("transact"), transact, ErrorKind::InvalidKey)?;
        let transact = kv.transact().when_missing(name).then(kv.put("good", "2")).await;
        refused(of("a condition"), transact, ErrorKind::InvalidKey)?;
        same("the key beside the bad one", text(kv, "good").await?, Some("1".to_owned()))?;
    }
    Ok(())
}

async fn too_long(t: Trial) -> Verdict {
    let kv = t.open().await?;
    for name in ["k".repeat(513), format!("/{}", "k".repeat(512)), "é".repeat(257), "a/".repeat(257)] {
        every_call(&t, &kv, &name).await?;
        refused("list of a long name", kv.list(&name).await, ErrorKind::InvalidKey)?;
    }
    same("what is there in the end", names(&kv, "").await?, ["good"])?;
    Ok(Ended::Kept)
}

async fn longest(t: Trial) -> Verdict {
    let kv = t.open().await?;
    let many = format!("{}bc", "a/".repeat(255));
    for name in ["k".repeat(512), "é".repeat(256), "😀".repeat(128), many] {
        let name = name.as_str();
        same("the length", name.len(), 512)?;
        let version = kv.put(name, "1").await?.version;
        let version = kv.atomic_put(name, "2", version).await?.version;
        same("get", text(&kv, name).await?, Some("2".to_owned()))?;
        same("list", names(&kv, "").await?, [name])?;
        if t.capabilities().max_txn_ops > 1 {
            let done = kv.transact().when_version(name, version).then(kv.put(name, "3")).await?;
            holds("a transaction on the longest name happens", done.is_committed())?;
        }
        if t.capabilities().watch != Watching::Unsupported {
            same("watch", snapshot(&t, &mut kv.watch(name).await?).await?.names(), [name])?;
        }
        if t.capabilities().lock.is_some() {
            let guard = kv.new_lock(name).try_acquire().await?;
            holds("a lock of the longest name is got", guard.is_some())?;
        }
        holds("delete finds it", kv.delete(name).await?)?;
    }
    Ok(Ended::Kept)
}

/// Segments that servers, shells, URLs, globs or escapes might misread, and reserved words.
const ODD: &[&str] = &[
    "a b",
    "a  b",
    "%",
    "%%",
    "%2F",
    "%00",
    "%41",
    "A",
    "%25",
    "%252F",
    "a%2Fb",
    "?",
    "a?b=c",
    "#",
    "a#b",
    "*",
    "a*",
    "**",
    "[a-c]",
    "{x}",
    "{a}b{c}",
    "\\",
    "a\\b",
    "\"",
    "'",
    "`",
    "$HOME",
    "$(x)",
    "&",
    "a&b",
    ";",
    "|",
    "<x>",
    "!",
    "@",
    ":",
    "a:b",
    ",",
    "=",
    "+",
    "~",
    "^",
    "(",
    ")",
    "-",
    "--",
    "-a",
    "_",
    "__proto__",
    "...",
    "..a",
    "a..",
    ".a",
    "a.",
    "kv",
    ".kvx",
    "x.kv",
    ".KV",
    "null",
    "nil",
    "true",
    "0",
    "00",
    "zookeeper",
    "config",
    "é",
    "e\u{301}",
    "日本語",
    "😀",
    "👩\u{200d}🚀",
    "a\u{200b}b",
    "\u{feff}",
    "\u{fffd}",
    "\u{e000}",
    "\u{f8ff}",
    "\u{fff0}",
    "\u{10000}",
    "\u{d7ff}",
    "ﬀ",
    "ß",
    "\u{202e}abc",
    "a\u{a0}b",
    "مرحبا",
    "\u{ff0f}",
    "x\u{2028}y",
];

async fn odd_names(t: Trial) -> Verdict {
    let kv = t.open().await?;
    let odd = ODD;
    put_all(&kv, odd.iter().map(|name| format!("d/{name}"))).await?;
    put_all(&kv, odd.iter().map(|name| format!("d/{name}/x {name}"))).await?;
    for name in odd {
        let (key, child) = (format!("d/{name}"), format!("d/{name}/x {name}"));
        same(format!("get of {key:?}"), text(&kv, &key).await?, Some(key.clone()))?;
        holds(format!("{child:?} exists"), kv.exists(&child).await?)?;
        same(format!("list of {key:?}"), names(&kv, &key).await?, [child])?;
    }
    let all = odd.iter().flat_map(|name| [format!("d/{name}"), format!("d/{name}/x {name}")]);
    let all = in_order(all);
    same("the listing", names(&kv, "d").await?, all.clone())?;
    if t.capabilities().watch != Watching::Unsupported {
        same("the watch", snapshot(&t, &mut kv.watch_tree("d").await?).await?.names(), all)?;
    }
    for name in odd {
        kv.delete_tree(format!("d/{name}")).await?;
        holds(format!("d/{name} is still there"), kv.delete(format!("d/{name}")).await?)?;
    }
    same("what is left", names(&kv, "").await?, Vec::<String>::new())?;
    Ok(Ended::Kept)
}

/// Names that sort closely around those below the directory `app`; the key `app` is one of them.
const AROUND: [&str; 9] =
    ["ap", "app", "app!x", "app-x/y", "app.d/x", "app0", "app\u{e9}", "application/x", "apq/app/x"];
const BELOW: [&str; 4] = ["app/!", "app/a", "app/a/b", "app/\u{10000}"];

async fn list_segments(t: Trial) -> Verdict {
    let kv = t.open().await?;
    put_all(&kv, AROUND.iter().chain(&BELOW).copied()).await?;
    same("list of app", names(&kv, "app").await?, in_order(BELOW))?;
    same("list of app/a", names(&kv, "app/a").await?, ["app/a/b"])?;
    same("list of ap", names(&kv, "ap").await?, Vec::<String>::new())?;
    same("list of a directory that is not there", names(&kv, "appl").await?, Vec::<String>::new())?;
    Ok(Ended::Kept)
}

async fn delete_segments(t: Trial) -> Verdict {
    let kv = t.open().await?;
    put_all(&kv, AROUND.iter().chain(&BELOW).copied()).await?;
    let count = kv.delete_tree("app").await?;
    holds(format!("the count is 4, found {count:?}"), count.is_none_or(|n| n == 4))?;
    same("what is left", names(&kv, "").await?, in_order(AROUND))?;
    Ok(Ended::Kept)
}

async fn watch_segments(t: Trial) -> Verdict {
    if t.capabilities().watch == Watching::Unsupported {
        return Ended::ignored("the backend has no watches");
    }
    let kv = t.open().await?;
    put_all(&kv, AROUND.iter().chain(&BELOW[..2]).copied()).await?;
    let mut watch = kv.watch_tree("app").await?;
    let mut mirror: Mirror = snapshot(&t, &mut watch).await?;
    same("what is told first", mirror.names(), in_order(BELOW[..2].iter().copied()))?;
    put_all(&kv, AROUND.iter().chain(&BELOW[2..]).copied()).await?;
    let last = kv.put("app/last", "").await?.version;
    told(&t, &mut watch, "app/last", last).await?.into_iter().for_each(|event| mirror.fold(event));
    // Only the changes of one key are told in order.
    while mirror.names().len() <= BELOW.len() {
        mirror.fold(t.soon("what is below `app`", watch.event()).await??);
    }
    same("what is told then", mirror.names(), in_order(BELOW.iter().copied().chain(["app/last"])))?;
    Ok(Ended::Kept)
}

async fn root(t: Trial) -> Verdict {
    let kv = t.open().await?;
    put_all(&kv, ["a", "b/c"]).await?;
    for spelling in ["", "/", "//"] {
        same(format!("list of {spelling:?}"), names(&kv, spelling).await?, ["a", "b/c"])?;
    }
    kv.delete_tree("/").await?;
    same("what delete_tree of / leaves", names(&kv, "").await?, Vec::<String>::new())?;
    Ok(Ended::Kept)
}

async fn any_order(t: Trial) -> Verdict {
    let kv = t.open().await?;
    put_all(&kv, ["p"]).await?;
    put_all(&kv, ["p/c"]).await?;
    put_all(&kv, ["p/c/d/e"]).await?;
    put_all(&kv, ["q/c/d/e"]).await?;
    put_all(&kv, ["q/c"]).await?;
    put_all(&kv, ["q"]).await?;
    let all = ["p", "p/c", "p/c/d/e", "q", "q/c", "q/c/d/e"];
    same("the listing", names(&kv, "").await?, all)?;
    for key in all {
        same(format!("get of {key}"), text(&kv, key).await?, Some(key.to_owned()))?;
    }
    Ok(Ended::Kept)
}

async fn parent_is_no_key(t: Trial) -> Verdict {
    let kv = t.open().await?;
    let other = kv.put("other", "").await?.version;
    kv.put("p/q/r", "1").await?;
    for parent in ["p", "p/q"] {
        same(format!("get of {parent}"), text(&kv, parent).await?, None)?;
        same(format!("get_many of {parent}"), kv.get_many([parent]).await?, vec![None])?;
        holds(format!("{parent} does not exist"), !kv.exists(parent).await?)?;
        holds(format!("delete of {parent} finds nothing"), !kv.delete(parent).await?)?;
        refused("replacing it", kv.atomic_put(parent, "", other).await, ErrorKind::KeyModified)?;
        refused("deleting it at a version", kv.atomic_delete(parent, other).await, ErrorKind::KeyModified)?;
    }
    if t.capabilities().max_txn_ops > 1 {
        let done = kv.transact().when(Condition::Exists(Key::parse("p")?)).then(kv.put("x", "")).await?;
        holds("the condition that it exists is not true", !done.is_committed())?;
        let done = kv.transact().when_missing("p").then(kv.put("x", "")).await?;
        holds("the condition that it is missing is true", done.is_committed())?;
    }
    kv.atomic_put("p/q", "made", None).await?;
    same("get of p/q once made", text(&kv, "p/q").await?, Some("made".to_owned()))?;
    same("get of p/q/r", text(&kv, "p/q/r").await?, Some("1".to_owned()))?;
    Ok(Ended::Kept)
}

async fn delete_parent(t: Trial) -> Verdict {
    let kv = t.open().await?;
    put_all(&kv, ["p", "p/c"]).await?;
    holds("delete of p finds it", kv.delete("p").await?)?;
    holds("p is gone", !kv.exists("p").await?)?;
    same("its child", text(&kv, "p/c").await?, Some("p/c".to_owned()))?;
    holds("a second delete of p finds nothing", !kv.delete("p").await?)?;
    put_all(&kv, ["p"]).await?;
    holds("delete of p/c finds it", kv.delete("p/c").await?)?;
    same("p after its last child went", text(&kv, "p").await?, Some("p".to_owned()))?;
    Ok(Ended::Kept)
}

async fn nothing_left(t: Trial) -> Verdict {
    let kv = t.open().await?;
    put_all(&kv, ["a/b/c/d", "a/b/e"]).await?;
    holds("delete finds a/b/c/d", kv.delete("a/b/c/d").await?)?;
    same("the children of a/b", children(&kv, "a/b").await?, ["a/b/e"])?;
    holds("delete finds a/b/e", kv.delete("a/b/e").await?)?;
    same("the children of the root", children(&kv, "").await?, Vec::<String>::new())?;
    put_all(&kv, ["a/b/c/d", "x"]).await?;
    kv.delete_tree("a/b").await?;
    same("the children of the root after delete_tree", children(&kv, "").await?, ["x"])?;
    Ok(Ended::Kept)
}

/// Lists the positions of the immediate children.
async fn children(kv: &Kv, directory: &str) -> kv_core::Result<Vec<String>> {
    let (mut children, mut names) = (kv.list(directory).children(), Vec::new());
    while let Some(item) = children.next().await {
        names.push(Item::position(&item?).start());
    }
    Ok(names)
}

async fn empty_parent(t: Trial) -> Verdict {
    let kv = t.open().await?;
    kv.put("p", "").await?;
    kv.put("p/c", "").await?;
    kv.put("q/c", "").await?;
    kv.put("q", "").await?;
    for key in ["p", "p/c", "q", "q/c"] {
        same(format!("get of {key}"), text(&kv, key).await?, Some(String::new()))?;
        holds(format!("{key} exists"), kv.exists(key).await?)?;
    }
    same("the listing", names(&kv, "").await?, ["p", "p/c", "q", "q/c"])?;
    kv.put("p", "full").await?;
    kv.put("p", "").await?;
    kv.delete("p/c").await?;
    same("p, empty again, without its child", text(&kv, "p").await?, Some(String::new()))?;
    kv.delete("q").await?;
    same("the listing in the end", names(&kv, "").await?, ["p", "q/c"])?;
    Ok(Ended::Kept)
}

async fn expiring(t: Trial) -> Verdict {
    let kv = t.open().await?;
    let Some(range) = &t.capabilities().ttl else {
        return Ended::ignored("keys do not expire on this backend");
    };
    let ttl = range.greatest.min(std::time::Duration::from_secs(60));
    if t.capabilities().children_of_expiring {
        kv.put("p", "").ttl(ttl).await?;
        kv.put("p/c", "").await?;
        kv.put("q/c", "").await?;
        kv.put("q", "").ttl(ttl).await?;
        same("the listing", names(&kv, "").await?, ["p", "p/c", "q", "q/c"])?;
        return Ok(Ended::Kept);
    }
    let version = kv.put("p", "old").ttl(ttl).await?.version;
    kv.put("q", "old").await?;
    kv.put("q/c", "child").await?;
    refused("a child of an expiring key", kv.put("p/c", "").await, ErrorKind::Unsupported)?;
    refused("a grandchild", kv.put("p/c/d", "").await, ErrorKind::Unsupported)?;
    refused("making a child", kv.atomic_put("p/c", "", None).await, ErrorKind::Unsupported)?;
    refused("a TTL for a key with children", kv.put("q", "new").ttl(ttl).await, ErrorKind::Unsupported)?;
    if t.capabilities().max_txn_ops > 0 {
        let both = kv.transact().then(kv.put("x", "")).then(kv.put("p/c", "")).await;
        refused("a child in a transaction", both, ErrorKind::Unsupported)?;
    }
    same("what is there", names(&kv, "").await?, ["p", "q", "q/c"])?;
    same("q", text(&kv, "q").await?, Some("old".to_owned()))?;
    same("the version of p", kv.get("p").await?.map(|e| e.version), Some(version))?;
    // A key that was made permanent is a directory as any other.
    kv.put("p", "new").await?;
    kv.put("p/c", "").await?;
    same("what is there in the end", names(&kv, "").await?, ["p", "p/c", "q", "q/c"])?;
    Ok(Ended::Kept)
}

async fn prefixes(t: Trial) -> Verdict {
    let (one, other) = (t.open().await?, t.open_elsewhere().await?);
    put_all(&one, ["a", "b/c"]).await?;
    put_all(&other, ["x"]).await?;
    same("get of the other's key", text(&one, "x").await?, None)?;
    same("the one's listing", names(&one, "").await?, ["a", "b/c"])?;
    same("the other's listing", names(&other, "").await?, ["x"])?;
    if t.capabilities().watch != Watching::Unsupported {
        same("the other's watch", snapshot(&t, &mut other.watch_tree("").await?).await?.names(), ["x"])?;
    }
    other.delete_tree("").await?;
    same("the one's listing after the other's delete_tree", names(&one, "").await?, ["a", "b/c"])?;
    Ok(Ended::Kept)
}

async fn prefix_bytes(t: Trial) -> Verdict {
    let Some(foreign) = t.harness().foreign() else {
        return Ended::ignored("the harness has no foreign tool");
    };
    let kv = t.open().await?;
    kv.put("a/b", "1").await?;
    let name = format!("{}a/b", t.prefix());
    same(format!("what the server holds under {name:?}"), foreign.get(&name).await, Some(Bytes::from("1")))?;
    Ok(Ended::Kept)
}

async fn internals(t: Trial) -> Verdict {
    let kv = t.open().await?;
    let c = t.capabilities();
    put_all(&kv, ["a", "b/c"]).await?;
    let guard = match c.lock {
        Some(_) => Some(kv.new_lock("a").value("me").acquire().await?),
        None => None,
    };
    let lease = match &c.lease {
        Some(range) => Some(kv.lease(range.least.max(std::time::Duration::from_secs(10))).await?),
        None => None,
    };
    if c.ttl.is_some() {
        kv.put("t", "t").ttl(t.short_ttl(std::time::Duration::from_secs(30))).await?;
    } else {
        kv.put("t", "t").await?;
    }
    let all = ["a", "b/c", "t"];
    same("the listing", names(&kv, "").await?, all)?;
    same("the children", children(&kv, "").await?, ["a", "b/", "t"])?;
    if c.watch != Watching::Unsupported {
        same("the watch", snapshot(&t, &mut kv.watch_tree("").await?).await?.names(), all)?;
    }
    drop((guard, lease));
    let count = kv.delete_tree("").await?;
    holds(format!("delete_tree counts 3, found {count:?}"), count.is_none_or(|n| n == 3))?;
    Ok(Ended::Kept)
}

async fn internals_stay(t: Trial) -> Verdict {
    let kv = t.open().await?;
    let stale = kv.put("k", "").await?.version;
    if t.capabilities().lock.is_none() {
        kv.delete_tree("").await?;
        kv.put("k", "").await?;
        refused("the version from before", kv.atomic_put("k", "", stale).await, ErrorKind::KeyModified)?;
        return Ok(Ended::Kept);
    }
    let guard = kv.new_lock("k").value("me").acquire().await?;
    let token = guard.token();
    kv.delete_tree("").await?;
    still_held("the lock is still held", &guard)?;
    let holder = kv.lock_holder("k").await?;
    same("the holder", holder.map(|h| (h.token, h.value)), Some((token, Bytes::from("me"))))?;
    let second = t.open().await?.new_lock("k").try_acquire().await?;
    holds("nobody else gets the lock", second.is_none())?;
    holds("it was still held at its release", guard.release().await?)?;
    kv.delete_tree("").await?;
    let next = kv.new_lock("k").acquire().await?.token();
    holds(format!("the token grows over delete_tree: {token}, then {next}"), next > token)?;
    kv.put("k", "").await?;
    refused("the version from before", kv.atomic_put("k", "", stale).await, ErrorKind::KeyModified)?;
    Ok(Ended::Kept)
}

async fn foreign_names(t: Trial) -> Verdict {
    let Some(foreign) = t.harness().foreign() else {
        return Ended::ignored("the harness has no foreign tool");
    };
    let kv = t.open().await?;
    put_all(&kv, ["a", "d/b"]).await?;
    let long = "l".repeat(1001);
    for name in ["/lead", "double//slash", "trail/", "d/./dot", "d/../up", " space", "end ", "d/.kv/x", &long]
    {
        foreign.put(&format!("{}{name}", t.prefix()), Bytes::from("theirs")).await;
    }
    kv.adopt("").await?;
    same("the listing", names(&kv, "").await?, ["a", "d/b"])?;
    for key in ["lead", "double/slash", "trail", "d/dot", "up", "space", "end", "d/x"] {
        same(format!("get of {key:?}"), text(&kv, key).await?, None)?;
    }
    if t.capabilities().watch != Watching::Unsupported {
        same("the watch", snapshot(&t, &mut kv.watch_tree("").await?).await?.names(), ["a", "d/b"])?;
    }
    kv.put("trail", "ours").await?;
    same("our own key beside theirs", text(&kv, "trail").await?, Some("ours".to_owned()))?;
    kv.delete_tree("").await?;
    same("the listing after delete_tree", names(&kv, "").await?, Vec::<String>::new())?;
    Ok(Ended::Kept)
}

async fn foreign_types(t: Trial) -> Verdict {
    let Some(foreign) = t.harness().foreign() else {
        return Ended::ignored("the harness has no foreign tool");
    };
    let kv = t.open().await?;
    put_all(&kv, ["a"]).await?;
    if !foreign.put_other_type(&format!("{}other", t.prefix())).await {
        return Ended::ignored("the server has one type of data");
    }
    kv.adopt("").await?;
    same("the listing", names(&kv, "").await?, ["a"])?;
    same("get", text(&kv, "other").await?, None)?;
    holds("exists says no", !kv.exists("other").await?)?;
    same("get_many", kv.get_many(["other", "a"]).await?.iter().filter(|e| e.is_some()).count(), 1)?;
    if t.capabilities().watch != Watching::Unsupported {
        same("the watch", snapshot(&t, &mut kv.watch_tree("").await?).await?.names(), ["a"])?;
    }
    Ok(Ended::Kept)
}
