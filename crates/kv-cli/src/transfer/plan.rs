//! Carries a comparison out, and tells of it.

use super::{
    compare::{Comparison, Difference},
    kept::Going,
    left_out::tell,
    side::Place,
    write::{Finished, OnConflict, Tally, Writer},
};
use crate::{
    exit::{Exit, Failure, Run},
    lines::V,
    out::{Look, Out},
};
use kv_core::LeftOut;
use serde::Serialize;

/// The rules by which keys go from one place to another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Keys that are there with another value are replaced.
    pub(crate) replaces: bool,
    /// Keys that are only in the place that is written are deleted, if they are no more than
    /// `max_delete`.
    pub(crate) deletes: bool,
    pub(crate) max_delete: Option<usize>,
    /// They are deleted also where the place that is read has no key.
    pub(crate) from_empty: bool,
    /// Nothing is done; what would be is shown.
    pub(crate) dry_run: bool,
    /// Each key is shown.
    pub(crate) verbose: bool,
}

impl Plan {
    /// Tells whether this difference is one that is to go.
    pub(super) fn concerns(&self, difference: &Difference) -> bool {
        match difference {
            Difference::Missing { .. } => true,
            Difference::Other { .. } => self.replaces,
            Difference::Extra { .. } => self.deletes,
        }
    }

    /// Tells whether keys are deleted also where the place that is read has none.
    pub(super) fn may_empty(&self) -> bool {
        self.from_empty || self.max_delete.is_some()
    }

    /// Refuses to delete everything because the place that is read is empty, unless that was
    /// wanted: most often it is another place than was meant.
    pub(super) fn refuse_empty(&self, is_from_empty: bool, deletions: u64) -> Run<()> {
        if !is_from_empty || deletions == 0 || self.may_empty() {
            return Ok(());
        }
        Err(Failure::here(format!(
            "the place that is read has no key, so that what the other one has would be deleted ({deletions} keys); \
             none of them was; give --from-empty if that is meant"
        )))
    }
}

#[derive(Serialize)]
struct DifferenceLine<'a> {
    v: u8,
    change: &'static str,
    key: &'a str,
}

pub(super) fn show(difference: &Difference, out: &mut Out) -> Run<()> {
    let (change, sign, look) = match difference {
        Difference::Missing { .. } => ("create", "+ ", Look::Added),
        Difference::Other { .. } => ("replace", "~ ", Look::Changed),
        Difference::Extra { .. } => ("delete", "- ", Look::Removed),
    };
    let key = difference.key().as_str();
    if out.is_json() {
        return out.object(&DifferenceLine { v: V, change, key });
    }
    out.shown(Some(look), &format!("{sign}{key}"), "")
}

#[derive(Serialize)]
struct ComparedLine {
    v: u8,
    differ: u64,
    same: u64,
    /// The names that are no keys, in both places.
    #[serde(skip_serializing_if = "is_zero")]
    left_out: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Shows how two places differ. Names that are no keys, and that nobody has compared, make the
/// answer no if they count.
pub(crate) async fn compare(from: &Place, to: &Place, left_out_counts: bool, out: &mut Out) -> Run {
    let mut comparison = Comparison::telling_both(from, to);
    let mut differ = 0;
    while let Some(difference) = comparison.next().await? {
        differ += 1;
        show(&difference, out)?;
    }
    let same = comparison.same();
    let [from_left, to_left] = comparison.left_out();
    let left_out = from_left.count + to_left.count;
    if out.is_json() {
        out.object(&ComparedLine { v: V, differ, same, left_out })?;
    } else {
        let left = if left_out == 0 { String::new() } else { format!(", {left_out} were left out") };
        out.line(&format!("{differ} differ, {same} are the same{left}"))?;
    }
    out.flush()?;
    tell("the first place", &from_left, out);
    tell("the second place", &to_left, out);
    Ok(if differ == 0 && (left_out == 0 || !left_out_counts) { Exit::DONE } else { Exit::NO })
}

#[derive(Serialize)]
struct TransferLine<'a> {
    v: u8,
    dry_run: bool,
    created: u64,
    replaced: u64,
    deleted: u64,
    same: u64,
    conflicts: u64,
    /// The names of the place that is read that are no keys.
    #[serde(skip_serializing_if = "is_zero")]
    left_out: u64,
    /// The number of the keys that were to go and differ all the same, behind the transfer; a dry
    /// run counts none.
    #[serde(skip_serializing_if = "Option::is_none")]
    differ: Option<u64>,
    /// The commit that was made of it, in a work tree.
    #[serde(skip_serializing_if = "Option::is_none")]
    commit: Option<&'a str>,
}

