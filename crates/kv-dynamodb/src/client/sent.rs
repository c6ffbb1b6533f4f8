//! Tells whether a request ever had a connection. One without a connection was not sent, however
//! its time ended.

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
    /// Tells whether the request may have left.
    pub(crate) fn maybe(&self) -> bool {
        match self.0.get() {
            None => false,
            // The SDK told nothing of its connections.
            Some(None) => true,
            Some(Some(connection)) => connection.get().is_some(),
        }
    }
}

/// Runs one request, and notes whether it has a connection.
pub(crate) fn watched<F: Future>(request: F) -> (impl Future<Output = F::Output>, Sent) {
    let sent = Sent::default();
    (SENT.scope(sent.clone(), request), sent)
}

/// An interceptor that notes the connection of each request.
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
        // Some requests are not watched; there is nothing to note for them.
        let _ = SENT.try_with(|sent| sent.0.set(bag.load::<CaptureSmithyConnection>().cloned()));
        Ok(())
    }
}
