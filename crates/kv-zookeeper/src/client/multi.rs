//! Puts many operations into one request: how many of them and how many bytes it holds, and the answer to each read.

use super::connection::Connection;
use crate::names::Names;
use zookeeper_client::{Error as ClientError, MultiReadResult, Stat};

/// The bytes of a request that a server takes by its defaults.
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
    /// Asks for a node and its mark. Both at one moment: what replaces an empty value may have a node without a mark.
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

/// Parts what is asked for into requests of [`BATCH`] at most; a node is read in one with its mark.
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

/// Reads all of these at one moment, and returns the answer to each, in their order.
pub(crate) async fn request(connection: &Connection, asks: &[Ask]) -> Result<Vec<Got>, ClientError> {
    let mut reader = connection.session.new_multi_reader();
    for ask in asks {
        match ask {
            Ask::Data(path) => reader.add_get_data(path)?,
            Ask::Children(path) => reader.add_get_children(path)?,
        }
    }
    answers(reader.commit().await?)
}

fn answers(found: Vec<MultiReadResult>) -> Result<Vec<Got>, ClientError> {
    let got = found.into_iter().map(|found| match found {
        MultiReadResult::Data { data, stat } => Ok(Got::Data(data, stat)),
        MultiReadResult::Children { children } => Ok(Got::Children(children)),
        MultiReadResult::Error { err: ClientError::NoNode } => Ok(Got::Nothing),
        MultiReadResult::Error { err } => Err(err),
        _ => Err(ClientError::UnexpectedErrorCode(0)),
    });
    got.collect()
}
