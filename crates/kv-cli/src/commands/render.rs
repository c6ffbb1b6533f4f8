//! `render`: a file out of a template, kept in step with a store.

use crate::{
    exit::{Exit, Failure, Run},
    lines::V,
    out::{Out, note},
    template, text,
    view::{Quiet, View},
};
use clap::Args;
use kv_core::{Directory, Kv};
use serde::Serialize;
use std::{
    fs::{self, File, Permissions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    process,
    time::Duration,
};
use tokio::process::Command;

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
    /// How long nothing may change before the template is rendered again
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = text::duration)]
    quiet: Duration,
    /// Runs this command, without a shell, before a new file takes its place; {} in it is the new
    /// file. If it fails, the old file stays
    #[arg(long, value_name = "COMMAND")]
    check: Option<String>,
    /// Runs this command, without a shell, when the file was written
    #[arg(long, value_name = "COMMAND")]
    reload: Option<String>,
    /// The rights of the file, as 640; unless given, those that it has, or 644
    #[arg(long, value_name = "MODE", value_parser = mode)]
    mode: Option<u32>,
}

/// What would be written.
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
    file(&args.target)?;
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
    let written = write(&args, &view).await;
    if args.once {
        return written.map(|()| Exit::DONE);
    }
    keep(written);
    let mut quiet = Quiet::new(args.quiet);
    loop {
        tokio::select! {
            biased;
            changed = view.changed() => {
                changed?;
                quiet.changed(Duration::ZERO);
            }
            () = quiet.due(), if quiet.is_waiting() => keep(write(&args, &view).await),
        }
    }
}

/// Tells of a failure after which the file stays as it was, and the next change may mend it.
fn keep(written: Run<()>) {
    if let Err(failure) = written
        && let Some((_, why)) = failure.words()
    {
        note(&why);
    }
}

fn rendered(args: &RenderArgs, view: &View) -> Run<String> {
    let path = args.template.display();
    let source = fs::read_to_string(&args.template);
    let source = source.map_err(|e| Failure::here(format!("the template {path} cannot be read: {e}")))?;
    let rendered = template::render(&path.to_string(), &source, view.keys());
    rendered.map_err(|why| Failure::here(format!("the template {path} gives nothing: {why}")))
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

/// Renders the template, and writes what has changed.
async fn write(args: &RenderArgs, view: &View) -> Run<()> {
    let new = rendered(args, view)?;
    let target = file(&args.target)?;
    let before = fs::metadata(&target).ok();
    if before.is_some() && fs::read(&target).is_ok_and(|old| old == new.as_bytes()) {
        return Ok(());
    }
    let failed = |e: io::Error| Failure::here(format!("{} cannot be written: {e}", args.target.display()));
    let draft = Draft(beside(&target));
    let mut file = File::create_new(&draft.0).map_err(failed)?;
    // Nobody else may read it before it has its rights.
    file.set_permissions(Permissions::from_mode(0o600)).map_err(failed)?;
    file.write_all(new.as_bytes()).map_err(failed)?;
    if let Some(before) = &before {
        // Without the right to give files away, the new one is this user's.
        let _ = chown(&draft.0, Some(before.uid()), Some(before.gid()));
    }
    let has = before.map_or(0o644, |before| before.mode() & 0o7777);
    file.set_permissions(Permissions::from_mode(args.mode.unwrap_or(has))).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    if let Some(check) = &args.check {
        command("check", check, &draft.0).await?;
    }
    fs::rename(&draft.0, &target).map_err(failed)?;
    if let Some(reload) = &args.reload {
        command("reload", reload, &args.target).await?;
    }
    Ok(())
}

/// Returns the path of a file beside this one, from which it can be renamed to it.
fn beside(target: &Path) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    target.with_file_name(format!(".{name}.kv-{}", process::id()))
}

/// A file that goes unless it was renamed.
struct Draft(PathBuf);

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Runs a command without a shell: its words are split at white space, and `{}` is the file.
async fn command(what: &str, line: &str, file: &Path) -> Run<()> {
    let mut words = line.split_whitespace().map(|word| match word {
        "{}" => file.as_os_str().to_owned(),
        word => word.into(),
    });
    let program = words.next().ok_or_else(|| Failure::usage(format!("the command of --{what} is empty")))?;
    let status = Command::new(program).args(words).status().await;
    let status = status.map_err(|e| Failure::here(format!("{line:?} cannot be started: {e}")))?;
    if status.success() {
        return Ok(());
    }
    let then = if what == "check" { "; the file stays as it was" } else { "" };
    Err(Failure::here(format!("{line:?} ended with {status}{then}")))
}
