//! Listings of directories, and reads of keys.

use crate::{
    client::{
        answer::{Answer, next, not_ours},
        packed::Packed,
        script::{self, Script},
    },
    core::Core,
    version::{Latest, Note},
};
use fred::types::Value;
use futures::future::try_join_all;
use kv_core::{
    Bytes, Directory, Entry, ErrorKind, Item, Key, Position, Result, Version,
    backend::retry::{Effect, RetrySafety},
    driver::{Cursor, Deadline, ListOptions, Page, ReadOptions},
};
use std::{slice, time::Duration};

/// The most items of a page, and its most bytes.
const ITEMS: usize = 1000;
const BYTES: usize = 1 << 20;
/// The most keys that one request reads.
const MOST_KEYS: usize = 1000;

/// The parts of a key that a page holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Keys with their values.
    Values,
    /// Keys with their versions alone.
    Keys,
}

/// The parameters of a listing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    /// Only the immediate children are listed.
    pub(crate) children: bool,
    pub(crate) wanted: Wanted,
    /// The time that is left of each key's life is asked for too.
    pub(crate) lives: bool,
    pub(crate) most: usize,
}

/// A key on a page.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) key: Key,
    pub(crate) version: Version,
    pub(crate) value: Bytes,
    /// The time that is left of its life.
    pub(crate) left: Option<Duration>,
}

/// The contents of a page.
pub(crate) struct Rows {
    pub(crate) rows: Vec<Row>,
    /// The bound at which the next page begins, if there is one.
    pub(crate) more: Option<String>,
    /// The last number that was given before the page was read.
    pub(crate) last: u64,
}

pub(crate) enum Row {
    Key(Found),
    Directory(Directory),
}

/// Returns the bounds of the names that lie strictly below a directory.
pub(crate) fn below(directory: &Directory) -> (String, String) {
    if directory.is_root() {
        return ("-".into(), "+".into());
    }
    // `0` is the character behind a slash.
    (format!("[{}/", directory.as_str()), format!("({}0", directory.as_str()))
}

/// Reads the rows from a bound on.
pub(crate) async fn rows(
    core: &Core,
    directory: &Directory,
    bounds: (&str, &str),
    ask: Ask,
    deadline: Deadline,
) -> Result<Rows> {
    let flag = |on: bool| Value::from(if on { "1" } else { "0" });
    let arguments = [
        directory.start().into(),
        bounds.0.into(),
        bounds.1.into(),
        flag(ask.children),
        flag(ask.wanted == Wanted::Values),
        flag(ask.lives),
        ask.most.clamp(1, ITEMS).to_string().into(),
        BYTES.to_string().into(),
    ];
    let mut answer = core.run(RetrySafety::Read, deadline, &script::LIST, [], arguments).await?.list()?;
    let from = next(&mut answer)?.text()?;
    let mut packed = Packed::of(next(&mut answer)?)?;
    let last = next(&mut answer)?.unsigned()?;
    let latest = next(&mut answer)?.latest()?;
    let mut rows = Vec::new();
    while !packed.is_over() {
        let place = packed.text()?.and_then(place);
        let note = Note::of(packed.text()?, latest);
        let value = packed.bytes()?.ok_or_else(not_ours)?;
        let left = packed.number()?.and_then(|left| u64::try_from(left).ok()).map(Duration::from_millis);
        rows.extend(place.map(|place| match place {
            Position::Directory(directory) => Row::Directory(directory),
            Position::Key(key) => {
                let version = match ask.wanted {
                    Wanted::Values => Note::version(note, &value),
                    Wanted::Keys => Note::noted(note),
                };
                Row::Key(Found { key, version, value, left })
            }
        }));
    }
    Ok(Rows { rows, more: Some(from).filter(|from| !from.is_empty()), last })
}

/// Returns the key or the directory of a row; `None` for a name that is none of ours.
fn place(name: &[u8]) -> Option<Position> {
    let name = std::str::from_utf8(name).ok()?;
    match name.strip_suffix('/') {
        Some(name) => Key::from_stored(name).map(|key| Position::Directory(key.as_directory())),
        None => Key::from_stored(name).map(Position::Key),
    }
}

/// Returns the bound that a cursor of this directory notes.
fn noted(cursor: &Cursor, directory: &Directory) -> Option<String> {
    let bound = std::str::from_utf8(cursor.as_bytes()).ok()?;
    bound.strip_prefix(['(', '['])?.starts_with(&directory.start()).then(|| bound.to_owned())
}

/// Lists a page of what is in a directory.
pub(crate) async fn page(
    core: &Core,
    directory: &Directory,
    from: Option<&Cursor>,
    options: &ListOptions,
) -> Result<Page> {
    let (start, end) = below(directory);
    let from = match (from, &options.start_after) {
        (Some(cursor), _) => noted(cursor, directory).ok_or_else(Cursor::refused)?,
        (None, Some(place)) => {
            let at = match place {
                Position::Key(key) => format!("({key}"),
                Position::Directory(directory) => format!("[{}", directory.start()),
            };
            // A position before the directory means its beginning.
            if place.start().as_bytes() < directory.start().as_bytes() { start } else { at }
        }
        (None, None) => start,
    };
    let wanted = if options.keys_only { Wanted::Keys } else { Wanted::Values };
    let ask =
        Ask { children: !options.recursive, wanted, lives: false, most: options.limit.unwrap_or(ITEMS) };
    let Rows { rows, more: next, .. } =
        rows(core, directory, (&from, &end), ask, options.read.deadline).await?;
    let items = rows.into_iter().map(|row| match row {
        Row::Directory(directory) => Item::Directory(directory),
        Row::Key(found) if options.keys_only => Item::Key(found.key, found.version),
        Row::Key(found) => Item::Entry(Entry::new(found.key, found.value, found.version)),
    });
    let behind = |item: &Item| options.start_after.as_ref().is_none_or(|place| item.position() > *place);
    Ok(Page { items: items.filter(behind).collect(), next: next.map(Cursor::new) })
}

