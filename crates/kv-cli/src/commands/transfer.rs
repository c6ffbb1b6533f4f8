//! `export`, `import`, `apply`, `diff`, `copy`, `sync`, `check`.

use crate::{
    exit::{Exit, Failure, Run},
    guarded::Signals,
    lines::{ExportLine, ExportedLine},
    out::{Out, note},
    stores::Stores,
    transfer::{Folder, Location, Place, Plan, Role, compare, follow, tell_left_out, transfer},
};
use clap::Args;
use kv_core::{Directory, Kv};
use std::path::PathBuf;
use tokio::sync::oneshot;

/// The part of a store that a command works on.
#[derive(Args, Debug)]
struct Part {
    /// Works on what lies below this directory; all names are those in it
    #[arg(long, short, value_name = "DIRECTORY", default_value = "/")]
    directory: Directory,
}

impl Part {
    fn of(&self, kv: &Kv) -> Run<Kv> {
        Ok(kv.within(&self.directory)?)
    }
}

/// The choices between doing something and showing it.
#[derive(Args, Debug)]
struct Manner {
    /// Shows what would be done, and does nothing
    #[arg(long, short = 'n')]
    dry_run: bool,
    /// Shows each key that is written or deleted
    #[arg(long, short)]
    verbose: bool,
}

impl Manner {
    fn plan(&self) -> Plan {
        let Self { dry_run, verbose } = *self;
        let verbose = verbose || dry_run;
        Plan { replaces: true, deletes: false, max_delete: None, from_empty: false, dry_run, verbose }
    }
}

/// The deletions that a command may make.
#[derive(Args, Debug)]
struct Deletions {
    /// Deletes the keys that are only where it writes: at the end, and never after an error
    #[arg(long)]
    delete: bool,
    /// Deletes nothing if it would be more keys than this
    #[arg(long, value_name = "N", requires = "delete")]
    max_delete: Option<usize>,
    /// Deletes all keys where what is read has none; without it, or --max-delete, none is deleted
    #[arg(long, requires = "delete")]
    from_empty: bool,
}

impl Deletions {
    fn allow(&self, plan: Plan) -> Plan {
        let Self { delete, max_delete, from_empty } = *self;
        Plan { deletes: delete, max_delete, from_empty, ..plan }
    }
}

/// Two places.
#[derive(Args, Debug)]
struct Pair {
    /// The place that is read: a store by its URL or its name in the file of stores, a folder as
    /// dir:PATH, a git work tree as git:PATH
    from: String,
    /// The place that is written, or compared
    to: String,
    #[command(flatten)]
    part: Part,
}

/// The keys that a command is given.
#[derive(Args, Debug)]
struct Given {
    /// The file with the lines of an export, or a folder as dir:PATH or git:PATH; standard input if
    /// none is named
    file: Option<PathBuf>,
    /// Takes also a part of an export, or lines that another program made, which do not end with the
    /// number of their keys
    #[arg(long)]
    partial: bool,
}

impl Given {
    async fn place(self) -> Run<Place> {
        Place::of_file(self.file, self.partial).await
    }
}

/// The arguments of `export`.
#[derive(Args, Debug)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    part: Part,
}

pub(crate) async fn export(args: ExportArgs, kv: &Kv, out: &mut Out) -> Run {
    let mut entries = args.part.of(kv)?.list("").tell_left_out().entries();
    let mut exported = 0;
    while let Some(entry) = entries.next().await {
        let entry = entry?;
        out.object(&ExportLine::of(&entry.key, &entry.value))?;
        exported += 1;
    }
    // Only a whole export has it.
    out.object(&ExportedLine::of(exported))?;
    out.flush()?;
    tell_left_out("the store", &entries.left_out(), out);
    Ok(Exit::DONE)
}

/// The arguments of `import`.
#[derive(Args, Debug)]
pub(crate) struct ImportArgs {
    #[command(flatten)]
    given: Given,
    #[command(flatten)]
    part: Part,
    /// Leaves keys alone that are there with another value
    #[arg(long)]
    if_missing: bool,
    #[command(flatten)]
    manner: Manner,
}

pub(crate) async fn import(args: ImportArgs, kv: &Kv, out: &mut Out) -> Run {
    let plan = Plan { replaces: !args.if_missing, ..args.manner.plan() };
    let (from, to) = (args.given.place().await?, Place::Store(args.part.of(kv)?));
    transfer(&from, &to, &plan, out).await
}

/// The arguments of `apply`.
#[derive(Args, Debug)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    given: Given,
    #[command(flatten)]
    part: Part,
    #[command(flatten)]
    deletions: Deletions,
    #[command(flatten)]
    manner: Manner,
}

pub(crate) async fn apply(args: ApplyArgs, kv: &Kv, out: &mut Out) -> Run {
    let plan = args.deletions.allow(args.manner.plan());
    if args.given.partial && plan.deletes {
        let why = "--delete would delete what a part of an export lacks; give one of --partial and --delete";
        return Err(Failure::usage(why));
    }
    let (from, to) = (args.given.place().await?, Place::Store(args.part.of(kv)?));
    transfer(&from, &to, &plan, out).await
}

/// The arguments of `diff`.
#[derive(Args, Debug)]
pub(crate) struct DiffArgs {
    #[command(flatten)]
    given: Given,
    #[command(flatten)]
    part: Part,
}

