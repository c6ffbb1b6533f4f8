//! How fresh a read must be.

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Consistency {
    /// Sees every write that was acknowledged before the read began.
    #[default]
    Linearizable,
    /// May be answered by any member, from the past; cheaper, and works without a leader where the server
    /// allows it.
    Stale,
}
