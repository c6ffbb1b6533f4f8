//! The server's changes.

use crate::{
    client::Purpose,
    error::{classify, refused_watch},
    names::Range,
    store::{ANSWER, Inner},
};
use etcd_client::{Event, KeyValue, WatchOptions, WatchResponse, WatchStream};
use kv_core::{Deadline, Result};
use std::time::Duration;

/// A feed that lived so long was a good one.
pub(crate) const LASTED: Duration = Duration::from_secs(5);

/// The server's changes of a range from now on.
pub(crate) struct Feed {
    stream: WatchStream,
}

/// What a feed gives.
pub(crate) enum News {
    Changes(Vec<(Change, KeyValue)>),
    /// Read again: the link broke, the member lost its leader, or the revision was compacted.
    Broken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Put,
    Delete,
}

impl Feed {
    pub(crate) async fn open(inner: &Inner, range: &Range, each_request: Duration) -> Result<Self> {
        // Not in fragments: the server measures each anew for every event in it, minutes for a tree that is deleted at once.
        let mut options = WatchOptions::new();
        if !range.end.is_empty() {
            options = options.with_range(range.end.clone());
        }
        let open = inner.client.call(Purpose::Watch, Deadline::after(each_request), |service| {
            let (start, options) = (range.start.clone(), options.clone());
            async move {
                let mut watch = service.watch_client().max_decoding_message_size(ANSWER);
                let mut stream = watch.watch(start, Some(options)).await?;
                match stream.message().await? {
                    Some(first) if first.created() && !first.canceled() => Ok(stream),
                    said => Err(refused_watch(said.as_ref().map_or("", WatchResponse::cancel_reason))),
                }
            }
        });
        Ok(Self { stream: open.await? })
    }

    /// Waits for what changes. Cancel safe.
    pub(crate) async fn next(&mut self) -> News {
        loop {
            let message = match self.stream.message().await {
                Ok(Some(message)) if !message.canceled() => message,
                Ok(end) => {
                    tracing::debug!(
                        reason = end.as_ref().map(|end| end.cancel_reason()),
                        "the server ended a watch"
                    );
                    return News::Broken;
                }
                Err(e) => {
                    tracing::debug!(error = %classify("watch", true, e).failed.error, "a watch broke");
                    return News::Broken;
                }
            };
            let changes: Vec<_> = message.events().iter().filter_map(change).collect();
            if !changes.is_empty() {
                return News::Changes(changes);
            }
        }
    }
}

fn change(event: &Event) -> Option<(Change, KeyValue)> {
    let kv = event.kv()?.clone();
    // What is gone was never created.
    Some((if kv.create_revision() == 0 { Change::Delete } else { Change::Put }, kv))
}
