//! What a failed request means: whether it took effect, and what to do about it.

use aws_sdk_dynamodb::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};
use hyper_util::client::legacy::Error as HttpError;
use kv_core::{Error, ErrorKind};
use std::{error::Error as StdError, fmt};

/// What became of a request that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It took no effect; later it may succeed.
    Undone,
    /// As that, because more was asked of the table than it takes: the service asks for a pause.
    Throttled,
    /// It may have taken effect.
    Unknown,
    /// It took no effect, and trying again does not help.
    Refused,
}

/// A request that failed.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) fate: Fate,
    pub(crate) error: Error,
    /// Whether the service has not answered at all.
    pub(crate) silent: bool,
    /// Whether credentials or the date of a signature are what is wrong.
    pub(crate) login: Option<Refusal>,
    /// Whether what was to be read of a stream is gone, or the table is.
    pub(crate) gone: bool,
}

/// What is wrong with who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The service does not know these credentials, or knows them no more.
    Unknown,
    /// The signature's date is too far from the service's own, which is known now.
    Date,
    /// No credentials could be had.
    Missing,
}

impl Failed {
    pub(crate) fn new(fate: Fate, kind: ErrorKind, why: impl Into<String>) -> Self {
        Self { fate, error: Error::new(kind, why.into()), silent: false, login: None, gone: false }
    }

    /// Nothing was sent, because of this.
    pub(crate) fn refused(error: Error) -> Self {
        Self { fate: Fate::Refused, error, silent: false, login: None, gone: false }
    }

    pub(crate) fn throttled() -> Self {
        Self::new(Fate::Throttled, ErrorKind::Unavailable, format!("DynamoDB: {THROTTLED}"))
    }
}

/// The service's name of what went wrong.
pub(crate) fn code<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Option<&str> {
    error.as_service_error().and_then(ProvideErrorMetadata::code)
}

impl<E> From<SdkError<E, HttpResponse>> for Failed
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    fn from(error: SdkError<E, HttpResponse>) -> Self {
        let (fate, kind, why) = match &error {
            SdkError::ServiceError(answer) => {
                let said = answer.err().message().unwrap_or_default();
                of_answer(answer.err().code(), said, answer.raw().status().as_u16())
            }
            SdkError::ConstructionFailure(_) | SdkError::DispatchFailure(_) if wants_credentials(&error) => {
                (Fate::Refused, ErrorKind::Unauthenticated, NO_CREDENTIALS)
            }
            SdkError::ConstructionFailure(_) => {
                (Fate::Refused, ErrorKind::InvalidArgument, "the request cannot be made")
            }
            SdkError::DispatchFailure(failure) if failure.is_user() => {
                (Fate::Refused, ErrorKind::InvalidArgument, "the endpoint makes no sense")
            }
            SdkError::DispatchFailure(_) if never_connected(&error) => {
                (Fate::Undone, ErrorKind::Unavailable, "cannot be reached")
            }
            SdkError::ResponseError(_) => {
                (Fate::Unknown, ErrorKind::Unavailable, "the answer makes no sense")
            }
            _ => (Fate::Unknown, ErrorKind::Unavailable, "was lost on the way"),
        };
        let login = match &error {
            _ if why == NO_CREDENTIALS => Some(Refusal::Missing),
            SdkError::ServiceError(answer) if kind == ErrorKind::Unauthenticated => {
                let said = answer.err().message().unwrap_or_default();
                let of_date =
                    said.starts_with("Signature expired") || said.starts_with("Signature not yet current");
                Some(if of_date { Refusal::Date } else { Refusal::Unknown })
            }
            _ => None,
        };
        let gone = matches!(
            code(&error),
            Some("ExpiredIteratorException" | "TrimmedDataAccessException" | "ResourceNotFoundException")
        );
        // What is not the service says nothing of it.
        let silent = !matches!(&error, SdkError::ServiceError(_) | SdkError::ConstructionFailure(_))
            && kind == ErrorKind::Unavailable;
        let said = Said(summary(&error));
        let error = Error::new(kind, format!("DynamoDB: {why}")).with_cause(said);
        Self { fate, error, silent, login, gone }
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

/// The connection was never made, so that nothing was sent.
fn never_connected(error: &(dyn StdError + 'static)) -> bool {
    chain(error).any(|e| e.downcast_ref::<HttpError>().is_some_and(HttpError::is_connect))
}

fn wants_credentials(error: &(dyn StdError + 'static)) -> bool {
    chain(error).any(|e| e.is::<aws_credential_types::provider::error::CredentialsError>())
}

/// What the service's own words mean: <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html>.
fn of_answer(code: Option<&str>, said: &str, status: u16) -> (Fate, ErrorKind, &'static str) {
    use ErrorKind::*;
    // The service names what went wrong; who does not is something else.
    let Some(code) = code else {
        return (Fate::Unknown, Unavailable, "an error without a name, as DynamoDB gives none");
    };
    match code {
        "ProvisionedThroughputExceededException"
        | "ThrottlingException"
        | "Throttling"
        | "RequestLimitExceeded"
        | "LimitExceededException"
        | "TooManyRequestsException" => (Fate::Throttled, Unavailable, THROTTLED),
        "TransactionConflictException" => (Fate::Undone, Unavailable, "a transaction is at work on the key"),
        "ReplicatedWriteConflictException" => (Fate::Undone, Unavailable, "another region writes the key"),
        "TransactionInProgressException" => (Fate::Unknown, Unavailable, "the transaction is at work"),
        "AccessDeniedException" | "AccessDenied" | "NotAuthorizedException" => {
            (Fate::Refused, PermissionDenied, "the credentials' policies do not allow it")
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
        | "OptInRequired" => (Fate::Refused, Unauthenticated, "the service does not know these credentials"),
        "ItemCollectionSizeLimitExceededException" => (Fate::Refused, NoSpace, FULL),
        "RequestEntityTooLarge" => (Fate::Refused, TooLarge, "more than the service takes"),
        "ValidationException" if said.contains("size") && said.contains("exceed") => {
            (Fate::Refused, TooLarge, "more than the service takes")
        }
        "ValidationException" => (Fate::Refused, Other, "the service does not understand the request"),
        "ResourceNotFoundException" => (Fate::Refused, Other, "the table is gone"),
        _ if status == 413 => (Fate::Refused, TooLarge, "more than the service takes"),
        _ if status >= 500 => (Fate::Unknown, Unavailable, "trouble in the service"),
        _ => (Fate::Refused, Other, "refused"),
    }
}

/// One line, in the words of the service, or of the last cause.
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

/// What the service or the network said.
#[derive(Debug)]
struct Said(String);

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Said {}

pub(crate) fn unknown(error: Error) -> Error {
    let why = "the write may or may not have happened, so read before writing again";
    Error::new(ErrorKind::OutcomeUnknown, why).with_cause(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_certainly_took_no_effect_is_said_to_have_taken_none() {
        for (code, status, fate) in [
            ("ThrottlingException", 400, Fate::Throttled),
            ("TransactionConflictException", 400, Fate::Undone),
            ("InternalServerError", 500, Fate::Unknown),
            ("ServiceUnavailable", 503, Fate::Unknown),
            ("AccessDeniedException", 400, Fate::Refused),
            ("NeverHeardOf", 400, Fate::Refused),
        ] {
            assert_eq!(of_answer(Some(code), "", status).0, fate, "{code}");
        }
        for status in [400, 403, 404, 413, 429, 502] {
            let (fate, kind, _) = of_answer(None, "", status);
            assert_eq!((fate, kind), (Fate::Unknown, ErrorKind::Unavailable), "{status}");
        }
    }
}
