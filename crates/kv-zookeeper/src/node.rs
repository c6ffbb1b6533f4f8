//! What a node is, and what is known of nodes: enough to write on condition without reading first.
//!
//! A node's data version begins anew when the node is made anew, so a version alone is no proof. Every creation of ours
//! therefore counts one up in a node of the store, its key's *slot*; with the slot's count and the node's version checked in
//! one step, the node is the one that was seen.

use crate::{
    client::{Client, Via},
    error::Problem,
    feed::answers,
    link::Linked,
    names::{Names, SLOTS, slot},
};
use futures::{StreamExt, TryFutureExt, TryStreamExt, stream};
use kv_core::{
    backend::{Mutex, retry::RetrySafety},
    *,
};
use std::{
    collections::{BTreeSet, HashMap},
    pin::pin,
};
use zookeeper_client::Stat;

/// What the mark of an empty value holds; nothing else of ours and hardly anything else does.
pub(crate) const MARK: &[u8] = b"an empty value";
/// What a store's own nodes hold, which tells them from marks.
pub(crate) const OWNED: &[u8] = b"kv";
/// How many operations one request has.
pub(crate) const BATCH: usize = 100;
/// How many requests of one read are under way at once.
const REQUESTS: usize = 8;
/// How many nodes are remembered, twice.
const REMEMBERED: usize = 4096;

/// One read of a request.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    Data(String),
    Children(String),
}

/// What it found.
#[derive(Debug)]
pub(crate) enum Got {
    Data(Vec<u8>, Stat),
    Children(Vec<String>),
    Nothing,
}

impl Got {
    fn size(&self) -> usize {
        match self {
            Self::Data(data, _) => data.len(),
            Self::Children(names) => names.iter().map(String::len).sum(),
            Self::Nothing => 0,
        }
    }
}

/// Several reads, a hundred a request, behind everything that was acknowledged where the answer must be fresh: all on one
/// connection, so that one question goes before them.
pub(crate) async fn read(client: &Client, read: &ReadOptions, asks: &[Ask]) -> Result<Vec<Got>> {
    read_on(client, read, asks, usize::MAX).await.map(|(_, got)| got)
}

/// The same, but only the first ones, where those are more than so many bytes.
pub(crate) async fn read_some(
    client: &Client,
    read: &ReadOptions,
    asks: &[Ask],
    bytes: usize,
) -> Result<Vec<Got>> {
    read_on(client, read, asks, bytes).await.map(|(_, got)| got)
}

/// The same, and on which connection.
async fn read_on(client: &Client, read: &ReadOptions, asks: &[Ask], bytes: usize) -> Result<(u64, Vec<Got>)> {
    let answer = Via::Any(client)
        .call(RetrySafety::Read, read.deadline, |linked| async move {
            let barrier = linked.barrier_for(read.consistency).await;
            // Sent at once, one behind the other; but where not all may be wanted, the first one shows how large they are.
            let mut first: Vec<_> = parts(asks).into_iter().map(|asks| request(&linked, asks)).collect();
            let others = first.split_off(first.len().min(usize::from(bytes < usize::MAX)));
            let found = async {
                let others = stream::iter(others).buffered(REQUESTS);
                let mut requests = pin!(stream::iter(first).buffered(1).chain(others));
                let (mut all, mut size) = (Vec::with_capacity(asks.len()), 0);
                while size <= bytes
                    && let Some(found) = requests.try_next().await?
                {
                    size += found.iter().map(Got::size).sum::<usize>();
                    all.extend(found);
                }
                Ok::<_, Problem>((all, size <= bytes))
            };
            let ((), (found, is_all)) = futures::try_join!(barrier.map_err(Problem::from), found)?;
            Ok((linked.generation, found, is_all))
        })
        .await?;
    let Ok((generation, got, is_all)) = answer else { return Err(other_answers()) };
    if got.len() > asks.len() || (is_all && got.len() != asks.len()) {
        return Err(other_answers());
    }
    Ok((generation, got))
}

fn other_answers() -> Error {
    Error::new(ErrorKind::Other, "the server answered other reads than it was asked")
}

/// A request has [`BATCH`] of them at most, and a node is read in one with its mark.
fn parts(asks: &[Ask]) -> Vec<&[Ask]> {
    let (mut parts, mut rest) = (Vec::new(), asks);
    while rest.len() > BATCH {
        let is_mark = matches!(&rest[BATCH], Ask::Data(path) if path.ends_with(&Names::mark("")));
        let (part, behind) = rest.split_at(BATCH - usize::from(is_mark));
        parts.push(part);
        rest = behind;
    }
    parts.extend((!rest.is_empty()).then_some(rest));
    parts
}

async fn request(linked: &Linked, asks: &[Ask]) -> Result<Vec<Got>, Problem> {
    let mut reader = linked.session.new_multi_reader();
    for ask in asks {
        match ask {
            Ask::Data(path) => reader.add_get_data(path)?,
            Ask::Children(path) => reader.add_get_children(path)?,
        }
    }
    Ok(answers(reader.commit().await?)?)
}

/// A node that is there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node {
    pub(crate) version: i32,
    /// Of its last write.
    pub(crate) at: Version,
    pub(crate) ephemeral: bool,
    /// Else it is a directory.
    pub(crate) is_key: bool,
    pub(crate) mark: Option<Mark>,
    /// Besides the mark.
    pub(crate) children: i32,
}

/// The node below a key that tells an empty value from a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Else it is a store's own, whose root the key is.
    pub(crate) marks: bool,
    pub(crate) has_children: bool,
}

impl Mark {
    pub(crate) fn of(got: &Got) -> Option<Self> {
        match got {
            Got::Data(data, stat) => Some(Self { marks: data == MARK, has_children: stat.num_children > 0 }),
            _ => None,
        }
    }
}

