//! Commands that do not outlive the program, nor what they run under: a lock, a permit, a lease.

mod child;
mod held;
mod reaper;
mod signals;
mod starter;
mod terminal;
mod tree;
mod wire;

pub(crate) use child::{Child, Environment};
pub(crate) use held::Held;
pub(crate) use signals::Signals;

use crate::{
    exit::{Exit, Failure, Run},
    out::note,
    text,
};
use kv_core::{Error, ErrorKind, TtlRange};
use std::{env, ffi::OsString, process::ExitCode, time::Duration};
use tokio::time::{MissedTickBehavior, interval, sleep};
use wire::{Report, Until, now};

/// The share of the margin behind a loss that a command may use to end by itself; the rest is for the
/// system, which is to end it.
const SHARE: f64 = 0.8;
/// The time that a reaper has to do what is due, before this program looks whether it stands still.
const HEARD: Duration = Duration::from_millis(100);
/// The longest nap: timers stand still while the machine is suspended, and the clock does not.
const NAP: Duration = Duration::from_millis(200);
/// The time that a reaper has to tell of the end of a command that was killed.
const TOLD: Duration = Duration::from_secs(2);

/// Tells whether the program was called as one of the processes that belong to a command, and if so
/// runs as that.
pub(crate) fn called() -> Option<ExitCode> {
    let mut arguments = env::args_os().skip(1);
    let first = arguments.next()?;
    let done = match first.to_str()? {
        reaper::REAPER => reaper::reap(arguments),
        starter::STARTER => starter::start(arguments),
        terminal::WAY_BACK => terminal::give_back(arguments),
        _ => return None,
    };
    // Whoever has called it sees the end of the stream, or needs to know nothing.
    Some(if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Returns the time that a command has between the loss of what it runs under and its kill, where
/// that has this TTL: the one that is wished for, or the most that there is.
///
/// It counts as lost a tenth of the TTL before the server may give it away, and the command must be
/// gone by then.
pub(crate) fn grace(range: &TtlRange, ttl: Duration, wish: Option<Duration>) -> Run<Duration> {
    let granted = range.grant(ttl)?;
    if granted != ttl {
        note(&format!("the store grants a TTL of {}", text::of_duration(granted)));
    }
    let most = (granted / 10).mul_f64(SHARE);
    let Some(wish) = wish else { return Ok(most) };
    if wish <= most {
        return Ok(wish);
    }
    let needed = Duration::from_secs((wish * 10).div_f64(SHARE).as_secs() + 1);
    let (wish, needed, granted) =
        (text::of_duration(wish), text::of_duration(needed), text::of_duration(granted));
    Err(Failure::usage(format!(
        "a grace of {wish} needs a TTL of {needed}, and it is {granted}; give --ttl {needed}"
    )))
}

/// The end of a command.
#[derive(Debug)]
pub(crate) enum End {
    /// It ended by itself, or by a signal that was passed on.
    Itself(Exit),
    /// The lock, permit or lease was lost for this reason, and the command was ended.
    Lost(Error),
}

impl End {
    /// Returns the exit code of a command that ran once.
    pub(crate) fn exit(self) -> Run {
        match self {
            Self::Itself(exit) => Ok(exit),
            Self::Lost(why) => Err(Failure::Found(Exit::LOST, format!("the command was ended: {why}"))),
        }
    }
}

/// Returns the end of a command behind the release of what it ran under, such as "the lock". What was
/// no longer held then was lost while the command ran, although nobody knew it. Where the release
/// fails, `fate` ("the lock is free") comes by the TTL, and the command has done its work.
pub(crate) fn released(
    what: &str,
    fate: &str,
    ttl: Duration,
    was_held: Result<bool, Error>,
    ended: Run,
) -> Run {
    match was_held {
        Ok(false) if ended.is_ok() => {
            let why = format!("{what} was lost before the command had ended, as its release tells");
            return Err(Failure::Found(Exit::LOST, why));
        }
        Ok(_) => {}
        Err(e) => note(&format!("{fate} after {}: {e}", text::of_duration(ttl))),
    }
    ended
}

/// Runs a command under a lock, a permit or a lease, and waits for its end. When that is lost, the
/// command is asked to end, and killed before the store may give it to another. The reaper does so,
/// and this program where the reaper does not, as one that was stopped.
///
/// Nothing of its process group is left when this returns, nor, on Linux, of what it has begun in
/// other groups, as shells with job control do. What has a session of its own is on its own.
pub(crate) async fn run(
    held: &impl Held,
    grace: Duration,
    command: &[OsString],
    signals: &mut Signals,
) -> Run<End> {
    let mut until = moments(held, grace);
    let environment = held.environment();
    let mut child = Child::start_until(command, environment, until)?;
    let mut lost = held.lost();
    let mut loss = None;
    let mut steps = Steps::default();
    let mut look = interval((held.left() / 30).clamp(Duration::from_millis(20), Duration::from_millis(500)));
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            ended = child.ended() => match ended {
                Ok(Report::Ended { status, asked: false }) if loss.is_none() => {
                    return Ok(End::Itself(Exit::of_child(status)));
                }
                Err(failure) if loss.is_none() || !child.is_ready() => return Err(failure),
                _ => {
                    return Ok(End::Lost(match loss {
                        Some(why) => why,
                        None if held.is_held() => stood_still(),
                        None => lost.await,
                    }));
                }
            },
            why = &mut lost, if loss.is_none() => {
                let kill = until.kill.min(now() + grace);
                child.put_off(Until { term: Duration::ZERO, kill });
                steps = Steps::by(kill);
                loss = Some(why);
            }
            step = steps.next(), if loss.is_some() => match step {
                // One that is late asks by itself, and a second request is a hurry for many programs.
                Step::Look if !child.reaper_stands_still() => {}
                Step::Look | Step::Ask => child.ask_in_place_of_the_reaper(),
                Step::Kill => child.kill(),
                Step::GiveUp => child.kill_the_reaper(),
            },
            signal = signals.next() => child.pass_on(signal),
            _ = look.tick(), if loss.is_none() => {
                let new = moments(held, grace);
                // What was not renewed differs by the time that the two looks at the clock took.
                if new.term > until.term + Duration::from_millis(1) {
                    child.put_off(new);
                    until = new;
                }
            }
        }
    }
}

