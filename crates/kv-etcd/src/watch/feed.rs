//! The stream of changes of a range, as the server tells them.

use crate::{
    client::{Purpose, limits::ANSWER},
    core::Core,
    error::{classify, refused_watch},
    names::Range,
};
use etcd_client::{KeyValue, WatchOptions, WatchResponse, WatchStream};
use kv_core::{Result, driver::Deadline};
use std::time::Duration;

/// The changes of a range, from the moment on at which the feed is opened.
pub(crate) struct Feed {
    stream: WatchStream,
}

impl Feed {
    /// Opens a watch on the server.
    pub(crate) async fn open(core: &Core, range: &Range, each_request: Duration) -> Result<Self> {
        // No fragments are asked for: the server measures a fragment anew for every event in it,
        // which takes minutes for a tree that is deleted at once.
        let mut options = WatchOptions::new();
        if !range.end.is_empty() {
            options = options.with_range(range.end.clone());
        }
        let open = core.client.call(Purpose::Watch, Deadline::after(each_request), |service| {
            let mut watch = service.watch_client().max_decoding_message_size(ANSWER);
            let (start, options) = (range.start.clone(), options.clone());
            async move {
                let mut stream = watch.watch(start, Some(options)).await?;
                match stream.message().await? {
                    Some(first) if first.created() && !first.canceled() => Ok(stream),
                    said => Err(refused_watch(said.as_ref())),
                }
            }
        });
        Ok(Self { stream: open.await? })
    }

    /// Waits for the next changes, in their order; `None` where the range has to be read again:
    /// the connection broke, the member lost its leader, or the revision was compacted. Cancel
    /// safe.
    pub(crate) async fn next(&mut self) -> Option<Vec<KeyValue>> {
        loop {
            let message = match self.stream.message().await {
                Ok(Some(message)) if !message.canceled() => message,
                Ok(end) => {
                    let reason = end.as_ref().map(WatchResponse::cancel_reason);
                    tracing::debug!(reason, "the server ended a watch");
                    return None;
                }
                Err(e) => {
                    tracing::debug!(error = %classify("watch", true, e).failed.error, "a watch broke");
                    return None;
                }
            };
            let changes: Vec<_> = message.events().iter().filter_map(|event| event.kv().cloned()).collect();
            if !changes.is_empty() {
                return Some(changes);
            }
        }
    }
}

/// Tells whether a change is a deletion: a deleted key has no revision at which it was created.
pub(crate) fn is_deletion(change: &KeyValue) -> bool {
    change.create_revision() == 0
}