pub(crate) async fn diff(args: DiffArgs, kv: &Kv, out: &mut Out) -> Run {
    let (from, to) = (args.given.place().await?, Place::Store(args.part.of(kv)?));
    compare(&from, &to, false, out).await
}

/// The arguments of `copy`.
#[derive(Args, Debug)]
pub(crate) struct CopyArgs {
    #[command(flatten)]
    pair: Pair,
    /// Leaves keys alone that are there with another value
    #[arg(long)]
    if_missing: bool,
    #[command(flatten)]
    manner: Manner,
}

pub(crate) async fn copy(args: CopyArgs, stores: &Stores, out: &mut Out) -> Run {
    let plan = Plan { replaces: !args.if_missing, ..args.manner.plan() };
    args.pair.refuse_overlap(stores)?;
    let (from, to) = args.pair.open(stores).await?;
    close(transfer(&from, &to, &plan, out).await, &from, &to).await
}

/// The arguments of `sync`.
#[derive(Args, Debug)]
pub(crate) struct SyncArgs {
    #[command(flatten)]
    pair: Pair,
    #[command(flatten)]
    deletions: Deletions,
    #[command(flatten)]
    manner: Manner,
    /// Goes on with every change of the store that is read, until a signal comes, and compares the
    /// two then
    #[arg(long, short = 'f', conflicts_with = "dry_run")]
    follow: bool,
}

pub(crate) async fn sync(args: SyncArgs, stores: &Stores, out: &mut Out) -> Run {
    let plan = args.deletions.allow(args.manner.plan());
    args.pair.refuse_overlap(stores)?;
    let (from, to) = args.pair.open(stores).await?;
    let done = match &from {
        _ if !args.follow => transfer(&from, &to, &plan, out).await,
        // What differs at first is carried over as by any other copy, which a signal breaks off.
        Place::Store(kv) => {
            let (again, told) = oneshot::channel();
            tokio::select! {
                biased;
                // The comparison in the end, which writes nothing, is broken off by another signal.
                Ok(exit) = told => Ok(exit),
                ended = follow(kv, &to, &plan, out, || until_signal(again)) => ended,
            }
        }
        _ => {
            let why =
                "--follow needs a store to read, since a folder tells no changes; run sync again instead";
            Err(Failure::usage(why))
        }
    };
    close(done, &from, &to).await
}

/// Waits for a signal, and then has `again` tell the exit code of the next one.
fn until_signal(again: oneshot::Sender<Exit>) -> Run<impl Future> {
    let mut signals = Signals::catch()?;
    Ok(async move {
        signals.ending().await;
        tokio::spawn(async move { again.send(Exit::of_signal(signals.ending().await.as_raw())) });
    })
}

/// The arguments of `check`.
#[derive(Args, Debug)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pair: Pair,
    /// Does not fail because of names that are no keys of kv, which nobody has compared; they are
    /// told all the same
    #[arg(long)]
    ignore_left_out: bool,
}

pub(crate) async fn check(args: CheckArgs, stores: &Stores, out: &mut Out) -> Run {
    let (from, to) = args.pair.open(stores).await?;
    close(compare(&from, &to, !args.ignore_left_out, out).await, &from, &to).await
}

impl Pair {
    /// Refuses two places of which one is the other, or lies in it: what is written would be read
    /// again, or read names would be deleted.
    fn refuse_overlap(&self, stores: &Stores) -> Run<()> {
        let (from, to) = (self.location(&self.from, stores)?, self.location(&self.to, stores)?);
        if from.zip(to).is_some_and(|(from, to)| from.meets(&to)) {
            let why = "what is read and what is written are one place, or one lies in the other; name two that \
                       lie beside each other";
            return Err(Failure::usage(why));
        }
        Ok(())
    }

    fn location(&self, name: &str, stores: &Stores) -> Run<Option<Location>> {
        // What cannot be opened is told when it is opened.
        if let Some(folder) = Folder::named(name, &self.part.directory, Role::To)? {
            return Ok(Some(Location::of_folder(&folder)));
        }
        Ok(Location::of_store(&stores.url(name)?, &self.part.directory))
    }

    /// Opens the two places.
    async fn open(&self, stores: &Stores) -> Run<(Place, Place)> {
        let from = self.place(&self.from, Role::From, stores).await?;
        match self.place(&self.to, Role::To, stores).await {
            Ok(to) => Ok((from, to)),
            Err(e) => {
                // The error of opening counts.
                let _ = from.close().await;
                Err(e)
            }
        }
    }

    async fn place(&self, name: &str, role: Role, stores: &Stores) -> Run<Place> {
        if let Some(folder) = Folder::named(name, &self.part.directory, role)? {
            return Ok(Place::Folder(folder));
        }
        let kv = stores.open(Some(name)).await?;
        match self.part.of(&kv) {
            Ok(part) => Ok(Place::Store(part)),
            Err(e) => {
                let _ = kv.close().await;
                Err(e)
            }
        }
    }
}

/// Closes two places behind what was done with them, which stays done where that fails.
async fn close(done: Run, from: &Place, to: &Place) -> Run {
    for place in [from, to] {
        if let Err(e) = place.close().await
            && done.is_ok()
        {
            note(&format!("the store could not be closed: {e}"));
        }
    }
    done
}
