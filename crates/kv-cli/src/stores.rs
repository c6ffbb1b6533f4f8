//! The stores: by their URLs, by names from a file, and the one that needs neither.

use crate::{
    exit::{Failure, Run},
    file_turn, log,
};
use kv_core::{Error, ErrorKind, Kv, Registry, Result, StoreUrl};
use std::{
    env, fs,
    future::Future,
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// The pause between two attempts to open a file that another process has open.
const PAUSE: Duration = Duration::from_millis(50);
/// The time that a backend has beyond that of an opening, to tell why it failed.
const SLACK: Duration = Duration::from_secs(1);
/// The name of the store that is used where none is named, if the file has it.
const DEFAULT: &str = "default";

/// The time that a command waits for a file that another process has open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// That of a request; behind it the store cannot be reached.
    OfARequest,
    /// This one; behind it the answer is no, since the other process has what is asked for.
    Within(Duration),
    /// As long as it takes.
    Whenever,
}

/// Everything that opening a store needs: the backends, the file of names, the time for an
/// opening.
#[derive(Debug)]
pub(crate) struct Stores {
    registry: Registry,
    /// The file with the names of stores; `None` where nothing says where it is.
    names: Option<PathBuf>,
    /// That file was asked for, and so must be there.
    asked: bool,
    timeout: Duration,
}

impl Stores {
    /// Makes the registry of all backends that are compiled in.
    pub(crate) fn new(names: Option<PathBuf>, timeout: Duration) -> Self {
        let asked = names.is_some();
        let names = names.or_else(|| Some(base("XDG_CONFIG_HOME", ".config")?.join("kv/stores")));
        Self { registry: registry(timeout), names, asked, timeout }
    }

    /// Opens the store that was chosen: a URL, a name of the file, or with `None` the one named
    /// `default`, else the embedded one of this user.
    pub(crate) async fn open(&self, chosen: Option<&str>) -> Run<Kv> {
        self.open_in_turn(chosen, Turn::OfARequest).await
    }

    /// Opens a store as [`open`](Self::open) does. A file that another process has open is waited
    /// for in this way.
    pub(crate) async fn open_in_turn(&self, chosen: Option<&str>, turn: Turn) -> Run<Kv> {
        let url = match chosen {
            Some(chosen) => Some(self.url(chosen)?),
            None => self.read_names()?.into_iter().find(|(name, _)| name == DEFAULT).map(|(_, url)| url),
        };
        let Some(url) = url else { return self.open_embedded(turn).await };
        let file = StoreUrl::parse(&url).ok().filter(|url| url.scheme() == "redb");
        let opened = match file {
            Some(file) => self.patiently(Path::new(&file.file()), turn, || self.registry.open(&url)).await?,
            None => self.in_time(self.registry.open(&url)).await?,
        };
        Ok(opened.with_deadline(self.timeout))
    }

    /// Returns the URL of a store: what was given is one, or a name of the file.
    pub(crate) fn url(&self, chosen: &str) -> Run<String> {
        if chosen.contains("://") { Ok(chosen.to_owned()) } else { self.named(chosen) }
    }

    /// Gives up an opening that takes much longer than a request may. A backend gives up by itself
    /// before that, and knows why.
    async fn in_time(&self, open: impl Future<Output = Result<Kv>>) -> Result<Kv> {
        let opened = tokio::time::timeout(self.timeout + SLACK, open).await;
        opened.unwrap_or_else(|_| {
            let why =
                format!("the store was not opened within {:?}; --timeout gives it more time", self.timeout);
            Err(Error::new(ErrorKind::Unavailable, why))
        })
    }

    fn named(&self, name: &str) -> Run<String> {
        let names = self.read_names()?;
        if let Some((_, url)) = names.iter().find(|(known, _)| known == name) {
            return Ok(url.clone());
        }
        let known: Vec<_> = names.iter().map(|(name, _)| name.as_str()).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let file = self.names.as_deref().unwrap_or(Path::new("a file that --config names")).display();
        Err(Failure::usage(format!(
            "no store is named {name:?} in {file} (there: {known}); add a line `{name} URL`, or give a URL"
        )))
    }

    /// Reads the file of names. One that was not asked for may be missing.
    fn read_names(&self) -> Run<Vec<(String, String)>> {
        let Some(path) = &self.names else { return Ok(Vec::new()) };
        let file = path.display();
        match fs::read_to_string(path) {
            Ok(text) => parse(&text).map_err(|why| Failure::usage(format!("{file}, {why}"))),
            Err(e) if e.kind() == io::ErrorKind::NotFound && !self.asked => Ok(Vec::new()),
            Err(e) => Err(Failure::usage(format!("the file of stores, {file}, cannot be read: {e}"))),
        }
    }

    #[cfg(feature = "redb")]
    async fn open_embedded(&self, turn: Turn) -> Run<Kv> {
        let folder = base("XDG_DATA_HOME", ".local/share").map(|base| base.join("kv"));
        let folder = folder.ok_or_else(|| {
            Failure::usage("no store is named, and without HOME there is none by default; give --store URL")
        })?;
        let made = fs::create_dir_all(&folder);
        made.map_err(|e| Failure::here(format!("the folder {} cannot be made: {e}", folder.display())))?;
        let path = folder.join("default.redb");
        let config = kv_redb::Config::new(&path);
        let opened = self.patiently(&path, turn, || config.clone().open()).await?;
        Ok(opened.with_deadline(self.timeout))
    }

    #[cfg(not(feature = "redb"))]
    async fn open_embedded(&self, _: Turn) -> Run<Kv> {
        Err(Failure::usage("no store is named, and this build has none by default; give --store URL"))
    }

