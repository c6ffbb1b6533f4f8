//! `render`: a file out of a template, kept in step with a store.

use crate::{
    exit::{Exit, Failure, Run},
    guarded::{Child, Signals},
    lines::V,
    out::{Out, note},
    template, text,
    view::{Quiet, View},
};
use clap::Args;
use kv_core::{Directory, Kv, backend::Backoff};
use serde::Serialize;
use std::{
    ffi::{OsStr, OsString},
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown},
    },
    path::{Path, PathBuf},
    process,
    time::Duration,
};
use tokio::time::{Instant, sleep_until, timeout};

/// The pauses before what failed is tried again: the first, and the longest.
const LEAST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(60);
/// The time between the end of a command's time and its kill.
const GRACE: Duration = Duration::from_secs(2);

/// The arguments of `render`.
#[derive(Args, Debug)]
pub(crate) struct RenderArgs {
    /// The template, in the language of Jinja: get('a/b'), get('a', 'otherwise'), exists('a'),
    /// ls('nodes') with key, name and value of each, and `from_json`
    template: PathBuf,
    /// The file that is written, all at once; nothing else than a file, or a link to one
    target: PathBuf,
    /// Works on what lies below this directory; all names are those in it
    #[arg(long, short, value_name = "DIRECTORY", default_value = "/")]
    directory: Directory,
    /// Renders once, and ends
    #[arg(long)]
    once: bool,
    /// Prints what would be written, and ends; the exit code is 1 if it is not what the file has
    #[arg(long, short = 'n', conflicts_with_all = ["once", "check", "reload"])]
    dry_run: bool,
    /// The time without a change that has to pass before the template is rendered again
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = text::duration)]
    quiet: Duration,
    /// Runs this command, without a shell, before a new file takes its place; {} in it is the new
    /// file, in a part of a word too. If it fails, the old file stays
    #[arg(long, value_name = "COMMAND")]
    check: Option<String>,
    /// Runs this command, without a shell, when the file was written. If it fails, it is run again,
    /// after a second, and then after longer pauses, up to a minute
    #[arg(long, value_name = "COMMAND")]
    reload: Option<String>,
    /// The time that --check and --reload have; a command that takes longer is ended, and has failed
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = text::duration)]
    command_timeout: Duration,
    /// The rights of the file, as 640; unless given, those that it has, or 644
    #[arg(long, value_name = "MODE", value_parser = mode)]
    mode: Option<u32>,
}

/// The content that the file would get, as `--dry-run` shows it.
#[derive(Serialize)]
struct RenderLine<'a> {
    v: u8,
    target: &'a str,
    differs: bool,
    value: &'a str,
}

fn mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
    mode.ok_or_else(|| "the rights of a file look like 640".to_owned())
}

pub(crate) async fn render(args: RenderArgs, kv: &Kv, out: &mut Out) -> Run {
    let mut signals = Signals::catch()?;
    tokio::select! {
        biased;
        // The draft of a file, and with it what it says, does not outlive the program.
        signal = signals.ending() => Ok(Exit::of_signal(signal.as_raw())),
        ended = Box::pin(keep(args, kv, out)) => ended,
    }
}

/// Renders, once or for ever.
async fn keep(args: RenderArgs, kv: &Kv, out: &mut Out) -> Run {
    file(&args.target)?;
    // A template that is missing now is a mistyped one.
    File::open(&args.template).map_err(|e| Failure::usage(not_read(&args.template, &e)))?;
    let mut view = View::open(kv, &args.directory).await?;
    view.synced().await?;
    if args.dry_run {
        let new = rendered(&args, &view)?;
        let is_same = fs::read(&args.target).is_ok_and(|old| old == new.as_bytes());
        if out.is_json() {
            let target = args.target.to_string_lossy();
            out.object(&RenderLine { v: V, target: &target, differs: !is_same, value: &new })?;
        } else {
            out.value(new.as_bytes())?;
        }
        return Ok(if is_same { Exit::DONE } else { Exit::NO });
    }
    let mut step = Step::new();
    if args.once {
        step.write(&args, &rendered(&args, &view)?, out).await?;
        return Ok(Exit::DONE);
    }
    step.take(&args, &view, out).await;
    let mut quiet = Quiet::new(args.quiet);
    loop {
        tokio::select! {
            biased;
            changed = view.changed() => {
                changed?;
                quiet.changed(Duration::ZERO);
            }
            () = quiet.due(), if quiet.is_waiting() => step.take(&args, &view, out).await,
            () = step.due(), if step.again.is_some() => step.take(&args, &view, out).await,
        }
    }
}

