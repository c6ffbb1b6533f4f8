//! Tells what a failed request means: whether it took effect, and what to do about it.

use aws_sdk_dynamodb::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};
use hyper_util::client::legacy::Error as HttpError;
use kv_core::{
    Error, ErrorKind,
    backend::retry::{Effect, RequestError},
    driver::Deadline,
};
use std::{error::Error as StdError, fmt};

/// A failed request: the facts that the engine of retries asks for, and those that only this crate
/// uses.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) effect: Effect,
    pub(crate) error: Error,
    /// Tells whether the service gave no answer at all.
    pub(crate) is_silent: bool,
    /// Tells whether the records or the iterator of a stream are gone, or the table is.
    pub(crate) is_gone: bool,
    /// Tells what the service refuses: the credentials, or the date of the signature.
    pub(crate) refusal: Option<Refusal>,
    /// Tells whether that refusal is mended by now, so that a repeat can succeed.
    pub(crate) is_mended: bool,
}

/// The reason why a request has no signature that the service accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The service does not know these credentials, or no longer.
    Unknown,
    /// The signature's date is too far from the service's own, which is known now.
    Date,
    /// No credentials were found.
    Missing,
}

impl Failure {
    pub(crate) fn new(effect: Effect, kind: ErrorKind, why: impl Into<String>) -> Self {
        Self::of(effect, Error::new(kind, why.into()))
    }

    pub(crate) fn of(effect: Effect, error: Error) -> Self {
        Self { effect, error, is_silent: false, is_gone: false, refusal: None, is_mended: false }
    }

    /// Returns the failure of a request that was not sent, because of this error.
    pub(crate) fn refused(error: Error) -> Self {
        Self::of(Effect::Refused, error)
    }

    /// Returns the failure of a request that the service throttled.
    pub(crate) fn throttled() -> Self {
        Self::new(Effect::RefusedHere, ErrorKind::Unavailable, format!("DynamoDB: {THROTTLED}"))
    }

    /// Returns the failure of a request of which nothing was heard until this deadline.
    pub(crate) fn silent(effect: Effect, of_what: &str, by: Deadline) -> Self {
        let why = format!("DynamoDB: no {of_what} within {by}");
        Self { is_silent: true, ..Self::new(effect, ErrorKind::Timeout, why) }
    }
}

impl From<Failure> for RequestError {
    fn from(failure: Failure) -> Self {
        Self::new(failure.effect, failure.error).mended(failure.is_mended)
    }
}

/// Returns the service's name of the error.
pub(crate) fn code<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Option<&str> {
    error.as_service_error().and_then(ProvideErrorMetadata::code)
}

impl<E> From<SdkError<E, HttpResponse>> for Failure
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    fn from(error: SdkError<E, HttpResponse>) -> Self {
        let (effect, kind, why) = match &error {
            SdkError::ServiceError(answer) => {
                let said = answer.err().message().unwrap_or_default();
                of_answer(answer.err().code(), said, answer.raw().status().as_u16())
            }
            SdkError::ConstructionFailure(_) | SdkError::DispatchFailure(_) if wants_credentials(&error) => {
                (Effect::Refused, ErrorKind::Unauthenticated, NO_CREDENTIALS)
            }
            SdkError::ConstructionFailure(_) => {
                (Effect::Refused, ErrorKind::InvalidArgument, "the request cannot be made")
            }
            SdkError::DispatchFailure(failure) if failure.is_user() => {
                (Effect::Refused, ErrorKind::InvalidArgument, "the endpoint cannot be used; give another URL")
            }
            SdkError::DispatchFailure(_) if never_connected(&error) => {
                (Effect::None, ErrorKind::Unavailable, "cannot be reached")
            }
            SdkError::ResponseError(_) => {
                (Effect::Unknown, ErrorKind::Unavailable, "the answer makes no sense")
            }
            _ => (Effect::Unknown, ErrorKind::Unavailable, "the request or its answer was lost on the way"),
        };
        let refusal = match &error {
            _ if why == NO_CREDENTIALS => Some(Refusal::Missing),
            SdkError::ServiceError(answer) if kind == ErrorKind::Unauthenticated => {
                let said = answer.err().message().unwrap_or_default();
                let of_date =
                    said.starts_with("Signature expired") || said.starts_with("Signature not yet current");
                Some(if of_date { Refusal::Date } else { Refusal::Unknown })
            }
            _ => None,
        };
        let is_gone = matches!(
            code(&error),
            Some("ExpiredIteratorException" | "TrimmedDataAccessException" | "ResourceNotFoundException")
        );
        // An answer that is not the service's tells nothing of the service.
        let is_silent = !matches!(&error, SdkError::ServiceError(_) | SdkError::ConstructionFailure(_))
            && kind == ErrorKind::Unavailable;
        let said = Said(summary(&error));
        let error = Error::new(kind, format!("DynamoDB: {why}")).with_cause(said);
        Self { effect, error, is_silent, is_gone, refusal, is_mended: false }
    }
}

const THROTTLED: &str = "more is asked of the table than it takes now";
pub(crate) const FULL: &str =
    "the partition is full: an index of the table limits it to 10 GB; delete keys, or drop the index";
const NO_CREDENTIALS: &str = "no credentials were found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a \
     profile, or give them in the URL or `Config`";

fn chain<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&e| e.source())
}

