//! Another tool, which writes between our keys and damages records of our own.

use crate::{
    Foreign,
    torture::{chance::Chance, field::Field, locks},
};
use futures::{FutureExt, future::join_all};
use kv_core::Bytes;
use std::panic::AssertUnwindSafe;

/// Names that are not in the normal form, so that they are keys to nobody here.
const NAMES: [&str; 9] = [
    "/lead",
    "double//slash",
    "trail/",
    "tree//c",
    "tree/./dot",
    "tree/../up",
    " space",
    "end ",
    "tree/.kv/x",
];
/// The name of a key under which another type of data lies, where the server has types.
const OTHER_TYPE: &str = "another-type";

/// Writes between the keys of each workload, and takes away again what was written; returns what
/// the stroke met.
pub(super) async fn write(field: &Field, chance: &mut Chance) -> String {
    let Some(tool) = field.harness().foreign() else { return "nothing".into() };
    let under: Vec<_> = field.workloads().into_iter().map(|workload| field.under(workload)).collect();
    let stays = chance.millis(50, 2500);
    let damaged = damaged(field, &*tool);
    let names = || {
        let foreign = under.iter().flat_map(|prefix| NAMES.map(|name| format!("{prefix}{name}")));
        foreign.chain(damaged.iter().cloned())
    };
    let written = async {
        let put = async |name: String| tool.put(&name, Bytes::from_static(b"theirs")).await;
        join_all(names().map(put)).await;
        for prefix in &under {
            tool.put_other_type(&format!("{prefix}{OTHER_TYPE}")).await;
        }
    };
    let all = names().chain(under.iter().map(|prefix| format!("{prefix}{OTHER_TYPE}")));
    // A tool that finds no server panics; what it wrote goes with the round.
    let written = AssertUnwindSafe(written).catch_unwind().await;
    tokio::time::sleep(stays).await;
    let gone = AssertUnwindSafe(delete(&*tool, all)).catch_unwind().await;
    match (written, gone) {
        (Ok(()), Ok(())) => {
            let (names, workloads) = (NAMES.len(), under.len());
            format!("{names} names below each of {workloads} workloads, {} in lines", damaged.len())
        }
        _ => "in part: the other tool found no server".into(),
    }
}

/// Returns the names of damaged records in the queues of all locks.
fn damaged(field: &Field, tool: &dyn Foreign) -> Vec<String> {
    let Some(workload) = field.workloads().into_iter().find(|name| *name == locks::NAME) else {
        return Vec::new();
    };
    let of = |lock: String| {
        let prefix = field.under(workload);
        tool.damaged().iter().map(move |name| format!("{prefix}{}", name.replace("LOCK", &lock)))
    };
    locks::names().flat_map(of).collect()
}

async fn delete(tool: &dyn Foreign, names: impl Iterator<Item = String>) {
    join_all(names.map(async |name| tool.delete(&name).await)).await;
}