/// The work that is left to do for the file that was rendered last.
#[derive(Debug)]
struct Step {
    /// The file was written, and its reader does not know.
    reload: bool,
    /// The moment at which what failed is tried again.
    again: Option<Instant>,
    pauses: Backoff,
}

impl Step {
    fn new() -> Self {
        Self { reload: false, again: None, pauses: Backoff::new(LEAST, MOST) }
    }

    /// Renders and writes. Tells of a failure after which the file stays as it was: the next change
    /// may mend that of the template, and time the others.
    async fn take(&mut self, args: &RenderArgs, view: &View, out: &Out) {
        self.again = None;
        let done = match rendered(args, view) {
            Ok(new) => self.write(args, &new, out).await,
            Err(failure) => {
                note_failure(&failure);
                // The file that was written before is there all the same.
                self.tell_reader(args).await
            }
        };
        match done {
            Ok(()) => self.pauses.reset(),
            Err(failure) => {
                self.again = Some(Instant::now() + self.pauses.delay().max(LEAST));
                note_failure(&failure);
            }
        }
    }

    /// Waits until what failed is to be tried again. Cancel safe.
    async fn due(&self) {
        if let Some(again) = self.again {
            sleep_until(again).await;
        }
    }

    /// Writes what has changed, and has its reader know.
    async fn write(&mut self, args: &RenderArgs, new: &str, out: &Out) -> Run<()> {
        self.reload |= replaced(args, new, out).await?;
        self.tell_reader(args).await
    }

    /// Has the reader of the file know of it, if it does not.
    async fn tell_reader(&mut self, args: &RenderArgs) -> Run<()> {
        if let Some(reload) = args.reload.as_ref().filter(|_| self.reload) {
            command("reload", reload, &args.target, args.command_timeout).await?;
        }
        self.reload = false;
        Ok(())
    }
}

fn note_failure(failure: &Failure) {
    if let Some((_, why)) = failure.words() {
        note(&why);
    }
}

fn rendered(args: &RenderArgs, view: &View) -> Run<String> {
    let path = args.template.display();
    let source = fs::read_to_string(&args.template);
    let source = source.map_err(|e| Failure::here(not_read(&args.template, &e)))?;
    let rendered = template::render(&path.to_string(), &source, view.keys());
    rendered.map_err(|why| Failure::here(format!("the template {path} gives nothing: {why}")))
}

fn not_read(template: &Path, e: &io::Error) -> String {
    format!("the template {} cannot be read: {e}", template.display())
}

/// Returns the file that this path is, or a link to it. What is there and is no file is neither read
/// nor replaced: a device may have no end, and a pipe no other side.
fn file(target: &Path) -> Run<PathBuf> {
    let shown = target.display();
    if target == Path::new("-") {
        return Err(Failure::usage("a file is rendered, and - is none; --dry-run prints it"));
    }
    match fs::metadata(target) {
        Ok(there) if !there.is_file() => {
            Err(Failure::usage(format!("{shown} is no regular file; --dry-run with another one prints it")))
        }
        Ok(_) => fs::canonicalize(target).map_err(|e| Failure::here(format!("{shown} cannot be found: {e}"))),
        Err(_) => Ok(target.to_owned()),
    }
}

