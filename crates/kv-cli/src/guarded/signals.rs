//! The signals that are passed on to a command.

use crate::exit::{Failure, Run};
use rustix::process::Signal;
use std::{future::poll_fn, task::Poll};
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

/// The signals that came. From its beginning on they do not end the program.
#[derive(Debug)]
pub(crate) struct Signals(Vec<(Signal, unix::Signal)>);

impl Signals {
    pub(crate) fn catch() -> Run<Self> {
        let caught = PASSED_ON
            .map(|signal| unix::signal(SignalKind::from_raw(signal.as_raw())).map(|caught| (signal, caught)));
        let caught = caught.into_iter().collect::<Result<_, _>>();
        caught.map(Self).map_err(|e| Failure::here(format!("signals cannot be caught: {e}")))
    }

    /// Waits for the next signal. Cancel safe.
    pub(crate) async fn next(&mut self) -> Signal {
        poll_fn(|cx| {
            for (signal, caught) in &mut self.0 {
                if caught.poll_recv(cx).is_ready() {
                    return Poll::Ready(*signal);
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Waits for a signal that is to end the program.
    pub(crate) async fn ending(&mut self) -> Signal {
        loop {
            let signal = self.next().await;
            if [Signal::TERM, Signal::INT, Signal::QUIT, Signal::HUP].contains(&signal) {
                return signal;
            }
        }
    }
}
