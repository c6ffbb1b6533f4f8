//! Reads nodes, many a request. A fresh read sees everything that was acknowledged before it.

use super::{
    Client,
    multi::{Ask, Got, parts, request},
    via::Via,
};
use crate::error::Problem;
use futures::{StreamExt, TryFutureExt, TryStreamExt, stream};
use kv_core::{Consistency, Error, ErrorKind, Result, backend::retry::RetrySafety, driver::ReadOptions};
use std::pin::pin;

/// The most requests of one read that are under way at once.
const REQUESTS: usize = 8;

/// Reads several nodes, a hundred a request. A fresh read sees everything that was acknowledged
/// before it: all requests go over one connection, so that one barrier before them is enough.
pub(crate) async fn read(client: &Client, read: &ReadOptions, asks: &[Ask]) -> Result<Vec<Got>> {
    read_some(client, read, asks, usize::MAX, None).await.map(|(_, got)| got)
}

/// Reads as [`read`] does, but stops after the request with which the answers exceed so many
/// bytes, and needs no barrier on the connection of the generation that has `seen` one. Also
/// returns the generation of the connection.
pub(crate) async fn read_some(
    client: &Client,
    read: &ReadOptions,
    asks: &[Ask],
    bytes: usize,
    seen: Option<u64>,
) -> Result<(u64, Vec<Got>)> {
    let answer = Via::Any(client)
        .call(RetrySafety::Read, read.deadline, |connection| async move {
            let has_seen = seen == Some(connection.generation);
            let consistency = if has_seen { Consistency::Stale } else { read.consistency };
            let barrier = connection.barrier_for(consistency).await;
            // The requests are sent at once, one behind the other. With a limit of bytes the first
            // one goes alone: its answer shows whether the others are wanted.
            let mut first: Vec<_> = parts(asks).into_iter().map(|asks| request(&connection, asks)).collect();
            let others = first.split_off(first.len().min(usize::from(bytes < usize::MAX)));
            let found = async {
                let others = stream::iter(others).buffered(REQUESTS);
                let mut requests = pin!(stream::iter(first).buffered(1).chain(others));
                let (mut all, mut size) = (Vec::with_capacity(asks.len()), 0);
                while size <= bytes
                    && let Some(found) = requests.try_next().await?
                {
                    size += found.iter().map(Got::size).sum::<usize>();
                    all.extend(found);
                }
                Ok::<_, Problem>((all, size <= bytes))
            };
            let ((), (found, is_all)) = futures::try_join!(barrier.map_err(Problem::from), found)?;
            Ok((connection.generation, found, is_all))
        })
        .await?;
    let Ok((generation, got, is_all)) = answer else { return Err(other_answers()) };
    if got.len() > asks.len() || (is_all && got.len() != asks.len()) {
        return Err(other_answers());
    }
    Ok((generation, got))
}

fn other_answers() -> Error {
    Error::new(ErrorKind::Other, "the server answered other reads than it was asked")
}
