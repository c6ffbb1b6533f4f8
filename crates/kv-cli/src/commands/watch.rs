//! `watch`, `wait`.

use crate::{
    exit::{Exit, Failure, Run},
    lines::{Content, EntryLine, V},
    out::{Look, Out},
    text,
};
use clap::Args;
use kv_core::{Directory, Entry, Key, Kv, Version, Watch, WatchEvent};
use serde::Serialize;
use std::{ffi::OsString, time::Duration};

/// The arguments of `watch`.
#[derive(Args, Debug)]
pub(crate) struct WatchArgs {
    /// The key, or with --recursive the directory; neither need be there yet
    #[arg(value_parser = text::name)]
    name: String,
    /// Watches all keys below the directory
    #[arg(long, short)]
    recursive: bool,
    /// Leaves out what is there already
    #[arg(long, short)]
    updates: bool,
    /// Leaves out deletions
    #[arg(long)]
    no_deletes: bool,
    /// Ends behind so many events
    #[arg(long, short = 'n', value_name = "N")]
    count: Option<u64>,
}

/// An event, as `--json` shows it.
#[derive(Serialize)]
struct EventLine<'a> {
    v: u8,
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(flatten)]
    content: Content<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
}

pub(crate) async fn watch(args: WatchArgs, kv: &Kv, out: &mut Out) -> Run {
    let watch = if args.recursive {
        kv.watch_tree(Directory::parse(&args.name)?)
    } else {
        kv.watch(Key::parse(&args.name)?)
    };
    let mut watch = watch.await?;
    let mut gone = Box::pin(out.reader_gone());
    let (mut is_synced, mut left) = (false, args.count.unwrap_or(u64::MAX));
    while left > 0 {
        let event = tokio::select! {
            biased;
            failure = &mut gone => return Err(failure),
            event = watch.event() => event?,
        };
        let is_wanted = match &event {
            WatchEvent::Synced => std::mem::replace(&mut is_synced, true) || !args.updates,
            WatchEvent::Delete { .. } => !args.no_deletes,
            WatchEvent::Put(_) => is_synced || !args.updates,
        };
        if is_wanted {
            show(&event, out)?;
            if event != WatchEvent::Synced {
                left -= 1;
            }
        }
        out.flush()?;
    }
    Ok(Exit::DONE)
}

fn show(event: &WatchEvent, out: &mut Out) -> Run<()> {
    let (name, look) = match event {
        WatchEvent::Put(_) => ("put", Some(Look::Added)),
        WatchEvent::Delete { .. } => ("delete", Some(Look::Removed)),
        WatchEvent::Synced => ("synced", None),
    };
    if out.is_json() {
        let (content, version) = match event {
            WatchEvent::Put(entry) => (Content::of(&entry.value), Some(entry.version)),
            WatchEvent::Delete { version, .. } => (Content::default(), Some(*version)),
            WatchEvent::Synced => (Content::default(), None),
        };
        let (key, version) = (event.key().map(Key::as_str), version.map(|version| version.to_string()));
        return out.object(&EventLine { v: V, event: name, key, content, version });
    }
    let between = out.between();
    let rest = match event {
        WatchEvent::Put(entry) => {
            format!("{between}{}{between}{}", entry.key, text::on_one_line(&entry.value))
        }
        WatchEvent::Delete { key, .. } => format!("{between}{key}"),
        WatchEvent::Synced => String::new(),
    };
    out.shown(look, name, &rest)
}

/// The arguments of `wait`.
#[derive(Args, Debug)]
pub(crate) struct WaitArgs {
    /// The key
    key: Key,
    /// Waits until the key is not there
    #[arg(long, conflicts_with_all = ["value", "not_version"])]
    gone: bool,
    /// Waits until the key has this value
    #[arg(long, value_name = "VALUE")]
    value: Option<OsString>,
    /// Waits until the key is there at another version than this one
    #[arg(long, value_name = "VERSION")]
    not_version: Option<Version>,
    /// Gives up after this time, with exit code 1 if the store then says that it is not so
    #[arg(long, value_name = "TIME", value_parser = text::duration)]
    within: Option<Duration>,
}

impl WaitArgs {
    /// Tells whether the key is as they say.
    fn is_met_by(&self, found: Option<&Entry>) -> bool {
        if self.gone {
            return found.is_none();
        }
        found.is_some_and(|entry| {
            let value = self.value.as_ref().map(|value| value.as_encoded_bytes());
            value.is_none_or(|value| entry.value == value) && self.not_version != Some(entry.version)
        })
    }
}

pub(crate) async fn wait(args: WaitArgs, kv: &Kv, out: &mut Out) -> Run {
    let within = args.within.unwrap_or(Duration::MAX);
    let mut watch = kv.watch(&args.key).await?;
    let waited = tokio::time::timeout(within, until(&args, &mut watch)).await;
    let found = if let Ok(found) = waited {
        found?
    } else {
        // A watch rides out outages: whether the answer is no, the store has to say.
        let found = kv.get(&args.key).await?;
        if !args.is_met_by(found.as_ref()) {
            let why = format!("{:?} did not come to that within {}", args.key, text::of_duration(within));
            return Err(Failure::no(why));
        }
        found
    };
    if let Some(entry) = found
        && out.is_json()
    {
        out.object(&EntryLine::of(&entry))?;
    }
    Ok(Exit::DONE)
}

/// Waits until the key is as the arguments say; returns it.
async fn until(args: &WaitArgs, watch: &mut Watch) -> kv_core::Result<Option<Entry>> {
    // Before the first `Synced` it is not known that the key is missing.
    let (mut found, mut is_synced) = (None, false);
    loop {
        match watch.event().await? {
            WatchEvent::Put(entry) => found = Some(entry),
            WatchEvent::Delete { .. } => found = None,
            WatchEvent::Synced => is_synced = true,
        }
        if is_synced && args.is_met_by(found.as_ref()) {
            return Ok(found);
        }
    }
}
