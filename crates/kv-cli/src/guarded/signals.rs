//! The signals that are passed on to a command.

use crate::exit::{Failure, Run};
use rustix::process::Signal;
use std::{fs, future::poll_fn, task::Poll};
use tokio::signal::unix::{self, SignalKind};

/// All that people and supervisors send. What the system sends for a fault, and what cannot be
/// caught, is not among them.
const PASSED_ON: [Signal; 9] = [
    Signal::TERM,
    Signal::INT,
    Signal::QUIT,
    Signal::HUP,
    Signal::USR1,
    Signal::USR2,
    Signal::ALARM,
    Signal::WINCH,
    Signal::CONT,
];

/// Those that ask a program to end.
const ENDING: [Signal; 4] = [Signal::TERM, Signal::INT, Signal::QUIT, Signal::HUP];

/// The signals that came. From its beginning on they do not end the program. One that was ignored
/// when the program began, as `nohup` has it, is left so, for the command too.
#[derive(Debug)]
pub(crate) struct Signals {
    caught: Vec<(Signal, unix::Signal)>,
    asked: Option<Signal>,
}

impl Signals {
    pub(crate) fn catch() -> Run<Self> {
        let ignored = ignored();
        let caught = PASSED_ON.into_iter().filter(|signal| ignored & bit(*signal) == 0);
        let caught = caught
            .map(|signal| unix::signal(SignalKind::from_raw(signal.as_raw())).map(|caught| (signal, caught)));
        let caught = caught.collect::<Result<_, _>>();
        caught
            .map(|caught| Self { caught, asked: None })
            .map_err(|e| Failure::here(format!("signals cannot be caught: {e}")))
    }

    /// Waits for the next signal. Cancel safe.
    pub(crate) async fn next(&mut self) -> Signal {
        let came = poll_fn(|cx| {
            for (signal, caught) in &mut self.caught {
                if caught.poll_recv(cx).is_ready() {
                    return Poll::Ready(*signal);
                }
            }
            Poll::Pending
        });
        let signal = came.await;
        if ENDING.contains(&signal) {
            self.asked = Some(signal);
        }
        signal
    }

    /// Returns the last signal that asked to end, which a command may have been passed.
    pub(crate) fn asked(&self) -> Option<Signal> {
        self.asked
    }

    /// Waits for a signal that is to end the program.
    pub(crate) async fn ending(&mut self) -> Signal {
        loop {
            let signal = self.next().await;
            if ENDING.contains(&signal) {
                return signal;
            }
        }
    }
}

/// Returns the signals that this process ignores, by their bits; none where the system does not tell.
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

fn bit(signal: Signal) -> u64 {
    1 << (signal.as_raw() - 1)
}
