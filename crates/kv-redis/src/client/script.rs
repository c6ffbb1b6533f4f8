//! The scripts, and the names that the server knows them by.

use sha1::{Digest, Sha1};
use std::sync::LazyLock;

/// A script, and the name that the server knows it by.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) source: &'static str,
    pub(crate) sha: String,
}

impl Script {
    fn new(source: &'static str) -> Self {
        let sha = Sha1::digest(source).iter().map(|byte| format!("{byte:02x}")).collect();
        Self { source, sha }
    }
}

macro_rules! scripts {
    ($($name:ident: $($file:literal),+;)*) => {
        $(
        pub(crate) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(concat!(include_str!("../lua/common.lua"), $("\n", include_str!($file)),+)));
    )*
        /// Returns all scripts.
        pub(crate) fn all() -> Vec<&'static Script> {
            vec![$(&$name),*]
        }
    };
}

scripts! {
    ADOPT: "../lua/adopt.lua";
    AGAIN: "../lua/again.lua";
    BREAK: "../lua/line.lua", "../lua/break.lua";
    DELETE_TREE: "../lua/delete_tree.lua";
    ENTER: "../lua/line.lua", "../lua/enter.lua";
    EXISTS: "../lua/exists.lua";
    HOLDER: "../lua/line.lua", "../lua/holder.lua";
    LEASE: "../lua/lease.lua";
    LEAVE: "../lua/line.lua", "../lua/leave.lua";
    LIST: "../lua/list.lua";
    LIVES: "../lua/lives.lua";
    LOCKS: "../lua/line.lua", "../lua/locks.lua";
    PARTS: "../lua/parts.lua";
    READ: "../lua/read.lua";
    SESSION: "../lua/line.lua", "../lua/session.lua";
    VALUE: "../lua/line.lua", "../lua/value.lua";
    WRITE: "../lua/write.lua";
}
