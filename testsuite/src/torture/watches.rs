//! Watches: a small tree that is written, and streams of its events, which must arrive at what is
//! there.

mod follow;
mod judge;
mod write;

use super::{
    field::Field,
    stroke::Stroke,
    workload::{Seen, Violation, Workload},
};
use crate::Failure;
use judge::{Losses, Stream, Versions, Write, Writes};
use kv_core::{Capabilities, Watching, driver::async_trait};
use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

const WRITERS: usize = 3;
/// The least number of answered writes, and of events, that shows anything.
const LEAST: u64 = 20;

/// The writers that may delete a key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Deleted {
    Never,
    ByOne,
    ByAll,
}

use Deleted::{ByAll, ByOne, Never};

/// The keys of the watched tree.
const KEYS: &[(&str, Deleted)] = &[
    ("tree/a", Never),
    ("tree/dir", Never),
    ("tree/dir/deep/b", Never),
    ("tree/100%/ä *?", Never),
    ("tree/b", ByOne),
    ("tree/dir/a", ByOne),
    ("tree/dir-other/a", ByOne),
    ("tree/c", ByAll),
    ("tree/dir/b", ByAll),
    ("tree/dir/deep/a", ByAll),
    ("tree/x/y/z", ByAll),
    (BRIEF, ByAll),
];

/// The key that may have a TTL.
const BRIEF: &str = "tree/brief";

/// A key whose first segment begins as the name does that backends keep for themselves.
const LIKE_OURS: &str = ".kvx";

/// The keys that are written beside the watched tree.
const BESIDE: &[&str] = &["tree", "tree-other/a", "tree-other/dir/b", "tree0", "beside", "dir/a", LIKE_OURS];

/// Some clients that write a tree, and some that follow it.
#[derive(Debug, Default)]
pub struct Watches(());

#[derive(Default)]
struct Log {
    writes: Vec<Write>,
    streams: Vec<Stream>,
    seen: Seen,
}

struct Work<'a> {
    field: &'a Field,
    log: Mutex<Log>,
    next: AtomicU64,
}

#[async_trait]
impl Workload for Watches {
    fn name(&self) -> &'static str {
        "watches"
    }

    fn unsuited(&self, capabilities: &Capabilities, _: &[Stroke]) -> Option<String> {
        (capabilities.watch == Watching::Unsupported).then(|| "there are no watches".to_owned())
    }

    async fn run(&self, field: &Field) -> Result<Seen, Failure> {
        let work = Work { field, log: Mutex::default(), next: AtomicU64::new(1) };
        let observer = field.observer(self.name()).await?;
        let mut writers = Vec::new();
        for number in 0..WRITERS {
            let (name, kv) = field.client(self.name()).await?;
            writers.push(work.writer(number, name, kv));
        }
        let (name, kv) = field.client(self.name()).await?;
        let beside = work.beside(name, kv);
        let writing = async { tokio::join!(futures::future::join_all(writers), beside) };
        let (followed, _) = tokio::join!(work.follow(), writing);
        // Nobody writes any more.
        field.calm().await;
        work.catch_up(followed?, &observer).await;
        observer.close().await?;
        let log = work.log.into_inner().unwrap_or_else(PoisonError::into_inner);
        verdict(field, log)
    }
}

impl Work<'_> {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a value that nothing else has.
    fn value(&self) -> String {
        self.next.fetch_add(1, Ordering::Relaxed).to_string()
    }

    fn absurd(&self, what: String) {
        let violation = Violation { what, at: self.field.now(), calls: Vec::new() };
        self.log().seen.violations.push(violation);
    }
}

/// Judges all streams.
fn verdict(field: &Field, log: Log) -> Result<Seen, Failure> {
    let Log { mut writes, streams, mut seen } = log;
    let blows = field.blows();
    if blows.iter().any(|blow| blow.stroke.moves_time()) {
        // A server whose clock is moved may end a key at once.
        writes.iter_mut().for_each(|write| write.ttl = write.ttl.map(|_| 0));
    }
    let durability = field.capabilities().durability;
    let blows = blows.into_iter().filter(|blow| blow.stroke.may_lose(durability));
    let losses = Losses::new(blows.map(|blow| (blow.began, blow.ended, blow.stroke == Stroke::Restore)));
    let heard: u64 = streams.iter().map(|stream| stream.heard.len() as u64).sum();
    if seen.answered < LEAST || heard < LEAST {
        return Err(format!("only {} writes were answered, and {heard} events told", seen.answered).into());
    }
    seen.answered += heard;
    let (writes, mut versions) = (Writes::new(writes), Versions::default());
    for stream in &streams {
        seen.violations.extend(judge::judge(stream, &writes, &mut versions, &losses));
    }
    Ok(seen)
}
