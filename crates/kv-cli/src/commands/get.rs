//! `get`, `exists`.

use crate::{
    exit::{Exit, Failure, Run},
    lines::{EntryLine, V},
    out::Out,
};
use clap::Args;
use kv_core::{Key, Kv};
use serde::Serialize;

/// The arguments of `get`.
#[derive(Args, Debug)]
pub(crate) struct GetArgs {
    /// The key
    key: Key,
    /// Prints the version, for `cas` and `--if-version`, in place of the value
    #[arg(long)]
    version_only: bool,
    /// Lets any member of a cluster answer, from the past
    #[arg(long)]
    stale: bool,
}

/// Makes the answer for a key that is not there.
pub(crate) fn not_there(key: &Key) -> Failure {
    Failure::no(format!("there is no key {key:?}"))
}

pub(crate) async fn get(args: GetArgs, kv: &Kv, out: &mut Out) -> Run {
    let get = kv.get(&args.key);
    let found = if args.stale { get.stale().await? } else { get.await? };
    let entry = found.ok_or_else(|| not_there(&args.key))?;
    if out.is_json() {
        out.object(&EntryLine::of(&entry))?;
    } else if args.version_only {
        out.line(&entry.version.to_string())?;
    } else {
        out.value(&entry.value)?;
    }
    Ok(Exit::DONE)
}

/// The arguments of `exists`.
#[derive(Args, Debug)]
pub(crate) struct ExistsArgs {
    /// The key
    key: Key,
    /// Lets any member of a cluster answer, from the past
    #[arg(long)]
    stale: bool,
}

#[derive(Serialize)]
struct ExistsLine<'a> {
    v: u8,
    key: &'a str,
    exists: bool,
}

pub(crate) async fn exists(args: ExistsArgs, kv: &Kv, out: &mut Out) -> Run {
    let exists = kv.exists(&args.key);
    let exists = if args.stale { exists.stale().await? } else { exists.await? };
    if out.is_json() {
        out.object(&ExistsLine { v: V, key: args.key.as_str(), exists })?;
    }
    Ok(if exists { Exit::DONE } else { Exit::NO })
}
