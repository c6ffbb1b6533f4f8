//! The freshness of a read.

/// The freshness that a read must have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Consistency {
    /// Sees every write that was acknowledged before the read began.
    #[default]
    Linearizable,
    /// May be answered by any member, from the past; cheaper, and works without a leader where the server
    /// allows it.
    Stale,
}
