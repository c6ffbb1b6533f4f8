//! `health`, `capabilities`, `completions`, `man`.

use super::terms::Named;
use crate::{
    exit::{Exit, Failure, Run},
    lines::V,
    out::Out,
    text,
};
use clap::{Args, Command};
use clap_complete::{Shell, generate};
use clap_mangen::Man;
use kv_core::{Capabilities, Durability, ForeignKeys, Kv, Linearizable, Locking, TtlRange, Watching};
use serde::Serialize;
use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

/// The arguments of `health`.
#[derive(Args, Debug)]
pub(crate) struct HealthArgs {
    #[command(flatten)]
    pub(crate) named: Named,
}

#[derive(Serialize)]
struct HealthLine<'a> {
    v: u8,
    backend: &'a str,
    version: &'a str,
    leader: Option<&'a str>,
    members: &'a [String],
    /// The time that the answer took.
    micros: u64,
}

pub(crate) async fn health(kv: &Kv, out: &mut Out) -> Run {
    let began = Instant::now();
    let health = kv.health().await?;
    let took = began.elapsed();
    let backend = kv.capabilities().backend;
    if out.is_json() {
        out.object(&HealthLine {
            v: V,
            backend,
            version: &health.version,
            leader: health.leader.as_deref(),
            members: &health.members,
            micros: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        })?;
        return Ok(Exit::DONE);
    }
    out.line(&of_version(backend, &health.version))?;
    if let Some(leader) = &health.leader {
        out.line(&format!("leader: {leader}"))?;
    }
    for member in &health.members {
        out.line(&format!("member: {member}"))?;
    }
    out.line(&format!("answered in {took:.1?}"))?;
    Ok(Exit::DONE)
}

/// Names a server with its version, which not every user may read.
pub(super) fn of_version(backend: &str, version: &str) -> String {
    match version {
        "" => format!("{backend} of a version that this user may not read"),
        version => format!("{backend} {version}"),
    }
}

/// The TTLs of a thing, in milliseconds.
#[derive(Serialize)]
struct TtlLine {
    least_ms: u64,
    greatest_ms: u64,
}

impl TtlLine {
    fn of(range: &TtlRange) -> Self {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self { least_ms: millis(range.least), greatest_ms: millis(range.greatest) }
    }
}

#[derive(Serialize)]
struct CapabilitiesLine<'a> {
    v: u8,
    backend: &'a str,
    survives: &'static str,
    linearizable: &'static str,
    max_value: usize,
    ttl: Option<TtlLine>,
    children_of_expiring: bool,
    lease: Option<TtlLine>,
    watch: &'static str,
    watch_ordered: bool,
    lock: Option<TtlLine>,
    fair_locks: bool,
    fenced_writes: bool,
    lock_set_value: bool,
    lock_breaks: bool,
    lock_lists: bool,
    max_txn_ops: usize,
    max_txn_bytes: usize,
    list_snapshot: bool,
    delete_tree_atomic: bool,
    delete_tree_counts: bool,
    native_values: bool,
    foreign_keys: &'static str,
    health: bool,
    hint: Option<&'a str>,
}

/// Returns words for what each of these is: what writes survive, when reads see all, what watches
/// tell, and when keys of other tools are seen.
fn words(capabilities: &Capabilities) -> [&'static str; 4] {
    [
        match capabilities.durability {
            Durability::Quorum => "the loss of a minority",
            Durability::Fsync => "a crash",
            _ => "not every crash",
        },
        match capabilities.linearizable {
            Linearizable::Always => "always",
            Linearizable::ExceptDuringLeaderChange => "except while a leader is replaced",
            _ => "never",
        },
        match capabilities.watch {
            Watching::EachChange => "each change",
            Watching::NewestState => "the newest state",
            _ => "none",
        },
        match capabilities.foreign_keys {
            ForeignKeys::Seen => "at once",
            _ => "after adoption",
        },
    ]
}

