//! The answers: objects, and failures as objects.

use crate::{exit::Failure, lines::ErrorLine};
use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use kv_core::ErrorKind;
use serde::Serialize;

/// Answers with an object, or with the failure.
pub(super) fn answer<T: Serialize>(answer: Result<T, Failure>) -> Response {
    match answer {
        Ok(object) => json(StatusCode::OK, &object),
        Err(failure) => fails(&failure),
    }
}

fn json(status: StatusCode, object: &impl Serialize) -> Response {
    match serde_json::to_string(object) {
        Ok(body) => (status, [(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(e) => text(StatusCode::INTERNAL_SERVER_ERROR, &format!("the answer cannot be written: {e}")),
    }
}

/// Answers with a failure, in the words of the program.
pub(super) fn fails(failure: &Failure) -> Response {
    let status = match failure {
        Failure::Store(error) => status(error.kind()),
        _ => StatusCode::BAD_REQUEST,
    };
    let (word, message) = failure.words().unwrap_or(("failed", String::new()));
    json(status, &ErrorLine::of(failure, word, &message, false))
}

fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::InvalidKey | ErrorKind::InvalidArgument => StatusCode::BAD_REQUEST,
        ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::KeyExists | ErrorKind::KeyModified => StatusCode::CONFLICT,
        ErrorKind::Unauthenticated | ErrorKind::PermissionDenied => StatusCode::FORBIDDEN,
        ErrorKind::Unsupported => StatusCode::NOT_IMPLEMENTED,
        ErrorKind::NoSpace => StatusCode::INSUFFICIENT_STORAGE,
        ErrorKind::Unavailable | ErrorKind::Timeout => StatusCode::SERVICE_UNAVAILABLE,
        // Whether it was done is not known: the page says so, in the words of the error.
        ErrorKind::OutcomeUnknown => StatusCode::BAD_GATEWAY,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Answers with a sentence, as an object with the word for what it is.
pub(super) fn text(status: StatusCode, message: &str) -> Response {
    #[derive(Serialize)]
    struct Sentence<'a> {
        v: u8,
        error: &'a str,
        message: &'a str,
    }
    let error = match status {
        StatusCode::NOT_FOUND => "no",
        StatusCode::FORBIDDEN => "refused",
        _ => "usage",
    };
    json(status, &Sentence { v: crate::lines::V, error, message })
}

pub(super) fn not_found(message: &str) -> Response {
    text(StatusCode::NOT_FOUND, message)
}
