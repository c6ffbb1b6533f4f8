//! `put`, `cas`.

use crate::{
    exit::{Exit, Failure, Run},
    lines::V,
    out::{Out, note},
    text::{self, Seen},
};
use clap::Args;
use kv_core::{Error, ErrorKind, Key, Kv, Put, Version, Written};
use serde::Serialize;
use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read},
    path::PathBuf,
    time::Duration,
};

/// The source of a value: an argument, standard input, or a file.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Value {
    /// The value; `-` reads it from standard input
    #[arg(value_name = "VALUE", allow_negative_numbers = true)]
    value: Option<OsString>,
    /// Reads the value from this file
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,
}

impl Value {
    /// Reads the value, and no more of it than shows that it is too large.
    async fn read(self, most: usize) -> Run<Vec<u8>> {
        let Self { value, file } = self;
        if let Some(value) = value.filter(|value| value != "-") {
            return Ok(value.into_encoded_bytes());
        }
        let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
        // Standard input may keep it waiting; meanwhile connections want to be kept.
        let read = tokio::task::spawn_blocking(move || {
            let mut value = Vec::new();
            let from =
                file.as_ref().map_or_else(|| "standard input".to_owned(), |path| path.display().to_string());
            let read = match &file {
                Some(path) => File::open(path).and_then(|file| file.take(limit).read_to_end(&mut value)),
                None => io::stdin().lock().take(limit).read_to_end(&mut value),
            };
            read.map_err(|e| Failure::here(format!("{from} cannot be read: {e}")))?;
            if value.len() > most {
                let why =
                    format!("{from} has more than {most} bytes, which is the largest value of this store");
                return Err(Error::new(ErrorKind::TooLarge, why).into());
            }
            Ok(value)
        });
        read.await.map_err(|e| Failure::here(format!("the value cannot be read: {e}")))?
    }
}

/// The arguments of `put`.
#[derive(Args, Debug)]
pub(crate) struct PutArgs {
    /// The key
    key: Key,
    #[command(flatten)]
    value: Value,
    /// Has the key go by itself after this time, as 30s
    #[arg(long, value_name = "TIME", value_parser = text::duration)]
    ttl: Option<Duration>,
    /// Puts the key only if it is not there
    #[arg(long, conflicts_with = "if_version")]
    if_missing: bool,
    /// Puts the key only if it is at this version
    #[arg(long, value_name = "VERSION")]
    if_version: Option<Version>,
}

/// The arguments of `cas`.
#[derive(Args, Debug)]
pub(crate) struct CasArgs {
    /// The key
    key: Key,
    /// The version that was seen, or `none` if the key was not there
    #[arg(value_name = "VERSION", value_parser = text::seen)]
    seen: Seen,
    #[command(flatten)]
    value: Value,
    /// Has the key go by itself after this time, as 30s
    #[arg(long, value_name = "TIME", value_parser = text::duration)]
    ttl: Option<Duration>,
}

pub(crate) async fn put(args: PutArgs, kv: &Kv, out: &mut Out) -> Run {
    let PutArgs { key, value, ttl, if_missing, if_version } = args;
    let put = kv.put(&key, value.read(kv.capabilities().max_value).await?);
    let put = if if_missing { put.if_missing() } else { put };
    let put = if let Some(version) = if_version { put.if_version(version) } else { put };
    send(&key, put, ttl, out).await
}

pub(crate) async fn cas(args: CasArgs, kv: &Kv, out: &mut Out) -> Run {
    let CasArgs { key, seen, value, ttl } = args;
    let put = kv.put(&key, value.read(kv.capabilities().max_value).await?);
    let put = match seen {
        Seen::Nothing => put.if_missing(),
        Seen::At(version) => put.if_version(version),
    };
    send(&key, put, ttl, out).await
}

#[derive(Serialize)]
struct PutLine<'a> {
    v: u8,
    key: &'a str,
    version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_ms: Option<u64>,
}

/// Makes the put.
async fn send(key: &Key, put: Put, ttl: Option<Duration>, out: &mut Out) -> Run {
    let put = if let Some(ttl) = ttl { put.ttl(ttl) } else { put };
    let written = put.await?;
    tell(key, written, ttl, out)
}

/// Prints the version that the key has now, and says which TTL was granted if it is not the one
/// that was asked for.
pub(super) fn tell(key: &Key, written: Written, ttl: Option<Duration>, out: &mut Out) -> Run {
    out.acts().note();
    let Written { version, ttl: granted, .. } = written;
    if out.is_json() {
        let ttl_ms = granted.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
        out.object(&PutLine { v: V, key: key.as_str(), version: version.to_string(), ttl_ms })?;
    } else {
        out.line(&version.to_string())?;
        if let Some(granted) = granted.filter(|granted| Some(*granted) != ttl) {
            note(&format!("the store granted a TTL of {}", text::of_duration(granted)));
        }
    }
    Ok(Exit::DONE)
}