/// The outcome of a transfer.
pub(super) struct Summary<'a> {
    pub(super) tally: Tally,
    pub(super) same: u64,
    pub(super) left_out: &'a LeftOut,
    pub(super) differ: Option<u64>,
    pub(super) commit: Option<&'a str>,
    pub(super) dry_run: bool,
}

pub(super) fn summarize(summary: &Summary<'_>, out: &mut Out) -> Run<()> {
    let Summary { tally, same, left_out, differ, commit, dry_run } = *summary;
    let Tally { created, replaced, deleted, conflicts } = tally;
    tell("the source", left_out, out);
    if out.is_json() {
        let left_out = left_out.count;
        let line = TransferLine {
            v: V,
            dry_run,
            created,
            replaced,
            deleted,
            same,
            conflicts,
            left_out,
            differ,
            commit,
        };
        return out.object(&line);
    }
    let left =
        if left_out.count == 0 { String::new() } else { format!("; {} were left out", left_out.count) };
    let would = if dry_run { "would be " } else { "" };
    let differ = differ.map(|differ| format!("; {differ} differ now")).unwrap_or_default();
    let commit = commit.map(|name| format!("; commit {name}")).unwrap_or_default();
    out.line(&format!(
        "{would}created {created}, replaced {replaced}, deleted {deleted}; {same} were the same{left}{differ}{commit}"
    ))
}

/// Writes to a place what differs, as planned, and compares the two in the end.
pub(crate) async fn transfer(from: &Place, to: &Place, plan: &Plan, out: &mut Out) -> Run {
    let mut comparison = Comparison::telling(from, to);
    let mut writer = Writer::new(to, OnConflict::Leave, out.acts())?;
    let planned = take_all(&mut comparison, from, &mut writer, plan, out).await.and_then(|planned| {
        plan.refuse_empty(comparison.is_from_empty(), planned.deleted)?;
        Ok(planned)
    });
    let planned = match planned {
        Ok(planned) => planned,
        Err(e) => {
            writer.abandon().await;
            return Err(e);
        }
    };
    let (same, [left_out, _]) = (comparison.same(), comparison.left_out());
    let (tally, differ, commit) = if plan.dry_run {
        (planned, None, None)
    } else {
        let Finished { tally, commit, .. } = writer.finish(plan).await?;
        (tally, Some(count(&mut Comparison::of(from, to), from, plan).await?), commit)
    };
    let (commit, dry_run) = (commit.as_deref(), plan.dry_run);
    summarize(&Summary { tally, same, left_out: &left_out, differ, commit, dry_run }, out)?;
    Ok(match (tally.conflicts, differ) {
        (0, None | Some(0)) => Exit::DONE,
        (0, Some(_)) => Exit::NO,
        _ => Exit::CONFLICT,
    })
}

/// Goes through all that differs, and writes it unless this is a dry run. Returns what was planned.
async fn take_all(
    comparison: &mut Comparison,
    from: &Place,
    writer: &mut Writer,
    plan: &Plan,
    out: &mut Out,
) -> Run<Tally> {
    let (mut planned, mut going) = (Tally::default(), Going::of(comparison, from, plan));
    while let Some(difference) = going.next().await? {
        match difference {
            Difference::Missing { .. } => planned.created += 1,
            Difference::Other { .. } => planned.replaced += 1,
            Difference::Extra { .. } => planned.deleted += 1,
        }
        if plan.verbose {
            show(&difference, out)?;
        }
        if !plan.dry_run {
            writer.take(difference).await?;
        }
    }
    going.tell_kept();
    Ok(planned)
}

/// Counts what is left of what was to go.
pub(super) async fn count(comparison: &mut Comparison, from: &Place, plan: &Plan) -> Run<u64> {
    let (mut left, mut going) = (0, Going::of(comparison, from, plan));
    while going.next().await?.is_some() {
        left += 1;
    }
    Ok(left)
}