/// Replaces the file if it is another than this; tells whether it was. One that has this content has
/// the rights that were asked for behind it, too.
async fn replaced(args: &RenderArgs, new: &str, out: &Out) -> Run<bool> {
    let target = file(&args.target)?;
    let before = fs::metadata(&target).ok();
    let failed = |e: io::Error| Failure::here(format!("{} cannot be written: {e}", args.target.display()));
    if let Some(before) = &before
        && fs::read(&target).is_ok_and(|old| old == new.as_bytes())
    {
        if let Some(mode) = args.mode.filter(|mode| before.mode() & 0o7777 != *mode) {
            fs::set_permissions(&target, Permissions::from_mode(mode)).map_err(failed)?;
            out.acts().note();
        }
        return Ok(false);
    }
    let (draft, mut file) = Draft::beside(&target).map_err(failed)?;
    file.write_all(new.as_bytes()).map_err(failed)?;
    // Without the right to give files away, the new one is this user's.
    if let Some(before) = &before
        && let Err(e) = chown(&draft.0, Some(before.uid()), Some(before.gid()))
    {
        let shown = args.target.display();
        note(&format!("{shown} now belongs to this user, since its owner and group cannot be kept: {e}"));
    }
    let has = before.map_or(0o644, |before| before.mode() & 0o7777);
    file.set_permissions(Permissions::from_mode(args.mode.unwrap_or(has))).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    if let Some(check) = &args.check {
        command("check", check, &draft.0, args.command_timeout).await?;
    }
    fs::rename(&draft.0, &target).map_err(failed)?;
    out.acts().note();
    Ok(true)
}

/// A file that goes unless it was renamed.
struct Draft(PathBuf);

impl Draft {
    /// Makes a file beside this one, from which it can be renamed to it. Nobody else may read it
    /// before it has its rights: it may hold a secret.
    fn beside(target: &Path) -> io::Result<(Self, File)> {
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let path = target.with_file_name(format!(".{name}.kv-{}", process::id()));
        let make = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let made = match make() {
            // One that was killed had the number of this process, as in a container each has.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                fs::remove_file(&path)?;
                make()
            }
            made => made,
        };
        made.map(|file| (Self(path), file))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Returns a word of a command in which each `{}` is the file.
fn with_the_file(word: &str, file: &OsStr) -> OsString {
    let parts: Vec<_> = word.split("{}").map(str::as_bytes).collect();
    OsString::from_vec(parts.join(file.as_bytes()))
}

/// Runs a command without a shell: its words are split at white space, and `{}` is the file. It has a
/// process group of its own, of which nothing is left when it ends, when its time is over, or when
/// this program ends.
async fn command(what: &str, line: &str, file: &Path, within: Duration) -> Run<()> {
    let words: Vec<_> = line.split_whitespace().map(|word| with_the_file(word, file.as_os_str())).collect();
    if words.is_empty() {
        return Err(Failure::usage(format!("the command of --{what} is empty")));
    }
    let then = if what == "check" { "; the file stays as it was" } else { "" };
    let mut child = Child::start(&words, Vec::new())?;
    let ended = match timeout(within, child.status()).await {
        Ok(ended) => ended,
        Err(_) => {
            child.ask_to_end(GRACE);
            child.status().await?;
            let within = text::of_duration(within);
            return Err(Failure::here(format!("{line:?} did not end within {within}, and was ended{then}")));
        }
    };
    match ended {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::here(format!("{line:?} ended with {status}{then}"))),
        // The codes of shells are for commands that are this program's own result.
        Err(Failure::Found(_, why)) => Err(Failure::here(format!("{why}{then}"))),
        Err(other) => Err(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_draft_of_one_that_was_killed_is_in_nobodys_way() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("conf");
        let (left, file) = Draft::beside(&target).unwrap();
        std::mem::forget((left, file));
        let (draft, file) = Draft::beside(&target).unwrap();
        assert_eq!(file.metadata().unwrap().mode() & 0o077, 0, "nobody else may open it");
        assert!(fs::read(&draft.0).unwrap().is_empty());
        drop(draft);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
