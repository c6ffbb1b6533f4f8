//! The processes that a command has begun. A shell with job control has each of its jobs be a group
//! of its own: a signal to the command's group alone does not reach them.

use rustix::{
    io::Errno,
    process::{Pid, Signal, kill_process_group, test_kill_process_group},
};

/// A command's process group, and on Linux what else it has begun, but for what has a session of its
/// own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tree {
    group: Pid,
    reaper: Pid,
}

impl Tree {
    /// Returns the tree of the command with this group, which is a child of this reaper. The reaper
    /// gets what the command leaves without a parent.
    pub(super) fn of(group: Pid, reaper: Pid) -> Self {
        Self { group, reaper }
    }

    /// Sends a signal to all of it. What is gone needs none.
    pub(super) fn signal(self, signal: Signal) {
        let others = others::of(self);
        let _ = kill_process_group(self.group, signal);
        others.iter().for_each(|other| other.send(signal));
    }

    /// Asks all of it to end, those too that were stopped.
    pub(super) fn ask_to_end(self) {
        self.signal(Signal::TERM);
        self.signal(Signal::CONT);
    }

    /// Tells whether nothing of it is left.
    pub(super) fn is_gone(self) -> bool {
        // The list misses a process whose parent ends while it is read; the next one has it.
        let none = || others::of(self).is_empty();
        test_kill_process_group(self.group) == Err(Errno::SRCH) && none() && none()
    }
}

/// Tells whether a process was stopped, or has ended; it may be so where the system does not say.
pub(super) fn stands_still(process: Pid) -> bool {
    others::stands_still(process)
}

/// The processes of a tree that are not in its group, by Linux' list of all processes.
#[cfg(target_os = "linux")]
mod others {
    use super::Tree;
    use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
    use std::{collections::HashMap, fs};

    /// A process, of which the number alone may be that of a later one.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct Process {
        id: Pid,
        began: u64,
    }

    /// The system's account of a process.
    #[derive(Debug, PartialEq, Eq)]
    struct Status {
        has_ended: bool,
        is_stopped: bool,
        parent: i32,
        group: i32,
        session: i32,
        began: u64,
    }

    impl Status {
        fn of(id: i32) -> Option<Self> {
            Self::parse(&fs::read_to_string(format!("/proc/{id}/stat")).ok()?)
        }

        /// Reads a line of `/proc/N/stat`, by proc(5). The name may have parentheses and spaces.
        fn parse(line: &str) -> Option<Self> {
            let words: Vec<_> = line.rsplit_once(')')?.1.split_ascii_whitespace().collect();
            let number = |at: usize| words.get(at)?.parse().ok();
            let state = *words.first()?;
            Some(Self {
                has_ended: matches!(state, "Z" | "X"),
                is_stopped: matches!(state, "T" | "t"),
                parent: number(1)?,
                group: number(2)?,
                session: number(3)?,
                began: words.get(19)?.parse().ok()?,
            })
        }
    }

    /// Returns those of a tree that live and are not in its group.
    pub(super) fn of(tree: Tree) -> Vec<Process> {
        let (reaper, group) = (tree.reaper.as_raw_pid(), tree.group.as_raw_pid());
        let ids = fs::read_dir("/proc").into_iter().flatten().flatten();
        let ids = ids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let all: HashMap<_, _> = ids.filter_map(|id| Some((id, Status::of(id)?))).collect();
        let Some(session) = all.get(&reaper).map(|status| status.session) else { return Vec::new() };
        let mut children: HashMap<_, Vec<_>> = HashMap::new();
        for (id, status) in &all {
            children.entry(status.parent).or_default().push((*id, status));
        }
        let (mut found, mut next) = (Vec::new(), vec![reaper]);
        while let Some(parent) = next.pop() {
            // Each is taken once, whatever the list says of parents.
            for (id, status) in children.remove(&parent).unwrap_or_default() {
                next.push(id);
                let is_other = !status.has_ended && status.session == session && status.group != group;
                let id = Pid::from_raw(id).filter(|_| is_other);
                found.extend(id.map(|id| Process { id, began: status.began }));
            }
        }
        found
    }

    pub(super) fn stands_still(process: Pid) -> bool {
        Status::of(process.as_raw_pid()).is_none_or(|status| status.has_ended || status.is_stopped)
    }

    impl Process {
        /// Sends it a signal, and none to a later process of its number.
        pub(super) fn send(self, signal: Signal) {
            let handle = pidfd_open(self.id, PidfdFlags::empty());
            if Status::of(self.id.as_raw_pid()).is_none_or(|status| status.began != self.began) {
                return;
            }
            // It may have ended meanwhile.
            let _ = match handle {
                Ok(handle) => pidfd_send_signal(handle, signal),
                // Linux has handles since 5.3.
                Err(_) => kill_process(self.id, signal),
            };
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn what_the_system_says_is_read_whatever_the_name() {
            let line = "17 (a) (b) S 3 4 5 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 1234 0 0";
            let (has_ended, is_stopped, parent, group, session, began) = (false, false, 3, 4, 5, 1234);
            let status = Status { has_ended, is_stopped, parent, group, session, began };
            assert_eq!(Status::parse(line), Some(status));
            for (state, expected) in [("R", (false, false)), ("T", (false, true)), ("Z", (true, false))] {
                let status = Status::parse(&line.replace(") S ", &format!(") {state} "))).unwrap();
                assert_eq!((status.has_ended, status.is_stopped), expected, "{state}");
            }
            assert!(!stands_still(rustix::process::getpid()));
            assert!(
                Status::of(rustix::process::getpid().as_raw_pid()).is_some_and(|status| !status.has_ended)
            );
            assert_eq!(Status::parse("17 (a"), None);
        }
    }
}

/// Elsewhere the group is all that is known of a command.
#[cfg(not(target_os = "linux"))]
mod others {
    use super::Tree;
    use rustix::process::{Pid, Signal};

    pub(super) struct Process;

    pub(super) fn stands_still(_: Pid) -> bool {
        true
    }

    pub(super) fn of(_: Tree) -> Vec<Process> {
        Vec::new()
    }

    impl Process {
        pub(super) fn send(&self, _: Signal) {}
    }
}
