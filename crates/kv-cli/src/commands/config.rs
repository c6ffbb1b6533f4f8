//! `config status`: which settings the processes run that follow a store with `kv-config`.

use crate::{
    exit::{Exit, Run},
    lines::V,
    out::Out,
    text,
};
use clap::{Args, Subcommand};
use kv_config::{Generation, Origin, Rejection, Report, Status};
use kv_core::{Directory, Kv};
use serde::Serialize;
use std::collections::BTreeMap;

/// The arguments of `config`.
#[derive(Args, Debug)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Tells how many processes run which generation of their settings, and which they reject
    ///
    /// The exit code is 1 unless there is one process at least, all run the same, and none rejects
    /// what is stored.
    Status(StatusArgs),
}

#[derive(Args, Debug)]
struct StatusArgs {
    /// The directory in which the processes report
    directory: Directory,
    /// Shows each process
    #[arg(long, short)]
    verbose: bool,
}

/// The report of a process.
#[derive(Serialize)]
struct ReportLine<'a> {
    v: u8,
    name: &'a str,
    runs: &'a Generation,
    from: Origin,
    /// The generation that it rejects; null where it rejects none.
    rejects: Option<&'a Generation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'a str>,
}

#[derive(Serialize)]
struct StatusLine<'a> {
    v: u8,
    processes: usize,
    generations: BTreeMap<&'a str, usize>,
    rejecting: usize,
    unreadable: usize,
}

pub(crate) async fn config(args: ConfigArgs, kv: &Kv, out: &mut Out) -> Run {
    let ConfigCommand::Status(StatusArgs { directory, verbose }) = args.command;
    let status = kv_config::status(kv, &directory).await?;
    if verbose {
        status.reports.iter().try_for_each(|report| show(report, out))?;
    }
    let generations: BTreeMap<_, _> =
        status.generations().into_iter().map(|(name, count)| (name.as_str(), count)).collect();
    let is_one = generations.len() == 1;
    let Status { reports, unreadable, .. } = &status;
    let rejecting = status.rejecting().count();
    if out.is_json() {
        let (processes, unreadable) = (reports.len(), unreadable.len());
        out.object(&StatusLine { v: V, processes, generations, rejecting, unreadable })?;
    } else {
        out.line(&text::on_one_line(status.to_string().as_bytes()))?;
    }
    Ok(if is_one && rejecting == 0 && unreadable.is_empty() { Exit::DONE } else { Exit::NO })
}

fn show(report: &Report, out: &mut Out) -> Run<()> {
    let Report { name, runs, origin, rejects, .. } = report;
    let rejected = rejects.as_ref().map(|Rejection { generation, why, .. }| (generation, why.as_str()));
    if out.is_json() {
        let (rejects, why) = rejected.unzip();
        return out.object(&ReportLine { v: V, name: name.as_str(), runs, from: *origin, rejects, why });
    }
    let between = out.between();
    let from = if *origin == Origin::Store { "" } else { ", not from the store" };
    let rejects = rejected.map(|(generation, why)| {
        format!("{between}rejects {generation}: {}", text::on_one_line(why.as_bytes()))
    });
    out.shown(None, name.as_str(), &format!("{between}{runs}{from}{}", rejects.unwrap_or_default()))
}
