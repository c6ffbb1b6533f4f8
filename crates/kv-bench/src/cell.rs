//! The cells: the kind of call, how much it is about, and how many callers make it at once.

use std::fmt;

/// The kinds of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Op {
    Get,
    Put,
    PutTtl,
    AtomicPut,
    List,
    DeleteTree,
    /// A lock that nobody else wants: acquired and released.
    Lock,
    /// One lock that all callers want, each by a handle of its own. The latency is from the beginning
    /// of a release to the moment at which the next one holds the lock.
    LockContended,
    /// A watch of a key for each caller. The latency is from the beginning of a put to its event.
    Watch,
}

impl Op {
    /// All kinds, in the order of the tables.
    pub(crate) const ALL: [Self; 9] = [
        Self::Get,
        Self::Put,
        Self::PutTtl,
        Self::AtomicPut,
        Self::List,
        Self::DeleteTree,
        Self::Lock,
        Self::LockContended,
        Self::Watch,
    ];

    /// Returns the name, by which `--only` selects it too.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Put => "put",
            Self::PutTtl => "put_ttl",
            Self::AtomicPut => "atomic_put",
            Self::List => "list",
            Self::DeleteTree => "delete_tree",
            Self::Lock => "lock",
            Self::LockContended => "lock_contended",
            Self::Watch => "watch",
        }
    }

    /// Tells whether calls a second say something of the cell; where callers pause, only the latency
    /// does.
    pub(crate) fn has_rate(self) -> bool {
        self != Self::Watch
    }
}

/// One cell of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Cell {
    pub(crate) op: Op,
    /// The number of keys of what is listed or deleted; zero for other calls.
    pub(crate) size: usize,
    pub(crate) callers: usize,
    /// The number of keys that calls of single keys are about.
    pub(crate) keys: usize,
}

/// The number of keys of a store in which nothing else is said.
pub(crate) const KEYS: usize = 1_000;

impl Cell {
    /// Returns the cell of calls of single keys.
    pub(crate) fn new(op: Op, callers: usize) -> Self {
        Self { op, size: 0, callers, keys: KEYS }
    }

    /// Returns the cell of calls of directories with so many keys.
    pub(crate) fn of_size(op: Op, size: usize, callers: usize) -> Self {
        Self { size, ..Self::new(op, callers) }
    }

    /// Returns all cells of a run.
    pub(crate) fn all(is_full: bool) -> Vec<Self> {
        let mut all = Vec::new();
        for op in [Op::Get, Op::Put, Op::PutTtl, Op::AtomicPut] {
            all.extend([1, 64].map(|callers| Self::new(op, callers)));
        }
        all.extend([1, 64].map(|callers| Self::of_size(Op::List, 100, callers)));
        all.push(Self::of_size(Op::List, 10_000, 1));
        all.push(Self::of_size(Op::DeleteTree, 100, 1));
        if is_full {
            all.push(Self::of_size(Op::DeleteTree, 10_000, 1));
        }
        all.extend([1, 64].map(|callers| Self::new(Op::Lock, callers)));
        all.extend([2, 16].map(|callers| Self::new(Op::LockContended, callers)));
        all.extend([1, 64].map(|callers| Self::new(Op::Watch, callers)));
        all
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.op.name())?;
        if self.size > 0 {
            write!(f, " of {}", thousands(self.size as u64))?;
        }
        write!(f, ", {}", self.callers)
    }
}

/// Returns a number with commas between its thousands.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut shown = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_named_by_call_size_and_callers() {
        assert_eq!(Cell::new(Op::Get, 64).to_string(), "get, 64");
        assert_eq!(Cell::of_size(Op::List, 10_000, 1).to_string(), "list of 10,000, 1");
    }

    #[test]
    fn every_call_has_a_cell_in_each_form() {
        for is_full in [false, true] {
            let all = Cell::all(is_full);
            for op in Op::ALL {
                assert!(all.iter().any(|cell| cell.op == op), "{op:?}");
            }
        }
    }

    #[test]
    fn thousands_have_commas() {
        let shown = [0, 999, 1_000, 12_345, 1_234_567].map(thousands);
        assert_eq!(shown, ["0", "999", "1,000", "12,345", "1,234,567"]);
    }
}
