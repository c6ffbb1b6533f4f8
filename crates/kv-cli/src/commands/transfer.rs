//! `export`, `import`, `apply`, `diff`, `copy`, `sync`, `check`.

use crate::{
    exit::{Exit, Run},
    lines::ExportLine,
    out::Out,
    stores::Stores,
    transfer::{Plan, Source, compare, transfer},
};
use clap::Args;
use kv_core::{Directory, Kv};
use std::path::PathBuf;

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

/// What a command tells, and whether it does anything.
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
        Plan { replaces: true, deletes: false, max_delete: None, dry_run, verbose: verbose || dry_run }
    }
}

/// Whether a command may delete.
#[derive(Args, Debug)]
struct Deletions {
    /// Deletes the keys that are only where it writes: at the end, and never after an error
    #[arg(long)]
    delete: bool,
    /// Deletes nothing if it would be more keys than this
    #[arg(long, value_name = "N", requires = "delete")]
    max_delete: Option<usize>,
}

impl Deletions {
    fn allow(&self, plan: Plan) -> Plan {
        Plan { deletes: self.delete, max_delete: self.max_delete, ..plan }
    }
}

/// Two stores.
#[derive(Args, Debug)]
struct Pair {
    /// The store that is read: its URL, or its name in the file of stores
    from: String,
    /// The store that is written, or compared
    to: String,
    #[command(flatten)]
    part: Part,
}

/// The arguments of `export`.
#[derive(Args, Debug)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    part: Part,
}

pub(crate) async fn export(args: ExportArgs, kv: &Kv, out: &mut Out) -> Run {
    let mut entries = args.part.of(kv)?.list("").entries();
    while let Some(entry) = entries.next().await {
        let entry = entry?;
        out.object(&ExportLine::of(&entry.key, &entry.value))?;
    }
    Ok(Exit::DONE)
}

/// The arguments of `import`.
#[derive(Args, Debug)]
pub(crate) struct ImportArgs {
    /// The file with the lines of an export; standard input if none is named
    file: Option<PathBuf>,
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
    let (from, to) = (Source::of_lines(args.file).await?, args.part.of(kv)?);
    transfer(&from, to, &plan, out).await
}

/// The arguments of `apply`.
#[derive(Args, Debug)]
pub(crate) struct ApplyArgs {
    /// The file with the lines of an export; standard input if none is named
    file: Option<PathBuf>,
    #[command(flatten)]
    part: Part,
    #[command(flatten)]
    deletions: Deletions,
    #[command(flatten)]
    manner: Manner,
}

pub(crate) async fn apply(args: ApplyArgs, kv: &Kv, out: &mut Out) -> Run {
    let plan = args.deletions.allow(args.manner.plan());
    let (from, to) = (Source::of_lines(args.file).await?, args.part.of(kv)?);
    transfer(&from, to, &plan, out).await
}

/// The arguments of `diff`.
#[derive(Args, Debug)]
pub(crate) struct DiffArgs {
    /// The file with the lines of an export; standard input if none is named
    file: Option<PathBuf>,
    #[command(flatten)]
    part: Part,
}

pub(crate) async fn diff(args: DiffArgs, kv: &Kv, out: &mut Out) -> Run {
    let (from, to) = (Source::of_lines(args.file).await?, args.part.of(kv)?);
    compare(&from, &Source::Store(to), out).await
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
    let work = |from, to| async move { transfer(&Source::Store(from), to, &plan, out).await };
    between(args.pair, stores, work).await
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
}

pub(crate) async fn sync(args: SyncArgs, stores: &Stores, out: &mut Out) -> Run {
    let plan = args.deletions.allow(args.manner.plan());
    let work = |from, to| async move { transfer(&Source::Store(from), to, &plan, out).await };
    between(args.pair, stores, work).await
}

/// The arguments of `check`.
#[derive(Args, Debug)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pair: Pair,
}

pub(crate) async fn check(args: CheckArgs, stores: &Stores, out: &mut Out) -> Run {
    let work = |from, to| async move { compare(&Source::Store(from), &Source::Store(to), out).await };
    between(args.pair, stores, work).await
}

/// Does work with the parts of two stores, and closes both behind it.
async fn between<F: Future<Output = Run>>(
    pair: Pair,
    stores: &Stores,
    work: impl FnOnce(Kv, Kv) -> F,
) -> Run {
    let from = stores.open(Some(&pair.from)).await?;
    let to = match stores.open(Some(&pair.to)).await {
        Ok(to) => to,
        Err(e) => {
            // The error of opening counts.
            let _ = from.close().await;
            return Err(e);
        }
    };
    let done = match (pair.part.of(&from), pair.part.of(&to)) {
        (Ok(from), Ok(to)) => work(from, to).await,
        (Err(e), _) | (_, Err(e)) => Err(e),
    };
    let closed = from.close().await.and(to.close().await);
    let exit = done?;
    closed?;
    Ok(exit)
}
