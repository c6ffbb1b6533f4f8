//! Makes the body of a request, which notes when it is sent.

use bytes::Bytes;
use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

/// Gives up a request, and tells whether nothing of it was sent, and nothing will be.
pub(super) fn give_up(sending: &AtomicU8) -> bool {
    match sending.compare_exchange(WAITS, GIVEN_UP, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) | Err(GIVEN_UP) => true,
        Err(_) => false,
    }
}

pub(super) const WAITS: u8 = 0;
const SENT: u8 = 1;
const GIVEN_UP: u8 = 2;

/// The body of a request, which notes when it begins to be sent, unless the request was given up
/// before: without its body no request has an effect.
pub(super) struct Body {
    pub(super) bytes: Option<Bytes>,
    pub(super) sending: Arc<AtomicU8>,
    pub(super) count: Option<Arc<AtomicUsize>>,
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, io::Error>>> {
        let before = self.sending.compare_exchange(WAITS, SENT, Ordering::AcqRel, Ordering::Acquire);
        if before == Err(GIVEN_UP) {
            // The error ends the connection, and with it a head that may have been sent.
            return Poll::Ready(Some(Err(io::Error::other("the request was given up"))));
        }
        if let Some(count) = self.count.take() {
            count.fetch_add(1, Ordering::AcqRel);
        }
        Poll::Ready(self.bytes.take().map(|bytes| Ok(http_body::Frame::data(bytes))))
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.bytes.as_ref().map_or(0, Bytes::len) as u64)
    }

    // Not even the sending of an empty body may go unnoticed.
    fn is_end_stream(&self) -> bool {
        false
    }
}
