//! Makes, renews, ends and finds sessions.

use super::json::{json, unwritable};
use crate::client::{Answer, Client, Mark, Purpose, Request};
use kv_core::{Error, ErrorKind, Result, backend::retry::Answered, driver::Deadline};
use serde::{Deserialize, Serialize};
use std::{
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

/// A session that is asked for: `PUT /v1/session/create`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct NewSession<'a> {
    name: &'a str,
    #[serde(rename = "TTL")]
    ttl: String,
    behavior: &'static str,
    lock_delay: &'static str,
    /// Names no health check: the session ends by its time, or with its node.
    node_checks: [&'static str; 0],
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<&'a str>,
}

#[derive(Deserialize)]
struct Session {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Name", default)]
    name: String,
}

/// Makes a session whose end deletes its keys, at once and without a lock delay: a program that
/// depends on having a key uses its fence. A repeat makes another session of this name; `sent`
/// counts the requests.
pub(crate) async fn create_session(
    client: &Client,
    deadline: Deadline,
    name: &str,
    ttl: Duration,
    node: Option<&str>,
    sent: Arc<AtomicUsize>,
) -> Result<Answered<Arc<str>>> {
    let ttl = format!("{}ms", ttl.as_millis());
    let new = NewSession { name, ttl, behavior: "delete", lock_delay: "0s", node_checks: [], node };
    let body = serde_json::to_vec(&new).map_err(unwritable)?;
    let created = |answer: &Answer| {
        let id = json::<Session>(answer).map(|session| session.id).filter(|id| is_id(id))?;
        Some(Ok(Ok(id.into())))
    };
    let request = Request::put("/v1/session/create", body).counted(sent);
    client.ask(Purpose::Repeatable, deadline, request, created).await
}

/// Tells whether a text is the id of a session, as the server makes them.
fn is_id(id: &str) -> bool {
    id.len() == 36 && id.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit())
}

/// Fills the body of a request that needs none: nobody hears when an empty body is sent, and so
/// whether a lost answer means anything.
const NO_BODY: &str = "{}";

/// Begins the life of a session anew; `false` when the session has ended.
///
/// A server that has become the leader answers before it has read its whole log, and knows no
/// session that is behind. So a session that it does not know is looked for by a read that waits
/// until the server has read its log, and then renewed again: the read leaves out in silence what
/// the token may not read, and a renewal is refused then.
///
/// # Errors
/// [`Unavailable`](ErrorKind::Unavailable) also while the leaders of several moments contradict
/// each other.
pub(crate) async fn renew_session(
    client: &Client,
    purpose: Purpose,
    deadline: Deadline,
    id: &str,
) -> Result<bool> {
    if renew_known(client, purpose, deadline, id).await? {
        return Ok(true);
    }
    let is_there = is_there(client, purpose, deadline, id).await?;
    match renew_known(client, purpose, deadline, id).await? {
        false if is_there => {
            let why = "the leader knows no session that was there a moment ago: it has not read its log yet";
            Err(Error::new(ErrorKind::Unavailable, why))
        }
        is_renewed => Ok(is_renewed),
    }
}

/// Begins the life of a session anew; `false` when the server does not know the session, now or
/// yet.
async fn renew_known(client: &Client, purpose: Purpose, deadline: Deadline, id: &str) -> Result<bool> {
    let request = Request::put(format!("/v1/session/renew/{id}"), NO_BODY);
    let is_it = is_it(id);
    let renewed = move |answer: &Answer| match answer.status {
        200 => json::<Vec<Session>>(answer)?.iter().any(&is_it).then_some(true),
        404 if answer.mark != Mark::None && answer.body.starts_with(b"Session id '") => Some(false),
        _ => None,
    };
    client.call(purpose, deadline, request, renewed).await
}

/// Tells whether the session is there, of those that the token may read, by a server that leads and
/// has read its log.
async fn is_there(client: &Client, purpose: Purpose, deadline: Deadline, id: &str) -> Result<bool> {
    // It has the turns of the renewal that it is a part of, whose requests say nothing of how
    // consistent they are.
    let request = Request::get(format!("/v1/session/info/{id}")).with("consistent", "");
    let found = |answer: &Answer| answer.index.and_then(|_| json::<Vec<Session>>(answer));
    let found = client.call(purpose, deadline, request, found).await?;
    Ok(found.iter().any(is_it(id)))
}

fn is_it(id: &str) -> impl Fn(&Session) -> bool + Send + Sync + use<> {
    let id = id.to_owned();
    move |session| session.id == id
}

/// Ends a session, and deletes its keys.
pub(crate) async fn destroy_session(client: &Client, deadline: Deadline, id: &str) -> Result<()> {
    let request = Request::put(format!("/v1/session/destroy/{id}"), NO_BODY);
    client.call(Purpose::Release, deadline, request, |answer| json::<bool>(answer)?.then_some(())).await
}

/// Finds the sessions of this name.
pub(crate) async fn sessions_named(client: &Client, deadline: Deadline, name: &str) -> Result<Vec<Arc<str>>> {
    let all = |answer: &Answer| answer.index.and_then(|_| json::<Vec<Session>>(answer));
    let all = client.call(Purpose::Read, deadline, Request::get("/v1/session/list"), all).await?;
    let named = all.into_iter().filter(|session| session.name == name && is_id(&session.id));
    Ok(named.map(|session| session.id.into()).collect())
}