/// Tells whether the connection was never made, so that nothing was sent.
fn never_connected(error: &(dyn StdError + 'static)) -> bool {
    chain(error).any(|e| e.downcast_ref::<HttpError>().is_some_and(HttpError::is_connect))
}

fn wants_credentials(error: &(dyn StdError + 'static)) -> bool {
    chain(error).any(|e| e.is::<aws_credential_types::provider::error::CredentialsError>())
}

/// Returns what the service's own error names mean:
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html>.
fn of_answer(code: Option<&str>, said: &str, status: u16) -> (Effect, ErrorKind, &'static str) {
    use ErrorKind::{NoSpace, Other, PermissionDenied, TooLarge, Unauthenticated, Unavailable};
    // The service names every error; an answer without a name comes from something else.
    let Some(code) = code else {
        return (Effect::Unknown, Unavailable, "an error without a name, which DynamoDB never gives");
    };
    match code {
        "ProvisionedThroughputExceededException"
        | "ThrottlingException"
        | "Throttling"
        | "RequestLimitExceeded"
        | "LimitExceededException"
        | "TooManyRequestsException" => (Effect::RefusedHere, Unavailable, THROTTLED),
        "TransactionConflictException" => (Effect::None, Unavailable, "a transaction is at work on the key"),
        "ReplicatedWriteConflictException" => (Effect::None, Unavailable, "another region writes the key"),
        "TransactionInProgressException" => (Effect::Unknown, Unavailable, "the transaction is at work"),
        "AccessDeniedException" | "AccessDenied" | "NotAuthorizedException" => {
            (Effect::Refused, PermissionDenied, "the credentials' policies do not allow it")
        }
        "UnrecognizedClientException"
        | "InvalidSignatureException"
        | "IncompleteSignatureException"
        | "IncompleteSignature"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "InvalidClientTokenId"
        | "ExpiredTokenException"
        | "ExpiredToken"
        | "OptInRequired" => {
            (Effect::Refused, Unauthenticated, "the service does not know these credentials")
        }
        "ItemCollectionSizeLimitExceededException" => (Effect::Refused, NoSpace, FULL),
        "RequestEntityTooLarge" => (Effect::Refused, TooLarge, "more than the service takes"),
        "ValidationException" if said.contains("size") && said.contains("exceed") => {
            (Effect::Refused, TooLarge, "more than the service takes")
        }
        "ValidationException" => (Effect::Refused, Other, "the service does not understand the request"),
        "ResourceNotFoundException" => (Effect::Refused, Other, "the table is gone"),
        _ if status == 413 => (Effect::Refused, TooLarge, "more than the service takes"),
        _ if status >= 500 => (Effect::Unknown, Unavailable, "the service has trouble of its own"),
        _ => (Effect::Refused, Other, "the service refused the request"),
    }
}

/// Returns the error in one line, in the words of the service, or of the last cause.
fn summary<E>(error: &SdkError<E, HttpResponse>) -> String
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    let text = match error {
        SdkError::ServiceError(answer) => {
            let (code, said) = (answer.err().code(), answer.err().message());
            match (code, said) {
                (Some(code), Some(said)) => format!("{code}: {said}"),
                (Some(code), None) => code.to_owned(),
                _ => format!("status {}", answer.raw().status().as_u16()),
            }
        }
        other => chain(other).last().map(ToString::to_string).unwrap_or_default(),
    };
    text.replace('\n', " ")
}

/// The words of the service or of the network.
#[derive(Debug)]
struct Said(String);

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Said {}

/// Returns the error of a request that was done, but whose outcome is not known.
pub(crate) fn unknown_whether(why: &'static str) -> Error {
    Error::new(ErrorKind::OutcomeUnknown, why)
}

/// Returns the error of an answer that the service should never give.
pub(crate) fn corrupt(why: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt, why)
}

/// Returns the error of an item that is there; it names the attribute that makes no sense.
pub(crate) fn damaged(what: &str, name: &str, attribute: &str) -> Error {
    let why = format!(
        "the attribute {attribute:?} of the {what} {name:?} is damaged, or another tool's: it is of another type than this \
         library's, or far beyond the service's time; nothing was written; delete the item, or write it anew"
    );
    Error::new(ErrorKind::Corrupt, why)
}

/// Returns the error of a write that writes of others overtook until its time was over; `did` says
/// what they did.
pub(crate) fn outpaced(did: &str, deadline: Deadline) -> Error {
    let within = deadline.within();
    let why = format!("others {did} again and again for {within:?}; nothing was written, so try again");
    Error::new(ErrorKind::Timeout, why)
}

/// Returns the error of a call that is made after the store was closed.
#[cold]
pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the store was closed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_too_slow_for_a_lock_hears_of_the_lock() {
        let e = outpaced("took the lock", Deadline::default());
        assert_eq!(e.kind(), ErrorKind::Timeout);
        assert!(e.to_string().starts_with("others took the lock again and again for 5s;"), "{e}");
    }

    #[test]
    fn only_what_certainly_took_no_effect_is_said_to_have_taken_none() {
        for (code, status, effect) in [
            ("ThrottlingException", 400, Effect::RefusedHere),
            ("TransactionConflictException", 400, Effect::None),
            ("InternalServerError", 500, Effect::Unknown),
            ("ServiceUnavailable", 503, Effect::Unknown),
            ("AccessDeniedException", 400, Effect::Refused),
            ("NeverHeardOf", 400, Effect::Refused),
        ] {
            assert_eq!(of_answer(Some(code), "", status).0, effect, "{code}");
        }
        for status in [400, 403, 404, 413, 429, 502] {
            let (effect, kind, _) = of_answer(None, "", status);
            assert_eq!((effect, kind), (Effect::Unknown, ErrorKind::Unavailable), "{status}");
        }
    }
}