pub(crate) fn capabilities(kv: &Kv, out: &mut Out) -> Run {
    let c = kv.capabilities();
    let [survives, linearizable, watch, foreign_keys] = words(c);
    let lock = c.lock.as_ref();
    let can = |ability: fn(&Locking) -> bool| lock.is_some_and(ability);
    let (fair, fenced) = (can(|lock| lock.fair), can(|lock| lock.fenced_writes));
    let (sets, breaks, lists) = (can(|lock| lock.set_value), can(|lock| lock.breaks), can(|lock| lock.lists));
    if out.is_json() {
        out.object(&CapabilitiesLine {
            v: V,
            backend: c.backend,
            survives,
            linearizable,
            max_value: c.max_value,
            ttl: c.ttl.as_ref().map(TtlLine::of),
            children_of_expiring: c.children_of_expiring,
            lease: c.lease.as_ref().map(TtlLine::of),
            watch,
            watch_ordered: c.watch_ordered,
            lock: lock.map(|lock| TtlLine::of(&lock.ttl)),
            fair_locks: fair,
            fenced_writes: fenced,
            lock_set_value: sets,
            lock_breaks: breaks,
            lock_lists: lists,
            max_txn_ops: c.max_txn_ops,
            max_txn_bytes: c.max_txn_bytes,
            list_snapshot: c.list_snapshot,
            delete_tree_atomic: c.delete_tree_atomic,
            delete_tree_counts: c.delete_tree_counts,
            native_values: c.native_values,
            foreign_keys,
            health: c.health,
            hint: c.hint.as_deref(),
        })?;
        return Ok(Exit::DONE);
    }
    let range = |range: Option<&TtlRange>| match range {
        Some(range) => {
            format!("{} to {}", text::of_duration(range.least), text::of_duration(range.greatest))
        }
        None => "none".to_owned(),
    };
    let yes = |is: bool| String::from(if is { "yes" } else { "no" });
    let txn = match c.max_txn_ops {
        0 => "none".to_owned(),
        most => format!("{most} operations, {} bytes", c.max_txn_bytes),
    };
    let rows = [
        ("backend", c.backend.to_owned()),
        ("a write survives", survives.to_owned()),
        ("reads see all", linearizable.to_owned()),
        ("largest value", format!("{} bytes", c.max_value)),
        ("TTLs of keys", range(c.ttl.as_ref())),
        ("keys below one", yes(c.children_of_expiring)),
        ("leases", range(c.lease.as_ref())),
        ("watches tell", watch.to_owned()),
        ("watches in order", yes(c.watch_ordered)),
        ("locks", range(lock.map(|lock| &lock.ttl))),
        ("fair locks", yes(fair)),
        ("fenced writes", yes(fenced)),
        ("lock values", yes(sets)),
        ("breaks locks", yes(breaks)),
        ("lists locks", yes(lists)),
        ("transactions", txn),
        ("lists one moment", yes(c.list_snapshot)),
        ("deletes at once", yes(c.delete_tree_atomic)),
        ("counts deletions", yes(c.delete_tree_counts)),
        ("native values", yes(c.native_values)),
        ("others' keys", foreign_keys.to_owned()),
        ("health", yes(c.health)),
    ];
    for (name, value) in rows {
        out.line(&format!("{name:<17} {value}"))?;
    }
    if let Some(hint) = &c.hint {
        out.line(&format!("{:<17} {hint}", "advice"))?;
    }
    Ok(Exit::DONE)
}

/// The arguments of `completions`.
#[derive(Args, Debug)]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

pub(crate) fn completions(args: &CompletionsArgs, mut program: Command, out: &mut Out) -> Run {
    let mut script = Vec::new();
    generate(args.shell, &mut program, "kv", &mut script);
    out.raw(&script)?;
    Ok(Exit::DONE)
}

/// The arguments of `man`.
#[derive(Args, Debug)]
pub(crate) struct ManArgs {
    /// The command whose page is printed; the program's own if none is named
    command: Option<String>,
    /// Writes all pages into this folder, in place of printing one
    #[arg(long, value_name = "FOLDER", conflicts_with = "command")]
    folder: Option<PathBuf>,
}

pub(crate) fn man(args: ManArgs, mut program: Command, out: &mut Out) -> Run {
    if let Some(folder) = args.folder {
        let failed = |e| Failure::here(format!("the pages cannot be written to {}: {e}", folder.display()));
        fs::create_dir_all(&folder).map_err(failed)?;
        out.acts().note();
        clap_mangen::generate_to(program, &folder).map_err(failed)?;
        return Ok(Exit::DONE);
    }
    program.build();
    let command = match args.command {
        None => program,
        Some(name) => {
            let found = program.find_subcommand(&name).cloned();
            found.ok_or_else(|| Failure::usage(format!("there is no command {name:?}; see kv --help")))?
        }
    };
    let mut page = Vec::new();
    let rendered = Man::new(command).render(&mut page);
    rendered.map_err(|e| Failure::here(format!("the page cannot be written: {e}")))?;
    out.raw(&page)?;
    Ok(Exit::DONE)
}
