//! Holds the state of a connection, and waits until one stands.

use super::connection::Connection;
use kv_core::{Error, ErrorKind, Result, driver::Deadline};
use std::sync::Arc;
use tokio::sync::watch;

/// The state of a connection.
#[derive(Clone)]
pub(crate) enum Link {
    Up(Arc<Connection>),
    /// No connection stands. Holds why the last attempt failed.
    Down(Option<Why>),
    /// There will be no connection, though the server still has the session: its owner was told
    /// that it is lost.
    GivenUp,
    Closed,
}

#[derive(Clone)]
pub(crate) struct Why {
    /// The kind of a refusal that no other attempt mends.
    pub(crate) refused: Option<ErrorKind>,
    pub(crate) text: Arc<str>,
}

impl Link {
    pub(crate) fn is_over(&self) -> bool {
        matches!(self, Self::GivenUp | Self::Closed)
    }
}

/// Returns the connection as soon as one stands, or `None` when there will never be one.
pub(crate) async fn stands(
    link: &watch::Sender<Link>,
    deadline: Deadline,
    unreachable: impl FnOnce(Option<&str>) -> Error,
) -> Result<Option<Arc<Connection>>> {
    let mut changes = link.subscribe();
    let is_known = |link: &Link| !matches!(link, Link::Down(None | Some(Why { refused: None, .. })));
    let known = async { changes.wait_for(is_known).await.ok().map(|link| link.clone()) };
    let known = match deadline.limit(known).await {
        Some(known) => known.unwrap_or(Link::Closed),
        None => link.borrow().clone(),
    };
    match known {
        Link::Up(connection) => Ok(Some(connection)),
        Link::GivenUp | Link::Closed => Ok(None),
        Link::Down(Some(Why { refused: Some(kind), text })) => Err(Error::new(kind, text.to_string())),
        Link::Down(why) => Err(unreachable(why.as_ref().map(|why| &*why.text))),
    }
}
