//! Puts many reads into one request, within the limits of a request, and returns the answer to
//! each.

use super::connection::Connection;
use crate::names::Names;
use zookeeper_client::{Error as ClientError, MultiReadResult, Stat};

/// The most bytes of a request that a server takes by default.
pub(crate) const REQUEST: usize = 0xf_ffff;
/// The most operations of one request.
pub(crate) const BATCH: usize = 100;

/// One read of a request.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    Data(String),
    Children(String),
}

impl Ask {
    /// Asks for a node and its mark, both at one moment: a write that replaces an empty value may
    /// leave a node without a mark.
    pub(crate) fn marked(path: String) -> [Self; 2] {
        let mark = Names::mark(&path);
        [Self::Data(path), Self::Data(mark)]
    }
}

/// The answer to one read.
#[derive(Debug)]
pub(crate) enum Got {
    Data(Vec<u8>, Stat),
    Children(Vec<String>),
    Nothing,
}

impl Got {
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Data(data, _) => data.len(),
            Self::Children(names) => names.iter().map(String::len).sum(),
            Self::Nothing => 0,
        }
    }
}

/// Parts reads into requests of [`BATCH`] at most. A node and its mark stay in one request.
pub(crate) fn parts(asks: &[Ask]) -> Vec<&[Ask]> {
    let (mut parts, mut rest) = (Vec::new(), asks);
    while rest.len() > BATCH {
        let is_mark = matches!(&rest[BATCH], Ask::Data(path) if path.ends_with(&Names::mark("")));
        let (part, behind) = rest.split_at(BATCH - usize::from(is_mark));
        parts.push(part);
        rest = behind;
    }
    parts.extend((!rest.is_empty()).then_some(rest));
    parts
}

/// Does all these reads at one moment, and returns the answer to each, in their order. One that is
/// refused fails them all.
pub(crate) async fn request(connection: &Connection, asks: &[Ask]) -> Result<Vec<Got>, ClientError> {
    request_each(connection, asks).await?.into_iter().collect()
}

/// Does all these reads at one moment, and returns the answer to each, or its refusal, in their
/// order.
pub(crate) async fn request_each(
    connection: &Connection,
    asks: &[Ask],
) -> Result<Vec<Result<Got, ClientError>>, ClientError> {
    let mut reader = connection.session.new_multi_reader();
    for ask in asks {
        match ask {
            Ask::Data(path) => reader.add_get_data(path)?,
            Ask::Children(path) => reader.add_get_children(path)?,
        }
    }
    Ok(reader.commit().await?.into_iter().map(answer).collect())
}

fn answer(found: MultiReadResult) -> Result<Got, ClientError> {
    match found {
        MultiReadResult::Data { data, stat } => Ok(Got::Data(data, stat)),
        MultiReadResult::Children { children } => Ok(Got::Children(children)),
        MultiReadResult::Error { err: ClientError::NoNode } => Ok(Got::Nothing),
        MultiReadResult::Error { err } => Err(err),
        _ => Err(ClientError::UnexpectedErrorCode(0)),
    }
}
