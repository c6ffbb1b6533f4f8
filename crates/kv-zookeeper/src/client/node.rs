//! Reads from the server's answer what a node is: whether it is a key, of which version, and what
//! lies below it.

use super::multi::Got;
use kv_core::Version;
use zookeeper_client::Stat;

/// The data of the mark of an empty value. No other node of ours holds it, and hardly any node of
/// others.
pub(crate) const MARK: &[u8] = b"an empty value";
/// The data of a store's own nodes, which tells them from marks.
pub(crate) const OWNED: &[u8] = b"kv";

/// A node that exists.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node {
    pub(crate) version: i32,
    /// The version of its last write.
    pub(crate) at: Version,
    pub(crate) ephemeral: bool,
    /// Tells whether it is a key; else it is a directory.
    pub(crate) is_key: bool,
    pub(crate) mark: Option<Mark>,
    /// The number of its children without the mark.
    pub(crate) children: i32,
}

/// The node below a key that tells an empty value from a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Tells whether it marks an empty value; else it is a store's own node, and the key is the
    /// root of that store.
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
            // A mark with children is another store's own node, and counts as a child.
            children: stat.num_children - i32::from(mark.is_some_and(|mark| !mark.has_children)),
        }
    }

    pub(crate) fn at(&self) -> Option<Version> {
        self.is_key.then_some(self.at)
    }
}

/// Returns a node's version: the zxid of the key's last write, and its time by the clock of the
/// leader. The time is needed because a server that was restored from an older copy, or wiped,
/// counts through the same zxids once more.
pub(crate) fn version(stat: &Stat) -> Version {
    let time = u64::try_from(stat.mtime).unwrap_or_default();
    Version::new(u64::try_from(stat.mzxid).unwrap_or_default(), time)
}

/// Returns the version of a deletion, made of the zxid from which on the node was gone.
pub(crate) fn gone_at(zxid: i64) -> Version {
    Version::new(u64::try_from(zxid).unwrap_or_default(), 0)
}
