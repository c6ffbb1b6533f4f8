//! Consul's HTTP API, as far as the sides need it.

use crate::side::Done;
use base64::{Engine, prelude::BASE64_STANDARD};
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};
use std::net::SocketAddr;

/// A client whose names have a prefix, and a session of its own.
#[derive(Clone)]
pub(super) struct Consul {
    pub(super) at: SocketAddr,
    pub(super) prefix: &'static str,
    pub(super) session: String,
    http: Client,
}

impl Consul {
    pub(super) async fn open(at: SocketAddr, prefix: &'static str) -> Done<Self> {
        let http = Client::builder().pool_max_idle_per_host(usize::MAX).tcp_nodelay(true).build()?;
        let mut consul = Self { at, prefix, session: String::new(), http };
        consul.session = consul.new_session(3_600).await?;
        Ok(consul)
    }

    /// Makes a session that ends by itself, and its keys with it; Consul ends it after up to twice
    /// this time.
    pub(super) async fn new_session(&self, seconds: u64) -> Done<String> {
        let ttl = format!("{seconds}s");
        let wanted = json!({ "TTL": ttl, "Behavior": "delete", "LockDelay": "0s", "NodeChecks": [] });
        let made: Value =
            serde_json::from_slice(&self.put("/v1/session/create", serde_json::to_vec(&wanted)?).await?)?;
        Ok(made["ID"].as_str().ok_or("a session has an id")?.to_owned())
    }

    /// Sends a `PUT`, and returns the body of its answer.
    pub(super) async fn put(&self, path: &str, body: impl Into<reqwest::Body>) -> Done<Vec<u8>> {
        let answer = self.http.put(format!("http://{}{path}", self.at)).body(body).send().await?;
        Ok(answer.error_for_status()?.bytes().await?.to_vec())
    }

    pub(super) async fn delete(&self, path: &str) -> Done<()> {
        self.http
            .delete(format!("http://{}{path}", self.at))
            .send()
            .await?
            .error_for_status()?
            .bytes()
            .await?;
        Ok(())
    }

    /// Sends a `GET`, and returns the index and the pairs; none where there is no such key.
    pub(super) async fn pairs(&self, path: &str) -> Done<(u64, Vec<Value>)> {
        let answer = self.http.get(format!("http://{}{path}", self.at)).send().await?;
        let index = index(&answer)?;
        if answer.status() == StatusCode::NOT_FOUND {
            answer.bytes().await?;
            return Ok((index, Vec::new()));
        }
        Ok((index, serde_json::from_slice(&answer.error_for_status()?.bytes().await?)?))
    }

    /// Commits a transaction, and returns its results.
    pub(super) async fn txn(&self, operations: Value) -> Done<Vec<Value>> {
        let answer = self.put("/v1/txn", serde_json::to_vec(&operations)?).await?;
        let mut answer: Value = serde_json::from_slice(&answer)?;
        match answer["Results"].take() {
            Value::Array(results) => Ok(results),
            _ => Ok(Vec::new()),
        }
    }
}

fn index(answer: &Response) -> Done<u64> {
    Ok(answer.headers().get("x-consul-index").ok_or("an answer has an index")?.to_str()?.parse()?)
}

/// Returns the path of a name, with further words.
pub(super) fn path(name: &str, more: &str) -> String {
    format!("/v1/kv/{name}{more}")
}

/// Returns an operation of a transaction.
pub(super) fn operation(verb: &str, name: &str, more: Value) -> Value {
    let mut operation = json!({ "Verb": verb, "Key": name });
    for (field, value) in more.as_object().into_iter().flatten() {
        operation[field] = value.clone();
    }
    json!({ "KV": operation })
}

/// Returns the version that the last result tells.
pub(super) fn modified(results: &[Value]) -> Done<u64> {
    let last = results.last().ok_or("a transaction has results")?;
    Ok(last["KV"]["ModifyIndex"].as_u64().ok_or("a key has an index")?)
}

pub(super) fn encoded(value: &[u8]) -> String {
    BASE64_STANDARD.encode(value)
}

/// Returns the values of pairs.
pub(super) fn values(pairs: &[Value]) -> Done<Vec<Vec<u8>>> {
    pairs.iter().map(|pair| Ok(BASE64_STANDARD.decode(pair["Value"].as_str().unwrap_or_default())?)).collect()
}
