//! Tells contenders of one lock apart by the names of their nodes, and which comes before which.

/// The length of the identifier that begins a contender's name.
const ID: usize = 32;
/// The greatest number that the server counts to. Then it gives that one again and again, and
/// others, from below zero, to contenders that come at once.
const GREATEST: u32 = i32::MAX as u32;

/// A contender as others see it: its number, which gives the order, and the name of its node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Before {
    number: u32,
    pub(crate) name: String,
}

impl Before {
    /// Returns the contender of the node of this name.
    pub(crate) fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        Self { number: sequence(&name).unwrap_or(u32::MAX), name }
    }

    /// Returns whether its number tells who comes before whom.
    pub(crate) fn is_in_order(&self) -> bool {
        self.number < GREATEST
    }
}

/// Returns the number of a contender; `None` for a name of no contender, such as another tool's
/// node. Numbers below zero come behind the greatest.
pub(super) fn sequence(name: &str) -> Option<u32> {
    let (id, sequence) = name.split_at_checked(ID)?;
    let is_id = id.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    let sequence = sequence
        .strip_prefix('-')
        .filter(|digits| is_id && digits.len() >= 10 && !digits.starts_with('+'))?;
    sequence.parse::<i32>().ok().map(|sequence| sequence as u32)
}
