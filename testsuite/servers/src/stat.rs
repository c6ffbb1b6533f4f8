//! The state of a process, or of one of its threads, as Linux tells it.

use std::{fs, path::Path};

/// The fields of the file `stat` of a folder such as `/proc/17` or `/proc/17/task/18`, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The letter of the state: `R` for one that runs, `T` for one that is stopped, `Z` for one
    /// that is dead and not yet reaped.
    pub state: String,
    /// The pid of the process that started it, or of the one that it was left to.
    pub parent: String,
    /// The number of threads of the process.
    pub threads: String,
    /// The moment of its start, in clock ticks since the machine's: by this a process is told from
    /// another that was given its pid.
    pub start: String,
}

impl Stat {
    /// Reads what is said; `None` when the process or thread is gone, and where there is no such
    /// file.
    #[must_use]
    pub fn read(folder: &Path) -> Option<Self> {
        let stat = fs::read_to_string(folder.join("stat")).ok()?;
        // The name stands in parentheses in front, and may have some of its own.
        let fields: Vec<_> = stat.rsplit_once(") ")?.1.split(' ').collect();
        let field = |at: usize| fields.get(at).map(|field| (*field).to_owned());
        Some(Self { state: field(0)?, parent: field(1)?, threads: field(17)?, start: field(19)? })
    }

    /// Tells whether it is dead, or stopped by a signal: it does nothing on its own any more.
    #[must_use]
    pub fn is_still(&self) -> bool {
        ["T", "Z", "X"].contains(&&*self.state)
    }
}
