//! Sends the operations of one request, of which the server does all or none.

use crate::{
    client::{
        multi::{Ask, Got, request},
        via::Via,
    },
    core::Core,
    error::{Answer, Problem, Said},
};
use futures::FutureExt;
use kv_core::{Bytes, Result, backend::retry::RetrySafety, driver::Deadline};
use std::{collections::BTreeSet, sync::OnceLock};
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

/// The circumstances of a request: where it may be sent, and what is read behind it.
#[derive(Default)]
pub(crate) struct Beside {
    /// The generations of the connections on which everything was seen that the request relies on:
    /// on another one it is not sent.
    pub(crate) seen_on: BTreeSet<u64>,
    /// The reads that are sent behind the request, without waiting for its answer: of the
    /// directory that it may leave empty.
    pub(crate) asks: Vec<Ask>,
    /// Set to the generation of the connection on which it is sent, where that is the one of reads.
    /// The answer comes there in the order of writes, also that of a request that is refused.
    pub(crate) sent_on: OnceLock<u64>,
}

/// The answer to a request that was done.
pub(crate) struct Sent {
    /// The generation of the connection under which the results may be remembered.
    pub(crate) generation: u64,
    pub(crate) results: Vec<MultiWriteResult>,
    /// The answers to the reads behind it; empty where one of them failed.
    pub(crate) got: Vec<Got>,
}

/// Sends a request.
pub(crate) async fn send<'a>(
    core: &Core,
    via: Via<'_>,
    safety: RetrySafety,
    deadline: Deadline,
    ops: impl Iterator<Item = &'a Op> + Clone + Send + Sync,
    beside: &Beside,
) -> Result<Result<Sent, Answer>> {
    let options = &core.client.options;
    let sent = via.call(safety, deadline, |connection| {
        let ops = ops.clone();
        async move {
            let generation = match via {
                Via::Any(_) => connection.generation,
                Via::Own(_) => core.known().generation(),
            };
            if beside.seen_on.iter().any(|&on| on != generation) {
                return Ok(None);
            }
            if matches!(via, Via::Any(_)) {
                let _ = beside.sent_on.set(generation);
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
            let mut got = Box::pin(request(&connection, &beside.asks));
            // The first poll sends it, if there is anything to read.
            let early = if beside.asks.is_empty() { None } else { got.as_mut().now_or_never() };
            let results = done.await?;
            let got = match early {
                Some(got) => got,
                None if beside.asks.is_empty() => Ok(Vec::new()),
                None => got.await,
            };
            Ok::<_, Problem>(Some(Sent { generation, results, got: got.unwrap_or_default() }))
        }
    });
    let has_changed = Answer { said: Said::BadVersion, at: usize::MAX, is_repeat: false };
    Ok(sent.await?.and_then(|sent| sent.ok_or(has_changed)))
}