impl Node {
    pub(crate) fn new(empty: bool, stat: &Stat, mark: Option<Mark>) -> Self {
        let ephemeral = stat.ephemeral_owner != 0;
        Self {
            version: stat.version,
            at: version(stat),
            ephemeral,
            is_key: !empty || ephemeral || mark.is_some_and(|mark| mark.marks),
            mark,
            // What lies below another store's own node stays.
            children: stat.num_children - i32::from(mark.is_some_and(|mark| !mark.has_children)),
        }
    }

    pub(crate) fn at(&self) -> Option<Version> {
        self.is_key.then_some(self.at)
    }
}

/// A version is the zxid of the key's last write, and its time by the clock of the leader: a server that was restored from an
/// older copy, or wiped, counts through the same zxids once more.
pub(crate) fn version(stat: &Stat) -> Version {
    let time = u64::try_from(stat.mtime).unwrap_or_default();
    Version::new(u64::try_from(stat.mzxid).unwrap_or_default(), time)
}

/// The version that tells an end: by the zxid from which on it was gone.
pub(crate) fn gone_at(zxid: i64) -> Version {
    Version::new(u64::try_from(zxid).unwrap_or_default(), 0)
}

/// What a key was when its slot had this count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) node: Option<Node>,
    /// `None` where nothing was ever created.
    pub(crate) epoch: Option<i32>,
    /// The connection on which it was seen. Behind the next one the server may hold an older copy, and count anew through
    /// what it counted before.
    pub(crate) generation: u64,
}

impl Seen {
    pub(crate) fn at(&self) -> Option<Version> {
        self.node.and_then(|node| node.at())
    }
}

/// What is remembered of keys: those of late, and those of a while ago.
#[derive(Debug, Default)]
pub(crate) struct Known(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    generation: u64,
    late: HashMap<Key, Seen>,
    before: HashMap<Key, Seen>,
}

impl Known {
    /// Forgets all: this is the connection from now on.
    pub(crate) fn begin(&self, generation: u64) {
        *self.0.lock() = Remembered { generation, ..Remembered::default() };
    }

    pub(crate) fn generation(&self) -> u64 {
        self.0.lock().generation
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Seen> {
        let known = self.0.lock();
        known.late.get(key).or_else(|| known.before.get(key)).copied()
    }

    /// Remembers it, unless it was seen on a connection of before.
    pub(crate) fn set(&self, key: &Key, seen: Seen) {
        let mut known = self.0.lock();
        if known.generation != seen.generation {
            return;
        }
        if known.late.len() >= REMEMBERED {
            known.before = std::mem::take(&mut known.late);
        }
        known.late.insert(key.clone(), seen);
    }

    pub(crate) fn forget(&self, key: &Key) {
        let mut known = self.0.lock();
        known.late.remove(key);
        known.before.remove(key);
    }
}

/// Directories that were there when one last looked: a guess that the server corrects.
#[derive(Debug, Default)]
pub(crate) struct Directories(Mutex<(BTreeSet<String>, BTreeSet<String>)>);

impl Directories {
    pub(crate) fn knows(&self, path: &str) -> bool {
        let known = self.0.lock();
        known.0.contains(path) || known.1.contains(path)
    }

    pub(crate) fn are<'a>(&self, paths: impl IntoIterator<Item = &'a str>) {
        let mut known = self.0.lock();
        for path in paths {
            if known.0.len() >= REMEMBERED {
                known.1 = std::mem::take(&mut known.0);
            }
            if !known.0.contains(path) {
                known.0.insert(path.to_owned());
            }
        }
    }

    pub(crate) fn forget(&self, path: &str) {
        let mut known = self.0.lock();
        known.0.remove(path);
        known.1.remove(path);
    }
}

/// A key as it was found.
pub(crate) struct Found {
    pub(crate) seen: Seen,
    pub(crate) value: Vec<u8>,
}

impl Found {
    pub(crate) fn entry(self, key: &Key) -> Option<Entry> {
        Some(Entry::new(key.clone(), self.value, self.seen.at()?))
    }
}

/// Several keys, in their order.
///
/// The count of a slot is read before its keys, and a mark behind its key, so that what changes in between is found out by
/// the conditions of the write that relies on it.
pub(crate) async fn look(
    client: &Client,
    names: &Names,
    keys: &[&Key],
    options: &ReadOptions,
) -> Result<Vec<Found>> {
    let slots: BTreeSet<_> = keys.iter().map(|key| slot(key)).collect();
    let mut asks: Vec<_> = slots.iter().map(|&slot| Ask::Data(names.slot_node(slot))).collect();
    for key in keys {
        let path = names.key(key);
        let mark = Names::mark(&path);
        asks.extend([Ask::Data(path), Ask::Data(mark)]);
    }
    let (generation, got) = read_on(client, options, &asks, usize::MAX).await?;
    let mut got = got.into_iter();
    let mut epochs = [None; SLOTS];
    for &slot in &slots {
        if let Some(Got::Data(_, stat)) = got.next() {
            epochs[slot] = Some(stat.version);
        }
    }
    let mut found = Vec::with_capacity(keys.len());
    for key in keys {
        let epoch = epochs[slot(key)];
        let (node, mark) = (got.next().unwrap_or(Got::Nothing), got.next().unwrap_or(Got::Nothing));
        found.push(match node {
            Got::Data(value, stat) => {
                let node = Node::new(value.is_empty(), &stat, Mark::of(&mark));
                Found { seen: Seen { node: Some(node), epoch, generation }, value }
            }
            _ => Found { seen: Seen { node: None, epoch, generation }, value: Vec::new() },
        });
    }
    Ok(found)
}
