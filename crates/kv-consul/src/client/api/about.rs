//! Asks agents what they tell of themselves and of the datacenter.

use super::json::json;
use crate::client::{Answer, Client, Purpose, Request};
use kv_core::{Error, ErrorKind, Result, driver::Deadline};
use serde::{Deserialize, Deserializer};
use std::time::Duration;

/// The settings that an agent shows to those who may read them: `GET /v1/agent/self`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct About {
    // An agent always tells this: JSON without it is somebody else's.
    pub(crate) config: Agent,
    // A setting that is not as it was in the known versions counts as not told.
    #[serde(default, deserialize_with = "as_known")]
    debug_config: Debug,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Agent {
    pub(crate) version: String,
    #[serde(default)]
    pub(crate) datacenter: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Debug {
    #[serde(rename = "SessionTTLMin")]
    session_ttl_min: String,
    #[serde(rename = "TxnMaxReqLen")]
    txn_max_req_len: usize,
    #[serde(rename = "KVMaxValueSize")]
    kv_max_value_size: usize,
}

fn as_known<'de, D: Deserializer<'de>>(field: D) -> Result<Debug, D::Error> {
    let all = serde_json::Value::deserialize(field)?;
    Ok(serde_json::from_value(all).unwrap_or_default())
}

impl About {
    /// Returns the least TTL of a session, where it was set.
    pub(crate) fn least_session(&self) -> Option<Duration> {
        duration(&self.debug_config.session_ttl_min).filter(|least| !least.is_zero())
    }

    /// Returns how many bytes a transaction's body may have, where the agent tells it.
    pub(crate) fn largest_txn(&self) -> Option<usize> {
        Some(self.debug_config.txn_max_req_len).filter(|&most| most > 0)
    }

    /// Returns how many bytes a value may have, where the agent tells it.
    pub(crate) fn largest_value(&self) -> Option<usize> {
        Some(self.debug_config.kv_max_value_size).filter(|&most| most > 0)
    }
}

/// Reads a duration as Go prints it: `1m30s`, `500ms`.
fn duration(text: &str) -> Option<Duration> {
    let (mut rest, mut whole) = (text, 0.0);
    while !rest.is_empty() {
        let unit = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, behind) = rest.split_at(unit);
        let end = behind.find(|c: char| c.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, next) = behind.split_at(end);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "µs" | "us" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        whole += number.parse::<f64>().ok()? * seconds;
        rest = next;
    }
    Duration::try_from_secs_f64(whole).ok()
}

/// Asks the agent for its settings.
pub(crate) async fn about(client: &Client, deadline: Deadline) -> Result<About> {
    client
        .call(Purpose::Stale, deadline, Request::get("/v1/agent/self"), |answer: &Answer| {
            json::<About>(answer)
        })
        .await
}

/// Asks for the leader's address, which is empty where none is known: `GET /v1/status/leader`. An
/// agent tells it to everybody.
pub(crate) async fn leader(client: &Client, deadline: Deadline) -> Result<String> {
    let leader = Request::get("/v1/status/leader");
    client.call(Purpose::Stale, deadline, leader, |answer: &Answer| json::<String>(answer)).await
}

/// Asks for the leader's address, and those of all servers: `GET /v1/status/peers`.
pub(crate) async fn status(client: &Client, deadline: Deadline) -> Result<(String, Vec<String>)> {
    let leader = leader(client, deadline).await?;
    let peers = Request::get("/v1/status/peers");
    Ok((
        leader,
        client.call(Purpose::Stale, deadline, peers, |answer: &Answer| json::<Vec<String>>(answer)).await?,
    ))
}

/// Asks for a node of the store's datacenter, for sessions to live on:
/// `GET /v1/catalog/service/consul`.
pub(crate) async fn server_node(client: &Client, deadline: Deadline) -> Result<String> {
    #[derive(Deserialize)]
    struct Node {
        #[serde(rename = "Node")]
        name: String,
    }
    let nodes = |answer: &Answer| answer.index.and_then(|_| json::<Vec<Node>>(answer));
    let nodes =
        client.call(Purpose::Read, deadline, Request::get("/v1/catalog/service/consul"), nodes).await?;
    let first = nodes.into_iter().next().ok_or_else(|| {
        Error::new(ErrorKind::PermissionDenied, "the token may not read the servers of the other datacenter")
    });
    Ok(first?.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_of_go() {
        for (text, millis) in
            [("500ms", 500), ("1m30s", 90_000), ("24h0m0s", 86_400_000), ("1.5s", 1500), ("0s", 0)]
        {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(duration("1x"), None);
    }
}
