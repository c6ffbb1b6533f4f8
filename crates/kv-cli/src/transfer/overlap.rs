//! Finds out whether two places are one, or one of them lies in the other.

use super::folder::Folder;
use kv_core::{Directory, StoreUrl};
use std::{
    collections::BTreeSet,
    fs,
    path::{self, Path, PathBuf},
};

/// The location of a place, as far as its name tells: two names of one server are two places here.
#[derive(Debug)]
pub(crate) struct Location {
    /// The texts that tell servers, files and tables apart; a cluster has one for each of its
    /// hosts.
    on: BTreeSet<String>,
    /// The directory there: segments, or bytes that all names begin with.
    prefix: String,
}

impl Location {
    /// Returns where the part of a store is; `None` for one that nobody else can open.
    pub(crate) fn of_store(url: &str, part: &Directory) -> Option<Self> {
        let mut url = StoreUrl::parse(url).ok()?;
        let mut take = |name| url.take::<String>(name).ok().flatten().unwrap_or_default();
        let (raw, own) = (take("raw_prefix"), take("prefix"));
        // What has the same server and another of these is another place.
        let apart = ["dc", "ns", "db", "region", "endpoint", "spread", "master"].map(&mut take).join("\n");
        let (scheme, port) = match url.scheme() {
            "etcd" => ("etcd", 2379),
            "consul" => ("consul", 8500),
            "zookeeper" => ("zookeeper", 2181),
            redis if redis.starts_with("redis") => ("redis", 6379),
            other => (other, 0),
        };
        let (hosts, directory) = match scheme {
            "redb" => (vec![whole(Path::new(&url.file())).display().to_string()], own),
            "memory" if url.hosts().is_empty() => return None,
            _ => (url.hosts_or(port), url.prefix().to_owned()),
        };
        let on = hosts.into_iter().map(|host| format!("{scheme}\n{host}\n{apart}")).collect();
        let whole = if raw.is_empty() { kv_core::backend::directory_prefix(directory) } else { raw };
        Some(Self { on, prefix: format!("{whole}{}", part.start()) })
    }

    /// Returns where a folder is.
    pub(crate) fn of_folder(folder: &Folder) -> Self {
        let root = whole(&folder.root);
        Self { on: BTreeSet::from(["folder".to_owned()]), prefix: format!("{}/", root.display()) }
    }

    /// Tells whether what is written to one of the places may be read from the other.
    pub(crate) fn meets(&self, other: &Self) -> bool {
        let is_one_server = !self.on.is_disjoint(&other.on);
        is_one_server && (self.prefix.starts_with(&other.prefix) || other.prefix.starts_with(&self.prefix))
    }
}

/// Returns the path of a file without links and dots, as far as it is there.
fn whole(path: &Path) -> PathBuf {
    let path = path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let there = path.ancestors().find_map(|at| Some((at, fs::canonicalize(at).ok()?)));
    let whole = there.map(|(at, found)| found.join(path.strip_prefix(at).unwrap_or(&path)));
    // A slash at the end is none of its parts.
    whole.unwrap_or(path.clone()).components().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meet(one: &str, other: &str) -> bool {
        let at = |url| Location::of_store(url, &Directory::root());
        at(one).zip(at(other)).is_some_and(|(one, other)| one.meets(&other))
    }

    #[test]
    fn a_place_in_another_is_told_from_one_beside_it() {
        for (one, other) in [
            ("etcd://h/app", "etcd://h/app/sub"),
            ("etcd://h1,h2/", "etcd://h2:2379/app"),
            ("redis://me:secret@h/a", "rediss://h/a/"),
            ("redb:///no/file?prefix=a", "redb:///no/file"),
            ("memory://x", "memory://x"),
        ] {
            assert!(meet(one, other) && meet(other, one), "{one} {other}");
        }
        for (one, other) in [
            ("etcd://h/app", "etcd://h/application"),
            ("etcd://h/app", "etcd://other/app"),
            ("etcd://h/app", "consul://h/app"),
            ("consul://h/app?dc=a", "consul://h/app?dc=b"),
            ("redis://h/a?db=1", "redis://h/a?db=2"),
            ("redb:///no/file", "redb:///no/other"),
            ("memory://", "memory://"),
        ] {
            assert!(!meet(one, other), "{one} {other}");
        }
    }

    #[test]
    fn a_folder_in_another_is_told_from_one_beside_it() {
        let at =
            |path: &str| Location { on: BTreeSet::from(["folder".to_owned()]), prefix: format!("{path}/") };
        assert!(at("/a").meets(&at("/a/b")) && at("/a/b").meets(&at("/a")) && !at("/a").meets(&at("/ab")));
    }
}
