//! `adopt`: keys that other tools wrote, where listings do not show them by themselves.

use crate::{
    exit::{Exit, Run},
    lines::V,
    out::{Out, note},
    text,
    transfer::tell_left_out,
};
use clap::Args;
use kv_core::{Directory, ForeignKeys, Kv, LeftOut};
use serde::Serialize;
use std::time::Duration;

/// The arguments of `adopt`.
#[derive(Args, Debug)]
pub(crate) struct AdoptArgs {
    /// The directory below which keys are adopted; / is the whole store
    #[arg(default_value = "/")]
    directory: Directory,
    /// Tells how many keys would be adopted, and does nothing
    #[arg(long, short = 'n')]
    dry_run: bool,
    /// The time for all of it; what is adopted by then stays so, and another call goes on
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = text::duration)]
    within: Duration,
}

#[derive(Serialize)]
struct AdoptLine {
    v: u8,
    dry_run: bool,
    adopted: u64,
    /// The names that are no keys, and stay left out.
    left_out: u64,
}

pub(crate) async fn adopt(args: AdoptArgs, kv: &Kv, out: &mut Out) -> Run {
    let AdoptArgs { directory, dry_run, within } = args;
    if kv.capabilities().foreign_keys == ForeignKeys::Seen {
        note("there is nothing to adopt: this store lists at once what other tools write");
    }
    let adopted = if dry_run { Ok(None) } else { kv.adopt(&directory).deadline(within).await.map(Some) };
    // It is done in parts, and nobody knows of how many of them a failure came.
    let in_parts = kv.capabilities().foreign_keys == ForeignKeys::AfterAdoption;
    if adopted.as_ref().map_or(in_parts, |adopted| adopted.is_some_and(|adopted| adopted > 0)) {
        out.acts().note();
    }
    let adopted = adopted?;
    let left_out = left_out(kv, &directory).await?;
    let adopted = adopted.unwrap_or(left_out.adoptable);
    let rest = left_out.count - left_out.adoptable;
    if out.is_json() {
        out.object(&AdoptLine { v: V, dry_run, adopted, left_out: rest })?;
    } else {
        out.line(&format!("{}adopted {adopted}", if dry_run { "would be " } else { "" }))?;
    }
    out.flush()?;
    if rest > 0 || dry_run {
        tell_left_out("the store", &left_out, out);
    }
    Ok(Exit::DONE)
}

/// Looks for the names that listings leave out.
async fn left_out(kv: &Kv, directory: &Directory) -> Run<LeftOut> {
    let mut keys = kv.list(directory).tell_left_out().keys();
    while let Some(key) = keys.next().await {
        key?;
    }
    Ok(keys.left_out())
}
