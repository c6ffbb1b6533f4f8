//! `elect`.

use super::terms::{Times, this_process};
use crate::{
    exit::{Exit, Run},
    guarded::{self, End, Signals},
    lines::{Content, V},
    out::{Out, note},
    text,
};
use clap::Args;
use kv_core::{Key, Kv};
use kv_recipes::{Election, Leader, Leadership, Term};
use serde::Serialize;
use std::ffi::OsString;

/// The arguments of `elect`.
#[derive(Args, Debug)]
pub(crate) struct ElectArgs {
    /// The name of the election, which is that of a lock; what belongs to it are keys below it
    name: Key,
    /// The name of this candidate, which others see of the leader; unless given, this machine and
    /// process
    #[arg(long, value_name = "TEXT")]
    candidate: Option<String>,
    /// The value that this candidate says when it leads, such as its address; empty unless given
    #[arg(long, value_name = "TEXT")]
    value: Option<String>,
    #[command(flatten)]
    times: Times,
    /// Tells who leads, and then every change, in place of taking part
    #[arg(long, conflicts_with_all = ["candidate", "value", "command"])]
    observe: bool,
    /// The command that runs while this candidate leads, without a shell
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// A change of this candidate's part, or of the leader.
#[derive(Serialize)]
struct ElectLine<'a> {
    v: u8,
    event: &'static str,
    name: &'a str,
    /// The fencing token; null where nobody leads.
    token: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    candidate: Option<&'a str>,
    #[serde(flatten)]
    content: Content<'a>,
}

pub(crate) async fn elect(args: ElectArgs, kv: &Kv, out: &mut Out) -> Run {
    if args.observe {
        return observe(&args.name, kv, out).await;
    }
    let capabilities = kv.capabilities();
    let locking = capabilities.lock.as_ref().ok_or_else(|| capabilities.unsupported("locks"))?;
    let grace = guarded::grace(&locking.ttl, args.times.ttl, args.times.grace)?;
    let mut signals = Signals::catch()?;
    let candidate = args.candidate.clone().unwrap_or_else(this_process);
    let election = Election::new(kv, &args.name).ttl(args.times.ttl).candidate(candidate);
    let election = election.value(args.value.clone().unwrap_or_default());
    let mut gone = Box::pin(out.reader_gone());
    loop {
        let term = tokio::select! {
            biased;
            failure = &mut gone => return Err(failure),
            signal = signals.ending() => return Ok(Exit::of_signal(signal.as_raw())),
            term = Box::pin(election.campaign()) => term?,
        };
        tell(&args, "elected", term.number(), out)?;
        if args.command.is_empty() {
            tokio::select! {
                biased;
                failure = &mut gone => return Err(failure),
                signal = signals.ending() => {
                    return resign(term, Ok(Exit::of_signal(signal.as_raw()))).await;
                }
                why = term.lost() => note(&why.to_string()),
            }
        } else {
            match guarded::run(&term, grace, &args.command, &mut signals).await? {
                End::Itself(exit) => return resign(term, Ok(exit)).await,
                End::Lost(why) => note(&format!("the command was ended: {why}")),
            }
        }
        tell(&args, "lost", term.number(), out)?;
        // The command was asked to end, and the term was lost before it had.
        if let Some(signal) = signals.asked() {
            return Ok(Exit::of_signal(signal.as_raw()));
        }
    }
}

/// Gives the leadership up, and returns the end of what was done under it.
async fn resign(term: Term, ended: Run) -> Run {
    let ttl = term.ttl();
    guarded::released("the leadership", "the next candidate leads", ttl, term.resign().await, ended)
}

/// Tells of this candidate's part: on standard error where a command has the output.
fn tell(args: &ElectArgs, event: &'static str, token: u64, out: &mut Out) -> Run<()> {
    out.acts().note();
    let (name, content) = (args.name.as_str(), Content::default());
    let object = ElectLine { v: V, event, name, token: Some(token), candidate: None, content };
    if !args.command.is_empty() {
        out.beside(&object, &format!("{event} {token}"));
        return Ok(());
    }
    if out.is_json() {
        out.object(&object)?;
    } else {
        out.line(&format!("{event}{}{token}", out.between()))?;
    }
    out.flush()
}

/// Tells who leads, for ever.
async fn observe(name: &Key, kv: &Kv, out: &mut Out) -> Run {
    let mut leaders = Election::new(kv, name).observe().await?;
    let mut gone = Box::pin(out.reader_gone());
    loop {
        let leadership = tokio::select! {
            biased;
            failure = &mut gone => return Err(failure),
            leadership = leaders.next() => leadership?,
        };
        show(name, &leadership, out)?;
        out.flush()?;
    }
}

fn show(name: &Key, leadership: &Leadership, out: &mut Out) -> Run<()> {
    let name = name.as_str();
    let Some(Leader { term, candidate, value, .. }) = leadership.leader() else {
        let content = Content::default();
        let object = ElectLine { v: V, event: "vacant", name, token: None, candidate: None, content };
        return if out.is_json() { out.object(&object) } else { out.line("vacant") };
    };
    if out.is_json() {
        let (token, candidate, content) = (Some(*term), Some(candidate.as_str()), Content::of(value));
        return out.object(&ElectLine { v: V, event: "leader", name, token, candidate, content });
    }
    let between = out.between();
    let rest = [candidate.as_bytes(), &**value].map(|part| format!("{between}{}", text::on_one_line(part)));
    out.shown(None, &format!("leader{between}{term}"), &rest.concat())
}
