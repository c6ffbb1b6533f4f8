//! The messages that the writing scripts publish.

use crate::version::version_of_text;
use kv_core::{Bytes, Key, Version};
use std::time::Duration;

/// A message.
#[derive(Clone, Debug)]
pub(crate) enum Notification {
    /// A key was put. Holds the value, unless it is to be read, and what is left of its life.
    Put {
        key: Key,
        version: Version,
        left: Option<Duration>,
        value: Option<Bytes>,
    },
    Deleted {
        key: Key,
        version: Version,
    },
    /// A key was found to be gone; its last write had this number at most.
    Gone {
        key: Key,
        number: u64,
    },
    /// A lock has another holder. Holds what is left of its session, its number, and what it
    /// brought.
    Held {
        left: Duration,
        number: u64,
        brought: Bytes,
    },
    /// A lock has no holder; all contenders up to this number are gone.
    Free {
        number: u64,
    },
    /// This contender is in front.
    Front(String),
}

impl Notification {
    /// Returns the number of bytes of its value.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Put { value: Some(value), .. } | Self::Held { brought: value, .. } => value.len(),
            _ => 0,
        }
    }

    /// Reads a message; `None` for `L`, by which `adopt` has watches read again, and for a message
    /// that no script of ours publishes.
    pub(crate) fn read(message: &Bytes) -> Option<Self> {
        let mut rest = message.clone();
        let mut word = || {
            let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
            let word = rest.split_to(end);
            if !rest.is_empty() {
                let _ = rest.split_to(1);
            }
            String::from_utf8(word.into()).ok()
        };
        let kind = word()?;
        let name = word()?;
        let millis = |text: String| text.parse().ok().map(Duration::from_millis);
        Some(match kind.as_str() {
            "P" | "R" => {
                let key = Key::from_stored(&name)?;
                let version = version_of_text(&format!("{} {}", word()?, word()?)).ok()?;
                let left = word().and_then(millis);
                Self::Put { key, version, left, value: (kind == "P").then_some(rest) }
            }
            "D" => {
                let version = version_of_text(&format!("{} {}", word()?, word()?)).ok()?;
                Self::Deleted { key: Key::from_stored(&name)?, version }
            }
            "G" => Self::Gone { key: Key::from_stored(&name)?, number: word()?.parse().ok()? },
            "H" => {
                let number = word()?.parse().ok()?;
                let left = word().and_then(millis).unwrap_or_default();
                Self::Held { left, number, brought: rest }
            }
            "F" => Self::Free { number: word()?.parse().ok()? },
            _ => return None,
        })
    }
}
