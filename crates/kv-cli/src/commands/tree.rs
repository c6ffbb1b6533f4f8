//! `tree`.

use super::list::show_key;
use crate::{
    exit::{Exit, Run},
    out::{Look, Out},
};
use clap::Args;
use kv_core::{Directory, Kv};
use std::collections::BTreeMap;

/// The arguments of `tree`.
#[derive(Args, Debug)]
pub(crate) struct TreeArgs {
    /// The directory; the whole store if none is named
    #[arg(default_value = "/")]
    directory: Directory,
    /// Shows so many levels at most
    #[arg(long, short = 'L', value_name = "N")]
    levels: Option<usize>,
}

/// A name of the tree: whether it is a key, and the names below it.
#[derive(Debug, Default)]
struct Node<'a> {
    is_key: bool,
    children: BTreeMap<&'a str, Node<'a>>,
}

pub(crate) async fn tree(args: TreeArgs, kv: &Kv, out: &mut Out) -> Run {
    let keys = kv.list(&args.directory).keys().await?;
    if out.is_json() {
        keys.iter().try_for_each(|key| show_key(key, out))?;
        return Ok(Exit::DONE);
    }
    let names: Vec<_> = keys.iter().filter_map(|key| args.directory.strip(key)).collect();
    let mut root = Node::default();
    for name in &names {
        let mut node = &mut root;
        for segment in name.segments() {
            node = node.children.entry(segment).or_default();
        }
        node.is_key = true;
    }
    // As it is shown, the whole store has a name too.
    let shown = args.directory.to_string();
    out.name(Some(Look::Directory), &shown)?;
    draw(&root, args.levels.unwrap_or(usize::MAX), &mut String::new(), out)?;
    Ok(Exit::DONE)
}

/// Draws the children of a node, each line behind this indentation. A name that is a key and a
/// directory has a line for both.
fn draw(node: &Node<'_>, levels: usize, indent: &mut String, out: &mut Out) -> Run<()> {
    let Some(deeper) = levels.checked_sub(1) else { return Ok(()) };
    let lines = node.children.iter().flat_map(|(name, child)| {
        let key = child.is_key.then_some((*name, None));
        let directory = (!child.children.is_empty()).then_some((*name, Some(child)));
        key.into_iter().chain(directory)
    });
    let mut lines = lines.peekable();
    while let Some((name, directory)) = lines.next() {
        let (branch, below) =
            if lines.peek().is_some() { ("├── ", "│   ") } else { ("└── ", "    ") };
        match directory {
            None => out.shown(None, &format!("{indent}{branch}{name}"), "")?,
            Some(child) => {
                out.shown(None, &format!("{indent}{branch}{name}/"), "")?;
                let before = indent.len();
                indent.push_str(below);
                draw(child, deeper, indent, out)?;
                indent.truncate(before);
            }
        }
    }
    Ok(())
}
