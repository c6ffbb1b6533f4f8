//! `ls`, `cat`.

use super::get::not_there;
use crate::{
    exit::{Exit, Failure, Run},
    lines::{EntryLine, V},
    out::{Look, Out},
    text,
};
use clap::Args;
use kv_core::{Directory, Item, Key, Kv, List};
use serde::Serialize;

/// The arguments of `ls`.
#[derive(Args, Debug)]
pub(crate) struct LsArgs {
    /// The directory; the whole store if none is named
    #[arg(default_value = "/")]
    directory: Directory,
    /// Lists everything below, not the children alone
    #[arg(long, short)]
    recursive: bool,
    /// Lists values too, each on one line, with escapes
    #[arg(long, short = 'l')]
    values: bool,
    /// Lists so many at most
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Lets any member of a cluster answer, from the past
    #[arg(long)]
    stale: bool,
}

#[derive(Serialize)]
struct KeyLine<'a> {
    v: u8,
    key: &'a str,
}

#[derive(Serialize)]
struct DirectoryLine<'a> {
    v: u8,
    directory: &'a str,
}

impl LsArgs {
    fn list(&self, kv: &Kv) -> List {
        let list = kv.list(&self.directory);
        let list = if let Some(most) = self.limit { list.limit(most) } else { list };
        if self.stale { list.stale() } else { list }
    }
}

pub(crate) async fn ls(args: LsArgs, kv: &Kv, out: &mut Out) -> Run {
    let list = args.list(kv);
    match (args.recursive, args.values) {
        (true, true) => {
            let mut entries = list.entries();
            while let Some(entry) = entries.next().await {
                show(&Item::Entry(entry?), out)?;
            }
        }
        (true, false) => {
            let mut keys = list.keys();
            while let Some(key) = keys.next().await {
                show_key(&key?, out)?;
            }
        }
        (false, values) => {
            let mut children = if values { list.children() } else { list.child_keys() };
            while let Some(item) = children.next().await {
                show(&item?, out)?;
            }
        }
    }
    Ok(Exit::DONE)
}

fn show(item: &Item, out: &mut Out) -> Run<()> {
    match item {
        Item::Entry(entry) if out.is_json() => out.object(&EntryLine::of(entry)),
        Item::Entry(entry) => {
            let value = text::on_one_line(&entry.value);
            let between = out.between();
            out.shown(None, entry.key.as_str(), &format!("{between}{value}"))
        }
        Item::Key(key, _) => show_key(key, out),
        Item::Directory(directory) if out.is_json() => {
            out.object(&DirectoryLine { v: V, directory: &directory.start() })
        }
        Item::Directory(directory) => out.name(Some(Look::Directory), &directory.start()),
    }
}

/// Shows a key alone, which is never cut: it is there to be copied.
pub(super) fn show_key(key: &Key, out: &mut Out) -> Run<()> {
    if out.is_json() {
        out.object(&KeyLine { v: V, key: key.as_str() })
    } else {
        out.name(None, key.as_str())
    }
}

/// The arguments of `cat`.
#[derive(Args, Debug)]
pub(crate) struct CatArgs {
    /// The keys
    #[arg(required = true)]
    keys: Vec<Key>,
}

pub(crate) async fn cat(args: CatArgs, kv: &Kv, out: &mut Out) -> Run {
    let mut missing = Vec::new();
    for (key, found) in args.keys.iter().zip(kv.get_many(&args.keys).await?) {
        match found {
            Some(entry) if out.is_json() => out.object(&EntryLine::of(&entry))?,
            Some(entry) => out.value(&entry.value)?,
            // The others are printed all the same, as `cat` does.
            None => missing.push(key),
        }
    }
    match missing[..] {
        [] => Ok(Exit::DONE),
        [key] => Err(not_there(key)),
        _ => {
            let names: Vec<_> = missing.iter().map(|key| format!("{key:?}")).collect();
            Err(Failure::no(format!("there are no keys {}", names.join(", "))))
        }
    }
}