/// A step that this program takes behind a loss, where its reaper has not.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Asks the command to end if the reaper stands still.
    Look,
    /// Asks the command to end.
    Ask,
    Kill,
    /// The reaper is stopped, or hangs: it tells nothing of the command's end.
    GiveUp,
}

/// The steps that are left, the last one first, each with its moment.
#[derive(Debug, Default)]
struct Steps(Vec<(Duration, Step)>);

impl Steps {
    /// Returns the steps for a command that is killed at this moment. A reaper may be late by half of
    /// the time until then.
    fn by(kill: Duration) -> Self {
        let now = now();
        let left = kill.saturating_sub(now);
        let (look, ask) = (now + HEARD.min(left / 4), now + left / 2);
        Self(vec![(kill + TOLD, Step::GiveUp), (kill, Step::Kill), (ask, Step::Ask), (look, Step::Look)])
    }

    /// Waits until the next step is due; for ever, if none is left. Cancel safe.
    async fn next(&mut self) -> Step {
        let Some((moment, step)) = self.0.last().copied() else { return std::future::pending().await };
        loop {
            let left = moment.saturating_sub(now());
            if left.is_zero() {
                self.0.pop();
                return step;
            }
            sleep(left.min(NAP)).await;
        }
    }
}

/// Returns the moments at which a command has to end unless what it runs under is renewed.
fn moments(held: &impl Held, grace: Duration) -> Until {
    // The clock is read first: the moments may be too early, and never too late.
    let before = now();
    let term = before + held.left();
    Until { term, kill: term + grace }
}

/// Returns why a command was ended although nothing is lost: a renewal came that nobody told the
/// reaper of in time.
fn stood_still() -> Error {
    let why = "this program stood still, so that nobody knew whether it is held";
    Error::new(ErrorKind::LockLost, why)
}
