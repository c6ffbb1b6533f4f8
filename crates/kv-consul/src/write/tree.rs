//! Deletes whole directories.

use crate::{
    client::{
        Purpose,
        api::{self, MOST_OPS, Op},
    },
    core::Core,
    names::{below, end_of_own, is_plain, is_somebodys_own},
};
use kv_core::{
    Directory, Result,
    driver::{Batch, Cursor, Deadline, WriteOptions},
};

/// Deletes everything below a directory, except what the library keeps there for itself: for this
/// store, and for stores whose prefix lies inside of the directory. It takes one step where
/// nothing of that is there; otherwise the parts are deleted that have none of it.
pub(crate) async fn delete_tree(core: &Core, directory: &Directory, options: &WriteOptions) -> Result<Batch> {
    let prefix = below(&core.names, directory);
    let names = names(core, &prefix, options.deadline).await?;
    let mut parts = Vec::new();
    // A lock may be taken at any moment: the root is never deleted as a whole, but by what is seen
    // in it.
    let base = core.names.prefix().len();
    if directory.is_root() || names.iter().any(|name| is_somebodys_own(&name[base..])) {
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        without_own(base, &prefix, &names, &mut parts);
    } else {
        parts.push(Part::Tree(prefix));
    }
    let more = parts.len() > MOST_OPS;
    parts.truncate(MOST_OPS);
    if !parts.is_empty() {
        let before = parts.iter().flat_map(|part| match part {
            Part::Tree(prefix) => core.ttl_sessions.before(prefix, true),
            Part::Name(name) => core.ttl_sessions.before(name, false),
        });
        let before = before.collect();
        let ops: Vec<_> = parts
            .iter()
            .map(|part| match part {
                Part::Tree(prefix) => Op::delete_tree(prefix),
                Part::Name(name) => Op::delete(name),
            })
            .collect();
        core.txn(Purpose::Write, options.deadline, &ops).await?;
        core.ttl_sessions.deleted(before);
    }
    // The next batch begins at the front again: what was there is gone.
    Ok(Batch { deleted: None, next: more.then(|| Cursor::new("more")) })
}

/// Returns all names below a prefix, in their order.
async fn names(core: &Core, prefix: &str, deadline: Deadline) -> Result<Vec<String>> {
    let mut names = match is_plain(prefix) {
        true => api::names(&core.client, Purpose::Read, deadline, prefix).await?.0,
        false => {
            let pairs = api::tree(&core.client, Purpose::Read, deadline, prefix).await?;
            pairs.into_iter().map(|pair| pair.name).collect()
        }
    };
    names.retain(|name| name.starts_with(prefix));
    names.sort();
    Ok(names)
}

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Name(String),
    /// All names that begin with this.
    Tree(String),
}

/// Finds the fewest parts that hold all of these names except those that a store keeps for itself.
/// All names begin with `prefix`, and are in their order; the first `base` bytes are the store's
/// own prefix. There is no recursion, since names of other tools may be deeper than a stack.
fn without_own(base: usize, prefix: &str, names: &[&str], parts: &mut Vec<Part>) {
    // Each name comes with the end of what shows that it is a store's own: it is looked for once,
    // however deep the name is.
    let end = |name: &str| end_of_own(&name[base..]).map_or(usize::MAX, |end| base + end);
    let names: Vec<_> = names.iter().map(|&name| (name, end(name))).collect();
    let is_own = |(name, end): &(&str, usize)| *end <= name.len();
    let mut todo = vec![(prefix.len(), &names[..])];
    while let Some((depth, names)) = todo.pop() {
        let Some(first) = names.first() else { continue };
        let Some(slash) = first.0[depth..].find('/') else {
            if !is_own(first) {
                parts.push(Part::Name(first.0.to_owned()));
            }
            todo.push((depth, &names[1..]));
            continue;
        };
        let child = &first.0[..=depth + slash];
        let (here, others) = names.split_at(names.partition_point(|(name, _)| name.starts_with(child)));
        todo.push((depth, others));
        if first.1 <= child.len() {
            continue;
        }
        match here.iter().any(is_own) {
            false => parts.push(Part::Tree(child.to_owned())),
            true if first.0.len() == child.len() => {
                // The name ends in a slash, as other tools make names.
                parts.push(Part::Name(child.to_owned()));
                todo.push((child.len(), &here[1..]));
            }
            true => todo.push((child.len(), here)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_keep_for_themselves_is_in_no_part() {
        let names = [
            "p/.kv/lock/1/l/0",
            "p/a",
            "p/a/",
            "p/a/.kv/gone/1",
            "p/a/.kv/x",
            "p/a/b",
            "p/a/b/c",
            "p/a/d/.kv/lock/1/l/0",
            "p/a/d/e",
            "p/b/c/d",
            "p/b/e",
            "p/c.kv/d",
            "p/c/.kv",
            "p/d",
        ];
        let mut parts = Vec::new();
        without_own(2, "p/", &names, &mut parts);
        let (name, tree) = (|n: &str| Part::Name(n.to_owned()), |n: &str| Part::Tree(n.to_owned()));
        assert_eq!(
            parts,
            [
                name("p/a"),
                name("p/a/"),
                name("p/a/.kv/x"),
                name("p/a/b"),
                tree("p/a/b/"),
                name("p/a/d/e"),
                tree("p/b/"),
                tree("p/c.kv/"),
                tree("p/c/"),
                name("p/d")
            ]
        );
    }

    #[test]
    fn a_name_may_be_deeper_than_a_stack() {
        let deep = format!("p/{}.kv/lock/1/l/0", "a/".repeat(20_000));
        let (beside, mut parts) = (format!("{}b", &deep[..100]), Vec::new());
        without_own(2, "p/", &[&deep, &beside], &mut parts);
        assert_eq!(parts, [Part::Name(beside)]);
    }
}
