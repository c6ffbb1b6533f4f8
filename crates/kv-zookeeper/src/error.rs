//! Reads the meaning of failed requests: whether one took effect, and what to do about it.

use kv_core::{
    Error, ErrorKind,
    backend::retry::{Effect, RequestError},
};
use zookeeper_client::{Error as ClientError, MultiWriteError};

/// A refusal of the server that speaks of a node, and decides what is done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    NoNode,
    NodeExists,
    BadVersion,
    NotEmpty,
    NoChildrenForEphemerals,
}

/// Such a refusal, and the operation of the request that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) said: Said,
    pub(crate) at: usize,
    /// Set if it is the answer to a repeat: it may speak of what the first attempt did.
    pub(crate) is_repeat: bool,
}

impl Answer {
    pub(crate) fn of(error: &ClientError, at: usize) -> Option<Self> {
        let said = match error {
            ClientError::NoNode => Said::NoNode,
            ClientError::NodeExists => Said::NodeExists,
            ClientError::BadVersion => Said::BadVersion,
            ClientError::NotEmpty => Said::NotEmpty,
            ClientError::NoChildrenForEphemerals => Said::NoChildrenForEphemerals,
            _ => return None,
        };
        Some(Self { said, at, is_repeat: false })
    }

    /// Returns the error of a refusal that no code handles.
    #[cold]
    pub(crate) fn unexpected(self) -> Error {
        Error::new(ErrorKind::Other, format!("an answer that is not expected: {self:?}"))
    }
}

/// The client's error, and the operation of the request that it is about.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) error: ClientError,
    pub(crate) at: usize,
}

impl From<ClientError> for Problem {
    fn from(error: ClientError) -> Self {
        Self { error, at: 0 }
    }
}

impl From<MultiWriteError> for Problem {
    fn from(error: MultiWriteError) -> Self {
        match error {
            MultiWriteError::OperationFailed { index, source } => Self { error: source, at: index },
            other => Self { error: other.into(), at: 0 },
        }
    }
}

/// Returns the effect and the error of a request, by the client's error.
pub(crate) fn failed(error: ClientError) -> RequestError {
    let (effect, kind, why) = match &error {
        ClientError::NoAuth => (
            Effect::Refused,
            ErrorKind::PermissionDenied,
            "the node's ACL refuses it; give the user whom it allows, as `user` and `password`",
        ),
        ClientError::AuthFailed => (
            Effect::Refused,
            ErrorKind::Unauthenticated,
            "the server does not accept who asks; see `user` and `password`",
        ),
        ClientError::InvalidAcl => (
            Effect::Refused,
            ErrorKind::InvalidArgument,
            "the server does not accept the setting `acl`; with `auth` in it, a user must be given",
        ),
        ClientError::BadArguments(_) | ClientError::MarshallingError => {
            (Effect::Refused, ErrorKind::InvalidArgument, "refused")
        }
        ClientError::Unimplemented => (
            Effect::Refused,
            ErrorKind::Unsupported,
            "the server is older than ZooKeeper 3.6, or lacks what this needs",
        ),
        ClientError::NoChildrenForEphemerals => (
            Effect::Refused,
            ErrorKind::Unsupported,
            "a key above it has a TTL or a lease, and on ZooKeeper such a key has no children",
        ),
        ClientError::QuotaExceeded => (
            Effect::Refused,
            ErrorKind::NoSpace,
            "a quota that was set on the server is reached, see `listquota` of zkCli; nothing was written",
        ),
        // The bytes of the answer were broken, not the value of a key.
        ClientError::UnmarshalError { .. } => {
            (Effect::Unknown, ErrorKind::Unavailable, "the answer makes no sense")
        }
        ClientError::NoNode
        | ClientError::NodeExists
        | ClientError::BadVersion
        | ClientError::NotEmpty
        | ClientError::NoWatcher
        | ClientError::ReconfigDisabled => {
            (Effect::Refused, ErrorKind::Other, "an answer that is not expected")
        }
        ClientError::Throttled | ClientError::NotReadOnly | ClientError::NoHosts => {
            (Effect::None, ErrorKind::Unavailable, "the server does not take it now")
        }
        // The client's error for a request to a task that had ended.
        ClientError::UnexpectedError(why) if why.starts_with("expect error state") => {
            return ended(Effect::None);
        }
        // The client's error for a request that was under way when its task was ended. It speaks
        // of the client alone.
        ClientError::UnexpectedError(_) => {
            return ended(Effect::Unknown);
        }
        _ => (Effect::Unknown, ErrorKind::Unavailable, "the connection was lost"),
    };
    RequestError::new(effect, Error::new(kind, why).with_cause(error))
}

/// Returns the error of a call on a store that was closed.
pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the store was closed")
}

fn ended(effect: Effect) -> RequestError {
    RequestError::new(effect, Error::new(ErrorKind::Unavailable, "the connection was ended"))
}
