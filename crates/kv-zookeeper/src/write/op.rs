//! Sends the operations of one request, of which the server does all or none.

use crate::{
    client::via::Via,
    core::Core,
    error::{Answer, Problem, Said},
};
use kv_core::{Bytes, Result, backend::retry::RetrySafety, driver::Deadline};
use std::collections::BTreeSet;
use zookeeper_client::{CreateMode, MultiWriteResult};

/// One operation of a request.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Check { path: String, version: Option<i32> },
    Create { path: String, data: Bytes, mode: CreateMode },
    Set { path: String, data: Bytes, version: Option<i32> },
    Delete { path: String, version: Option<i32> },
}

impl Op {
    /// Returns the bytes that it takes in a request, with an ACL of so many bytes for each created
    /// node.
    pub(super) fn size(&self, acl: usize) -> usize {
        64 + match self {
            Self::Check { path, .. } | Self::Delete { path, .. } => path.len(),
            Self::Create { path, data, .. } => path.len() + data.len() + acl,
            Self::Set { path, data, .. } => path.len() + data.len(),
        }
    }
}

/// Sends a request, unless the connection is another than the one on which everything was seen
/// that the request relies on. Also returns the generation of the connection under which the
/// results may be remembered.
pub(crate) async fn send<'a>(
    core: &Core,
    via: Via<'_>,
    safety: RetrySafety,
    deadline: Deadline,
    ops: impl Iterator<Item = &'a Op> + Clone + Send + Sync,
    seen_on: &BTreeSet<u64>,
) -> Result<Result<(u64, Vec<MultiWriteResult>), Answer>> {
    let options = &core.client.options;
    let sent = via.call(safety, deadline, |connection| {
        let ops = ops.clone();
        async move {
            let generation = match via {
                Via::Any(_) => connection.generation,
                Via::Own(_) => core.known().generation(),
            };
            if seen_on.iter().any(|&on| on != generation) {
                return Ok(None);
            }
            let mut writer = connection.session.new_multi_writer();
            for op in ops {
                match op {
                    Op::Check { path, version } => writer.add_check_version(path, version.unwrap_or(-1))?,
                    Op::Create { path, data, mode } => {
                        writer.add_create(path, data, &options.create(*mode))?
                    }
                    Op::Set { path, data, version } => writer.add_set_data(path, data, *version)?,
                    Op::Delete { path, version } => writer.add_delete(path, *version)?,
                }
            }
            let done = writer.commit();
            Ok::<_, Problem>(Some((generation, done.await?)))
        }
    });
    let has_changed = Answer { said: Said::BadVersion, at: usize::MAX, is_repeat: false };
    Ok(sent.await?.and_then(|sent| sent.ok_or(has_changed)))
}
