//! Makes the changes that the page asks for, if it may. Each depends on the version that the page
//! has shown.

use super::{
    Site,
    answer::{answer, fails, text},
};
use crate::{
    exit::{Failure, Run},
    lines::{V, unbase64},
};
use axum::{
    body::Bytes,
    extract::{FromRequest, Request},
    http::{StatusCode, header},
    response::Response,
};
use kv_core::{Error, ErrorKind, Key, Version};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Change {
    key: String,
    value: Option<String>,
    base64: Option<String>,
    /// The version that was shown; none if there was no key.
    version: Option<String>,
}

#[derive(Deserialize)]
struct Breaking {
    name: String,
    token: u64,
}

#[derive(Serialize)]
struct Changed {
    v: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    done: bool,
}

/// Makes a change: `put`, `delete` or `break`.
pub(super) async fn edit(site: &Site, what: &str, request: Request) -> Response {
    if !site.is_writable {
        let why = "this page is read-only; start it with `kv ui --write` to change something";
        return text(StatusCode::FORBIDDEN, why);
    }
    // A form of another page cannot be of this type.
    let is_json = request.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    if !is_json {
        return text(StatusCode::UNSUPPORTED_MEDIA_TYPE, "a change is an object, of type application/json");
    }
    let body = match Bytes::from_request(request, &()).await {
        Ok(body) => body,
        Err(e) => return text(e.status(), "the change is too large, or was broken off"),
    };
    let changed = match what {
        "put" => put(site, &body).await,
        "delete" => delete(site, &body).await,
        _ => break_lock(site, &body).await,
    };
    match changed {
        Err(failure) => fails(&failure),
        changed => answer(changed),
    }
}

/// Reads the object of a change. The parser's own words may hold a piece of a value.
fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Run<T> {
    serde_json::from_slice(body).map_err(|_| Failure::usage("the change is no object of the right form"))
}

async fn put(site: &Site, body: &[u8]) -> Run<Changed> {
    let Change { key, value, base64, version } = read(body)?;
    let value = match (value, base64) {
        (Some(text), None) => text.into_bytes(),
        (None, Some(base64)) => unbase64(&base64).map_err(Failure::usage)?,
        _ => return Err(Failure::usage("the change needs one of `value` and `base64`")),
    };
    let put = site.kv.put(Key::parse(&key)?, value);
    let put = match version {
        Some(version) => put.if_version(version.parse::<Version>()?),
        None => put.if_missing(),
    };
    let version = Some(put.await?.version.to_string());
    Ok(Changed { v: V, version, done: true })
}

async fn delete(site: &Site, body: &[u8]) -> Run<Changed> {
    let Change { key, version, .. } = read(body)?;
    let version = version.ok_or_else(|| Failure::usage("the deletion needs the `version` that was shown"))?;
    let done = site.kv.delete(Key::parse(&key)?).if_version(version.parse::<Version>()?).await?;
    Ok(Changed { v: V, version: None, done })
}

async fn break_lock(site: &Site, body: &[u8]) -> Run<Changed> {
    let Breaking { name, token } = read(body)?;
    let done = site.kv.break_lock(Key::parse(&name)?).token(token).await?;
    if done {
        return Ok(Changed { v: V, version: None, done });
    }
    let why = format!("the lock {name:?} is not held under the token {token} any more");
    Err(Error::new(ErrorKind::KeyModified, why).into())
}
