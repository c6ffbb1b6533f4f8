//! `render`: a file out of a template, kept in step with a store.

mod command;
mod last_good;
mod owner;
mod target;

use crate::{
    exit::{Exit, Failure, Run},
    guarded::Signals,
    lines::V,
    out::{Out, note},
    template, text,
    view::{Quiet, View},
};
use clap::Args;
use kv_core::{Bytes, Directory, Key, Kv, backend::Backoff};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    fs::{self, File},
    future::Future,
    io,
    path::{Path, PathBuf},
    time::Duration,
};
use target::{Rights, file, replaced};
use tokio::time::{Instant, sleep_until};

/// The pauses before what failed is tried again: the first, and the longest.
const LEAST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(60);

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
    #[arg(long, short = 'n', conflicts_with_all = ["once", "check", "reload", "state"])]
    dry_run: bool,
    /// The time without a change that has to pass before the template is rendered, from the first
    /// time on; --once and --dry-run do not wait
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
    /// Keeps in this file what the store had at the last rendering, and renders with that when the
    /// store cannot be reached at the start
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    #[command(flatten)]
    rights: Rights,
    /// The file was written, and its reader does not know, at the start.
    #[arg(skip)]
    is_untold: bool,
}

/// The content that the file would get, as `--dry-run` shows it.
#[derive(Serialize)]
struct RenderLine<'a> {
    v: u8,
    target: &'a str,
    differs: bool,
    value: &'a str,
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

/// Renders with the keys that were kept, where the store cannot be reached for this reason, and
/// returns the store when it can be; or the exit code of what ended it before.
pub(crate) async fn without_store<F: Future<Output = Run<Kv>>>(
    args: &mut RenderArgs,
    why: Failure,
    open: impl Fn() -> F,
    out: &Out,
) -> Run<Result<Kv, Exit>> {
    let (Some(state), Failure::Store(away)) = (&args.state, &why) else { return Err(why) };
    if !away.is_transient() {
        return Err(why);
    }
    let keys = match last_good::read(state).await {
        Ok(keys) => keys,
        Err(failure) => {
            note_failure(&failure);
            return Err(why);
        }
    };
    note(&format!("{away}; what it had at the last rendering is taken"));
    let (mut signals, mut step) = (Signals::catch()?, Step::new(false));
    if args.once {
        let new = rendered(args, &keys)?;
        return match unless_ended(&mut signals, step.write(args, &new, &keys, out)).await {
            Ok(written) => written.map(|_| Err(Exit::DONE)),
            Err(ended) => Ok(Err(ended)),
        };
    }
    if let Err(ended) = unless_ended(&mut signals, step.take(args, &keys, out)).await {
        return Ok(Err(ended));
    }
    let mut pauses = Backoff::new(LEAST, MOST);
    let opened = loop {
        let opens = async {
            pauses.pause().await;
            open().await
        };
        tokio::select! {
            biased;
            signal = signals.ending() => return Ok(Err(Exit::of_signal(signal.as_raw()))),
            () = step.due(), if step.again.is_some() => {
                if let Err(ended) = unless_ended(&mut signals, step.take(args, &keys, out)).await {
                    return Ok(Err(ended));
                }
            }
            opened = opens => match opened {
                Err(Failure::Store(e)) if e.is_transient() => {}
                opened => break opened?,
            },
        }
    };
    args.is_untold = step.reload;
    Ok(Ok(opened))
}

/// Does this work, unless a signal asks to end: then returns the exit code of that.
async fn unless_ended<T>(signals: &mut Signals, work: impl Future<Output = T>) -> Result<T, Exit> {
    tokio::select! {
        biased;
        signal = signals.ending() => Err(Exit::of_signal(signal.as_raw())),
        done = work => Ok(done),
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
        let new = rendered(&args, view.keys())?;
        let is_same = fs::read(&args.target).is_ok_and(|old| old == new.as_bytes());
        if out.is_json() {
            let target = args.target.to_string_lossy();
            out.object(&RenderLine { v: V, target: &target, differs: !is_same, value: &new })?;
        } else {
            out.value(new.as_bytes())?;
        }
        return Ok(if is_same { Exit::DONE } else { Exit::NO });
    }
    let mut step = Step::new(args.is_untold);
    if args.once {
        step.write(&args, &rendered(&args, view.keys())?, view.keys(), out).await?;
        return Ok(Exit::DONE);
    }
    let mut quiet = Quiet::new(args.quiet);
    // What is there may be a half of what somebody is writing.
    quiet.changed(Duration::ZERO);
    loop {
        tokio::select! {
            biased;
            changed = view.changed() => {
                changed?;
                quiet.changed(Duration::ZERO);
            }
            () = quiet.due(), if quiet.is_waiting() => step.take(&args, view.keys(), out).await,
            () = step.due(), if step.again.is_some() => step.take(&args, view.keys(), out).await,
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
    fn new(reload: bool) -> Self {
        Self { reload, again: None, pauses: Backoff::new(LEAST, MOST) }
    }

    /// Renders and writes. Tells of a failure after which the file stays as it was: the next change
    /// may mend that of the template, and time the others.
    async fn take(&mut self, args: &RenderArgs, keys: &BTreeMap<Key, Bytes>, out: &Out) {
        self.again = None;
        let done = match rendered(args, keys) {
            Ok(new) => self.write(args, &new, keys, out).await,
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

    /// Writes what has changed, keeps the keys that it was made of, and has its reader know.
    async fn write(
        &mut self,
        args: &RenderArgs,
        new: &str,
        keys: &BTreeMap<Key, Bytes>,
        out: &Out,
    ) -> Run<()> {
        let check = async |draft: &Path| match &args.check {
            Some(check) => command::run("check", check, draft, args.command_timeout).await,
            None => Ok(()),
        };
        self.reload |= replaced(&args.target, &args.rights, new.as_bytes(), check, out).await?;
        if let Some(state) = &args.state
            && let Err(failure) = last_good::keep(state, keys, out).await
        {
            // The file is as it is to be all the same.
            note_failure(&failure);
        }
        self.tell_reader(args).await
    }

    /// Has the reader of the file know of it, if it does not.
    async fn tell_reader(&mut self, args: &RenderArgs) -> Run<()> {
        if let Some(reload) = args.reload.as_ref().filter(|_| self.reload) {
            command::run("reload", reload, &args.target, args.command_timeout).await?;
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

fn rendered(args: &RenderArgs, keys: &BTreeMap<Key, Bytes>) -> Run<String> {
    let path = args.template.display();
    let source = fs::read_to_string(&args.template);
    let source = source.map_err(|e| Failure::here(not_read(&args.template, &e)))?;
    let rendered = template::render(&path.to_string(), &source, keys);
    rendered.map_err(|why| Failure::here(format!("the template {path} gives nothing: {why}")))
}

fn not_read(template: &Path, e: &io::Error) -> String {
    format!("the template {} cannot be read: {e}", template.display())
}
