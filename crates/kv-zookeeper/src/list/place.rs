//! Tells what a walk knows of each place in the order of keys.

use crate::client::node::Node;

/// A node that the walk visited.
#[derive(Debug)]
pub(crate) struct Visited {
    /// The key, or the name of the directory.
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) node: Node,
    pub(crate) value: Vec<u8>,
}

/// The knowledge of one place in the order of keys.
pub(super) enum Place {
    Node {
        path: String,
    },
    /// An empty node with children: a directory, unless it is marked.
    Maybe {
        path: String,
    },
    Tree {
        path: String,
    },
    Here(Visited),
    /// A directory of which it is asked whether there are keys below, when only the children of a
    /// directory are listed.
    Fold {
        path: String,
    },
    /// The same question, asked of the first child.
    FoldChild {
        child: String,
    },
    Directory,
}

impl Place {
    /// Forgets the value of a node.
    pub(super) fn unread(&mut self) {
        if let Self::Here(visited) = self {
            let path = std::mem::take(&mut visited.path);
            *self = Self::Node { path };
        }
    }
}
