//! Tells whether an answer is the service's own, and learns the service's time from it.
//!
//! A proxy, an ingress or a portal between this client and the service sometimes answers in the
//! service's place: with a text and the status 404, or a page and the status 200. Nothing of such
//! an answer is believed: neither that a key is missing, nor its date.

use crate::client::clock::{Millis, ServiceTime};
use aws_sdk_dynamodb::{
    config::{
        ConfigBag, Intercept, RuntimeComponents,
        http::HttpResponse,
        interceptors::{BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef},
    },
    error::BoxError,
    primitives::{DateTime, DateTimeFormat},
};
use aws_smithy_types::config_bag::{Storable, StoreReplace};
use kv_core::backend::Instant;
use std::{error::Error as StdError, fmt};

/// The content type of every answer of the service.
const JSON: &str = "application/x-amz-json-1.0";

/// The error of an answer that is not the service's, with its status.
#[derive(Debug)]
pub(crate) struct NotTheService(u16);

impl fmt::Display for NotTheService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the answer, with status {}, does not come from DynamoDB: is there a proxy in between?",
            self.0
        )
    }
}

impl StdError for NotTheService {}

/// Tells whether the answer is marked in one of the ways of the service, and of every emulator of
/// it.
fn is_the_services(answer: &HttpResponse) -> bool {
    let headers = answer.headers();
    let is_json = headers.get("content-type").is_some_and(|kind| kind.starts_with(JSON));
    is_json || headers.contains_key("x-amzn-requestid") || headers.contains_key("x-amz-crc32")
}

/// An interceptor that checks every answer, and notes its date.
#[derive(Clone, Debug)]
pub(crate) struct Answers(pub(crate) ServiceTime);

#[derive(Debug)]
struct Sent(Instant);

impl Storable for Sent {
    type Storer = StoreReplace<Self>;
}

impl Intercept for Answers {
    fn name(&self) -> &'static str {
        "Answers"
    }

    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        bag.interceptor_state().store_put(Sent(self.0.local().now()));
        Ok(())
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let answer = context.response();
        if !is_the_services(answer) {
            return Err(NotTheService(answer.status().as_u16()).into());
        }
        let date = answer.headers().get("date");
        let date = date.and_then(|date| DateTime::from_str(date, DateTimeFormat::HttpDate).ok());
        let date = date.and_then(|date| Millis::try_from(date.to_millis().ok()?).ok());
        if let Some((date, sent)) = date.zip(bag.load::<Sent>()) {
            self.0.heard(date, sent.0);
        }
        Ok(())
    }
}
