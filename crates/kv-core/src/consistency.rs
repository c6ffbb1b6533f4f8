//! The freshness of a read.

/// The freshness that a read must have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Consistency {
    /// The read sees every write that was acknowledged before it began.
    #[default]
    Linearizable,
    /// Any member may answer the read, from the past. This is cheaper, and works without a leader
    /// where the server allows it.
    Stale,
}