    /// Opens a file, and waits until other processes that have it open let go of it.
    async fn patiently<F: Future<Output = Result<Kv>>>(
        &self,
        file: &Path,
        turn: Turn,
        open: impl Fn() -> F,
    ) -> Run<Kv> {
        let open = async || match file_turn::take(file) {
            Ok(true) => open().await,
            Ok(false) => {
                let why = format!(
                    "{} is open in another process, and a file is for one at a time; stop the other, or give \
                     this one another file",
                    file.display()
                );
                Err(kv_core::backend::in_open("redb")(Error::new(ErrorKind::Unavailable, why)))
            }
            Err(e) => {
                // Where the store cannot be opened either, its own message is better.
                let opened = open().await?;
                if turn == Turn::OfARequest {
                    return Ok(opened);
                }
                let why = format!(
                    "a file beside {} cannot be opened, which a lock needs in a store that is a file: {e}",
                    file.display()
                );
                Err(Error::new(ErrorKind::PermissionDenied, why))
            }
        };
        let (began, mut is_told) = (Instant::now(), false);
        loop {
            let others = match open().await {
                Err(e) if e.kind() == ErrorKind::Unavailable => e,
                opened => {
                    if is_told {
                        log::waited(began.elapsed());
                    }
                    return Ok(opened?);
                }
            };
            let waited = began.elapsed();
            match turn {
                Turn::OfARequest if waited >= self.timeout => return Err(others.into()),
                Turn::Within(time) if waited >= time => {
                    return Err(Failure::no(format!("not got: {others}")));
                }
                // A person who has forgotten the other process would wait for ever.
                _ if waited >= self.timeout && !is_told => {
                    is_told = true;
                    log::waits(&others);
                }
                _ => {}
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Returns the folder that this variable names, or the one of this name in the user's home.
fn base(variable: &str, in_home: &str) -> Option<PathBuf> {
    let is_usable = |path: &PathBuf| path.is_absolute();
    let named = env::var_os(variable).map(PathBuf::from).filter(is_usable);
    named.or_else(|| env::var_os("HOME").map(PathBuf::from).filter(is_usable).map(|home| home.join(in_home)))
}

/// Reads lines `NAME URL`. The message names the line and shows nothing of it: a URL may hold a
/// password.
fn parse(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut names: Vec<(String, String)> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let parts = line.split_once(char::is_whitespace).map(|(name, url)| (name, url.trim()));
        let Some((name, url)) = parts.filter(|(name, url)| !name.contains("://") && url.contains("://"))
        else {
            return Err(format!("line {number}: it is not of the form NAME URL"));
        };
        if names.iter().any(|(known, _)| known == name) {
            return Err(format!("line {number}: the name {name:?} was given before"));
        }
        names.push((name.to_owned(), url.to_owned()));
    }
    Ok(names)
}

/// Has a backend open what a URL names, within this time.
#[cfg(any(
    feature = "etcd",
    feature = "consul",
    feature = "zookeeper",
    feature = "redis",
    feature = "dynamodb"
))]
macro_rules! within {
    ($time:ident, $backend:ident, $name:literal) => {
        move |url| async move {
            let config = $backend::Config::from_url(url).map_err(kv_core::backend::in_open($name))?;
            config.deadline($time).build().await
        }
    };
}

/// Makes the registry. Each backend that asks a server has this time to open a store.
#[cfg_attr(
    not(any(
        feature = "etcd",
        feature = "consul",
        feature = "zookeeper",
        feature = "redis",
        feature = "dynamodb"
    )),
    expect(unused_variables, reason = "no backend asks a server")
)]
fn registry(time: Duration) -> Registry {
    let registry = Registry::new();
    #[cfg(feature = "memory")]
    let registry = registry.with("memory", kv_memory::from_url);
    #[cfg(feature = "redb")]
    let registry = registry.with("redb", kv_redb::from_url);
    #[cfg(feature = "etcd")]
    let registry = registry.with("etcd", within!(time, kv_etcd, "etcd"));
    #[cfg(feature = "consul")]
    let registry = registry.with("consul", within!(time, kv_consul, "consul"));
    #[cfg(feature = "zookeeper")]
    let registry = registry.with("zookeeper", within!(time, kv_zookeeper, "zookeeper"));
    #[cfg(feature = "redis")]
    let registry = ["redis", "rediss", "redis-cluster", "redis-sentinel"]
        .into_iter()
        .fold(registry, |registry, scheme| registry.with(scheme, within!(time, kv_redis, "redis")));
    #[cfg(feature = "dynamodb")]
    let registry = registry.with("dynamodb", within!(time, kv_dynamodb, "dynamodb"));
    registry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_line_by_line() {
        let text = "# stores\n\nprod  etcd://h1,h2/app?ca=/a b\n dev\tredb://dev.redb \n";
        let expected = [("prod", "etcd://h1,h2/app?ca=/a b"), ("dev", "redb://dev.redb")];
        let expected = expected.map(|(name, url)| (name.to_owned(), url.to_owned()));
        assert_eq!(parse(text), Ok(expected.to_vec()));
    }

    #[test]
    fn a_line_that_is_wrong_is_named_and_not_shown() {
        for (text, part) in [
            ("a memory://\nsecret", "line 2"),
            ("etcd://me:secret@h", "line 1"),
            ("a secret", "line 1"),
            ("a memory://secret\na memory://", "line 2"),
        ] {
            let why = parse(text).unwrap_err();
            assert!(why.contains(part) && !why.contains("secret"), "{why}");
        }
    }
}
