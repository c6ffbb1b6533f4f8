//! What another tool writes between our keys.

use crate::{Foreign, torture::Chance, torture::field::Field};
use futures::FutureExt;
use kv_core::Bytes;
use std::panic::AssertUnwindSafe;

/// Names that are in no normal form, so that they are keys to nobody here.
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
/// A name of a key, below which another type of data lies, where the server has types.
const OTHER_TYPE: &str = "another-type";

/// Writes between the keys of each workload, and takes away again what was written; what it met.
pub(super) async fn write(field: &Field, chance: &mut Chance) -> String {
    let Some(tool) = field.harness().foreign() else { return "nothing".into() };
    let under: Vec<_> = field.workloads().into_iter().map(|workload| field.under(workload)).collect();
    let stays = chance.millis(50, 2500);
    let names = || under.iter().flat_map(|prefix| NAMES.map(|name| format!("{prefix}{name}")));
    let written = async {
        for name in names() {
            tool.put(&name, Bytes::from_static(b"theirs")).await;
        }
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
        (Ok(()), Ok(())) => format!("{} names below each of {} workloads", NAMES.len(), under.len()),
        _ => "in part: the other tool found no server".into(),
    }
}

async fn delete(tool: &dyn Foreign, names: impl Iterator<Item = String>) {
    for name in names {
        tool.delete(&name).await;
    }
}
