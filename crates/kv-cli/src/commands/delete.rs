//! `delete`.

use super::get::not_there;
use crate::{
    exit::{Exit, Run},
    lines::V,
    out::Out,
    text,
};
use clap::Args;
use kv_core::{Directory, Key, Kv, Version};
use serde::Serialize;

/// The arguments of `delete`.
#[derive(Args, Debug)]
pub(crate) struct DeleteArgs {
    /// The key, or with --recursive the directory; / is the whole store
    #[arg(value_parser = text::name)]
    name: String,
    /// Deletes all keys below the directory; a key of its own name stays
    #[arg(long, short, conflicts_with = "if_version")]
    recursive: bool,
    /// Deletes the key only if it is at this version
    #[arg(long, value_name = "VERSION")]
    if_version: Option<Version>,
}

#[derive(Serialize)]
struct DeleteLine<'a> {
    v: u8,
    key: &'a str,
    deleted: bool,
}

#[derive(Serialize)]
struct TreeLine<'a> {
    v: u8,
    directory: &'a str,
    /// The number of keys that were deleted, where the store tells it.
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted: Option<u64>,
}

pub(crate) async fn delete(args: DeleteArgs, kv: &Kv, out: &mut Out) -> Run {
    if args.recursive {
        return delete_tree(&args.name, kv, out).await;
    }
    let key = Key::parse(&args.name)?;
    let delete = kv.delete(&key);
    let deleted = match args.if_version {
        Some(version) => delete.if_version(version).await?,
        None => delete.await?,
    };
    if deleted {
        out.acts().note();
    }
    if out.is_json() {
        out.object(&DeleteLine { v: V, key: key.as_str(), deleted })?;
        return Ok(if deleted { Exit::DONE } else { Exit::NO });
    }
    if deleted { Ok(Exit::DONE) } else { Err(not_there(&key)) }
}

async fn delete_tree(name: &str, kv: &Kv, out: &mut Out) -> Run {
    let directory = Directory::parse(name)?;
    let deleted = kv.delete_tree(&directory).await;
    // Where it is done in parts, nobody knows of how many of them the failure came.
    if !matches!(deleted, Ok(Some(0))) && (deleted.is_ok() || !kv.capabilities().delete_tree_atomic) {
        out.acts().note();
    }
    let deleted = deleted?;
    if out.is_json() {
        let shown = directory.to_string();
        out.object(&TreeLine { v: V, directory: &shown, deleted })?;
    } else if let Some(deleted) = deleted {
        out.line(&format!("deleted {deleted}"))?;
    }
    Ok(if deleted == Some(0) { Exit::NO } else { Exit::DONE })
}
