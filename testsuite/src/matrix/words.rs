//! Capabilities in words, for the tables.

use kv_core::{Capabilities, Durability, ForeignKeys, Linearizable, TtlRange, Watching};
use std::time::Duration;

/// Returns the capabilities in words, each with its name.
pub(super) fn capabilities(c: &Capabilities) -> Vec<(String, String)> {
    let yes = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    let range = |r: Option<&TtlRange>| r.map_or_else(|| "none".to_owned(), in_words);
    let rows = [
        (
            "survives",
            match c.durability {
                Durability::Quorum => "loss of a minority".to_owned(),
                Durability::Fsync => "a crash".to_owned(),
                _ => "not every crash".to_owned(),
            },
        ),
        (
            "linearizable reads",
            match c.linearizable {
                Linearizable::Always => "always".to_owned(),
                Linearizable::ExceptDuringLeaderChange => "but while the leader changes".to_owned(),
                _ => "never".to_owned(),
            },
        ),
        ("largest value", size(c.max_value)),
        ("TTLs", range(c.ttl.as_ref())),
        ("late at most", c.ttl.as_ref().map_or_else(|| "-".to_owned(), late)),
        ("children of expiring keys", yes(c.children_of_expiring)),
        ("leases", range(c.lease.as_ref())),
        (
            "watches",
            match c.watch {
                Watching::EachChange => "each change".to_owned(),
                Watching::NewestState => "newest state".to_owned(),
                _ => "none".to_owned(),
            },
        ),
        ("a tree's changes come in order", yes(c.watch_ordered)),
        (
            "locks",
            c.lock.as_ref().map_or_else(
                || "none".to_owned(),
                |l| {
                    format!(
                        "{}, {}{}{}{}",
                        if l.fair { "fair" } else { "unfair" },
                        if l.fenced_writes { "fenced writes" } else { "no fenced writes" },
                        if l.set_value { "" } else { ", values that stay" },
                        if l.breaks { "" } else { ", never taken away" },
                        if l.lists { "" } else { ", not listed" }
                    )
                },
            ),
        ),
        (
            "transactions",
            match c.max_txn_ops {
                0 => "none".to_owned(),
                usize::MAX => "of any size".to_owned(),
                most => format!("{most} operations"),
            },
        ),
        ("list shows one moment", yes(c.list_snapshot)),
        ("`delete_tree` is atomic", yes(c.delete_tree_atomic)),
        ("`delete_tree` counts", yes(c.delete_tree_counts)),
        ("values are the server's own", yes(c.native_values)),
        (
            "other tools' keys are listed",
            match c.foreign_keys {
                ForeignKeys::Seen => "at once".to_owned(),
                _ => "after adoption".to_owned(),
            },
        ),
        ("`health`", yes(c.health)),
    ];
    rows.map(|(name, value)| (name.to_owned(), value)).into()
}

fn in_words(range: &TtlRange) -> String {
    format!("{} to {}", time(range.least), time(range.greatest))
}

fn late(range: &TtlRange) -> String {
    match range.late_share {
        0.0 => time(range.late_by),
        share if range.late_by.is_zero() => times(share),
        share => format!("{} + {}", times(share), time(range.late_by)),
    }
}

fn times(share: f64) -> String {
    // The computation of a share leaves digits behind that mean nothing.
    let share = (share * 100.0).round() / 100.0;
    if share == 1.0 { "the TTL".to_owned() } else { format!("{share} × the TTL") }
}

/// Returns the time in the largest unit of which there are two or more, rounded down.
fn time(d: Duration) -> String {
    const UNITS: [(u64, &str); 4] = [(365 * 86_400, "years"), (86_400, "days"), (3_600, "h"), (60, "min")];
    let s = d.as_secs();
    match UNITS.iter().find(|(unit, _)| s >= 2 * unit) {
        Some((unit, name)) => format!("{} {name}", s / unit),
        None if s < 10 && (d.subsec_millis() != 0 || s == 0) => format!("{} ms", d.as_millis()),
        None => format!("{s} s"),
    }
}

fn size(bytes: usize) -> String {
    match bytes {
        usize::MAX => "any".to_owned(),
        b if b % (1 << 20) == 0 => format!("{} MiB", b >> 20),
        b if b % (1 << 10) == 0 => format!("{} KiB", b >> 10),
        b => format!("{b} B"),
    }
}