/// Notes names that listings do not have, those of one step through all names on the server, and
/// returns the place of the next step.
pub(crate) async fn left_out(
    core: &Core,
    directory: &Directory,
    cursor: &str,
    options: &ListOptions,
) -> Result<Option<String>> {
    let deadline = options.read.deadline;
    let pattern = core.names.pattern(directory);
    let scan = [cursor, "MATCH", &pattern, "COUNT", "1000"];
    let mut answer = core.client.command(deadline, "SCAN", &scan).await?.list()?;
    let next_step = next(&mut answer)?.text()?;
    let mut keys = Vec::new();
    for name in next(&mut answer)?.list()? {
        let name = Answer(name).bytes()?;
        match core.names.parse(&name).filter(|key| key.is_below(directory)) {
            Some(key) => keys.push(key),
            None if core.names.is_own(&name) => {}
            None => options.left_out.note(&name),
        }
    }
    if !keys.is_empty() {
        let [_, index, ..] = core.names.store();
        let noted: Vec<_> = std::iter::once(&*index).chain(keys.iter().map(Key::as_str)).collect();
        let scores = core.client.command(deadline, "ZMSCORE", &noted).await?.list()?;
        let unlisted = keys.iter().zip(scores).filter(|(_, score)| score.is_null()).map(|(key, _)| key);
        let names: Vec<_> = unlisted.map(|key| core.names.key(key.as_str())).collect();
        for (name, kind) in names.iter().zip(types(core, &names, deadline).await?) {
            match kind.text()?.as_str() {
                "string" => options.left_out.adoptable(name),
                // It has gone meanwhile.
                "none" => {}
                _ => options.left_out.note(name),
            }
        }
    }
    Ok(Some(next_step).filter(|step| step != "0"))
}

/// Asks for the types of all these names at once.
async fn types(core: &Core, names: &[String], deadline: Deadline) -> Result<Vec<Answer>> {
    let answered = core.client.ask(RetrySafety::Read, deadline, |link| async move {
        try_join_all(names.iter().map(|name| link.call("TYPE", vec![name.as_str().into()]))).await
    });
    Ok(answered.await?.answer.into_iter().map(Answer).collect())
}

/// Runs a short script about one key. Returns `None` where the server refused it: whether the
/// reason concerns a read, the script for several keys knows, which is asked then.
async fn short(
    core: &Core,
    script: &'static Script,
    key: &Key,
    deadline: Deadline,
) -> Result<Option<(Answer, Latest)>> {
    let request = &core.short(script, key);
    let answered = core.client.ask(RetrySafety::Read, deadline, |link| async move {
        if link.is_narrow() {
            return Ok(None);
        }
        match request.send(&link).await {
            Ok(answer) => Ok(Some((Answer(answer), link.latest()))),
            Err(failed) if matches!(failed.effect, Effect::Refused | Effect::RefusedHere) => {
                if failed.error.kind() == ErrorKind::PermissionDenied {
                    link.narrow();
                }
                Ok(None)
            }
            Err(failed) => Err(failed),
        }
    });
    Ok(answered.await?.answer)
}

/// Reads one key.
pub(crate) async fn get(core: &Core, key: &Key, options: &ReadOptions) -> Result<Option<Entry>> {
    if let Some((answer, latest)) = short(core, &script::GET, key, options.deadline).await? {
        let Some(found) = answer.some() else { return Ok(None) };
        let mut found = found.list()?;
        let value = next(&mut found)?.bytes()?;
        let Some(note) = next(&mut found)?.some() else {
            // Another tool wrote the value.
            return Ok(Some(entry(key, value, None)));
        };
        let note = Note::of(Some(&note.bytes()?), latest);
        if note.is_some() {
            return Ok(Some(entry(key, value, note)));
        }
    }
    // The script for several keys also says whether a note is to be believed.
    Ok(read(core, slice::from_ref(key), options.deadline).await?.pop().flatten())
}

fn entry(key: &Key, value: Bytes, note: Option<Note>) -> Entry {
    let version = Note::version(note, &value);
    Entry::new(key.clone(), value, version)
}

/// Reads several keys with their versions.
pub(crate) async fn read(core: &Core, keys: &[Key], deadline: Deadline) -> Result<Vec<Option<Entry>>> {
    let mut all = Vec::with_capacity(keys.len());
    while all.len() < keys.len() {
        let rest = &keys[all.len()..];
        let rest = &rest[..rest.len().min(MOST_KEYS)];
        let names = rest.iter().map(|key| core.names.key(key.as_str()));
        let arguments = rest.iter().map(|key| key.as_str().into());
        let (mut packed, latest) = core.read(deadline, names, arguments).await?;
        // An answer has fewer values than were asked for where they are large.
        if packed.is_over() {
            return Err(not_ours());
        }
        for key in rest {
            if packed.is_over() {
                break;
            }
            let value = packed.bytes()?;
            let note = Note::of(packed.text()?, latest);
            all.push(value.map(|value| entry(key, value, note)));
        }
    }
    Ok(all)
}

/// Returns whether the key exists.
pub(crate) async fn exists(core: &Core, key: &Key, options: &ReadOptions) -> Result<bool> {
    if let Some((answer, _)) = short(core, &script::HAS, key, options.deadline).await? {
        return Ok(answer.number()? == 1);
    }
    let name = [core.names.key(key.as_str())];
    let answer = core.run(RetrySafety::Read, options.deadline, &script::EXISTS, name, []).await?;
    Ok(answer.number()? == 1)
}
