//! Tells whether a request ever had a connection: one without was not sent, however its time ended.

use aws_sdk_dynamodb::{
    config::{ConfigBag, Intercept, RuntimeComponents, interceptors::BeforeTransmitInterceptorContextRef},
    error::BoxError,
};
use aws_smithy_runtime_api::client::connection::CaptureSmithyConnection;
use std::{
    future::Future,
    sync::{Arc, OnceLock},
};

tokio::task_local! {
    static SENT: Sent;
}

/// The knowledge about a request that is under way: whether it has a connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sent(Arc<OnceLock<Option<CaptureSmithyConnection>>>);

impl Sent {
    /// Returns whether it may have left.
    pub(crate) fn maybe(&self) -> bool {
        match self.0.get() {
            None => false,
            // The SDK tells nothing of its connections.
            Some(None) => true,
            Some(Some(connection)) => connection.get().is_some(),
        }
    }
}

/// Keeps an eye on one request.
pub(crate) fn watched<F: Future>(request: F) -> (impl Future<Output = F::Output>, Sent) {
    let sent = Sent::default();
    (SENT.scope(sent.clone(), request), sent)
}

/// Sees requests being handed to the connections.
#[derive(Clone, Debug)]
pub(crate) struct Sending;

impl Intercept for Sending {
    fn name(&self) -> &'static str {
        "Sending"
    }

    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        // Of a request that nobody keeps an eye on nobody asks.
        let _ = SENT.try_with(|sent| sent.0.set(bag.load::<CaptureSmithyConnection>().cloned()));
        Ok(())
    }
}
