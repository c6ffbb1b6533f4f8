//! The scripts, and the names that the server knows them by.

use fred::types::Value;
use sha1::{Digest, Sha1};
use std::sync::LazyLock;

/// A script, and the name that the server knows it by.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) source: &'static str,
    pub(crate) sha: Value,
}

impl Script {
    fn new(source: &'static str) -> Self {
        let sha: String = Sha1::digest(source).iter().map(|byte| format!("{byte:02x}")).collect();
        Self { source, sha: sha.into() }
    }
}

macro_rules! scripts {
    ($($name:ident: $($file:literal),+;)*) => {
        $(
        pub(crate) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(concat!($(include_str!($file), "\n"),+)));
    )*
        /// Returns all scripts.
        pub(crate) fn all() -> Vec<&'static Script> {
            vec![$(&$name),*]
        }
    };
}

scripts! {
    ADOPT: "../lua/common.lua", "../lua/adopt.lua";
    AGAIN: "../lua/common.lua", "../lua/again.lua";
    BREAK: "../lua/common.lua", "../lua/line.lua", "../lua/break.lua";
    DELETE_TREE: "../lua/common.lua", "../lua/delete_tree.lua";
    ENTER: "../lua/common.lua", "../lua/line.lua", "../lua/enter.lua";
    EXISTS: "../lua/common.lua", "../lua/exists.lua";
    GET: "../lua/get.lua";
    HAS: "../lua/has.lua";
    HOLDER: "../lua/common.lua", "../lua/line.lua", "../lua/holder.lua";
    LEASE: "../lua/common.lua", "../lua/lease.lua";
    LEAVE: "../lua/common.lua", "../lua/line.lua", "../lua/leave.lua";
    LIST: "../lua/common.lua", "../lua/list.lua";
    LIVES: "../lua/common.lua", "../lua/lives.lua";
    LOCKS: "../lua/common.lua", "../lua/line.lua", "../lua/locks.lua";
    PARTS: "../lua/common.lua", "../lua/parts.lua";
    READ: "../lua/common.lua", "../lua/read.lua";
    SESSION: "../lua/common.lua", "../lua/line.lua", "../lua/session.lua";
    VALUE: "../lua/common.lua", "../lua/line.lua", "../lua/value.lua";
    WRITE: "../lua/usual.lua", "../lua/common.lua", "../lua/write.lua";
}
