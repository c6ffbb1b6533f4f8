//! `edit`.

use super::put::tell;
use crate::{
    exit::{Exit, Failure, Run},
    guarded::Signals,
    out::{Out, note},
    text,
};
use clap::Args;
use kv_core::{Entry, ErrorKind, Key, Kv, Written};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    env,
    ffi::OsString,
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{process::Command, time::timeout};

/// The time that an editor has to end at a signal that ends this program.
const GRACE: Duration = Duration::from_secs(2);

/// The arguments of `edit`.
#[derive(Args, Debug)]
pub(crate) struct EditArgs {
    /// The key; if it is not there, it is created
    key: Key,
    /// The editor, with its arguments; unless given, that of VISUAL or EDITOR, else vi
    #[arg(long, value_name = "COMMAND")]
    editor: Option<String>,
    /// Has the key go by itself after this time; without it, it stays
    #[arg(long, value_name = "TIME", value_parser = text::duration)]
    ttl: Option<Duration>,
}

pub(crate) async fn edit(args: EditArgs, kv: &Kv, out: &mut Out) -> Run {
    let found = kv.get(&args.key).await?;
    let before = found.as_ref().map(|entry| entry.value.to_vec()).unwrap_or_default();
    let draft = Draft::of(&args.key, &before)?;
    let ended = open_editor(args.editor.as_deref(), &draft.path).await;
    let is_work = match ended {
        Ok(None) => false,
        // The editor may go on, and save once more.
        Ok(Some(_)) => true,
        Err(_) => draft.read().is_ok_and(|after| after != before),
    };
    if is_work {
        let path = draft.keep();
        note(&format!("it was not written; what was saved is in {}", path.display()));
        return ended.map(|exit| exit.unwrap_or(Exit::FAILED));
    }
    if let Some(exit) = ended? {
        return Ok(exit);
    }
    let mut after = draft.read()?;
    // Editors end the last line, also where the value did not.
    if after.ends_with(b"\n") && !before.ends_with(b"\n") {
        after.pop();
    }
    if after == before {
        note("nothing was changed");
        return Ok(Exit::DONE);
    }
    match put(kv, &args, found.as_ref(), after).await {
        Ok(written) => tell(&args.key, written, args.ttl, out),
        Err(e) => {
            let path = draft.keep();
            let reason = match e.kind() {
                ErrorKind::KeyExists | ErrorKind::KeyModified => {
                    "somebody else has written the key meanwhile"
                }
                ErrorKind::OutcomeUnknown => "nobody knows whether it was written",
                _ => "it was not written",
            };
            note(&format!("{reason}; what you wrote is in {}", path.display()));
            Err(e.into())
        }
    }
}

/// Writes the value if the key is still as it was found; returns what was written.
async fn put(kv: &Kv, args: &EditArgs, found: Option<&Entry>, value: Vec<u8>) -> kv_core::Result<Written> {
    let put = kv.put(&args.key, value);
    let put = match found {
        Some(entry) => put.if_version(entry.version),
        None => put.if_missing(),
    };
    let put = if let Some(ttl) = args.ttl { put.ttl(ttl) } else { put };
    put.await
}

/// Runs the editor, without a shell: its words are split at white space. Returns the exit code where
/// a signal is to end this program, and with it the editor.
async fn open_editor(given: Option<&str>, path: &Path) -> Run<Option<Exit>> {
    let named = |name: &str| env::var(name).ok().filter(|editor| !editor.trim().is_empty());
    let given = given.map(ToOwned::to_owned);
    let editor = given.or_else(|| named("VISUAL")).or_else(|| named("EDITOR"));
    let editor = editor.unwrap_or_else(|| "vi".to_owned());
    let mut words = editor.split_whitespace().map(OsString::from);
    let program = words.next().ok_or_else(|| Failure::usage("the editor has no name"))?;
    let mut signals = Signals::catch()?;
    let not_started = |e| Failure::here(format!("the editor {editor:?} cannot be started: {e}"));
    let mut child = Command::new(program).args(words).arg(path).spawn().map_err(not_started)?;
    let ended = loop {
        tokio::select! {
            biased;
            status = child.wait() => break status,
            signal = signals.next() => match signal {
                Signal::TERM | Signal::HUP => {
                    if let Some(editor) = child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
                        let _ = kill_process(editor, signal);
                    }
                    // What it saves at its end is saved by then.
                    let _ = timeout(GRACE, child.wait()).await;
                    return Ok(Some(Exit::of_signal(signal.as_raw())));
                }
                // The terminal's signals are for the editor while it runs.
                _ => {}
            },
        }
    };
    let status = ended.map_err(|e| Failure::here(format!("the editor {editor:?} is not watched: {e}")))?;
    if status.success() {
        return Ok(None);
    }
    Err(Failure::here(format!("the editor {editor:?} ended with {status}; nothing was written")))
}

/// The value in a file of this user alone, which goes with this unless it is kept.
struct Draft {
    path: PathBuf,
    is_kept: bool,
}

impl Draft {
    fn of(key: &Key, value: &[u8]) -> Run<Self> {
        // The name's ending tells the editor what it is.
        let name = key.name();
        let suffix = Path::new(name).extension().map(|suffix| suffix.to_string_lossy());
        let suffix = suffix.map(|suffix| format!(".{suffix}")).unwrap_or_default();
        let moment = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let path = env::temp_dir().join(format!("kv-edit-{}-{moment}{suffix}", process::id()));
        let failed = |e| Failure::here(format!("{} cannot be written: {e}", path.display()));
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let mut file = made.map_err(failed)?;
        let draft = Self { path: path.clone(), is_kept: false };
        file.write_all(value).map_err(failed)?;
        Ok(draft)
    }

    /// Reads what the editor has left, which may be another file of the same name.
    fn read(&self) -> Run<Vec<u8>> {
        let read = fs::read(&self.path);
        read.map_err(|e| Failure::here(format!("{} cannot be read: {e}", self.path.display())))
    }

    fn keep(mut self) -> PathBuf {
        self.is_kept = true;
        self.path.clone()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.is_kept {
            let _ = fs::remove_file(&self.path);
        }
    }
}
