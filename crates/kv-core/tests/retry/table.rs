//! Every combination of safety, effects, servers, mended causes and ends of the time, against a
//! statement of the rules.

use kv_core::backend::retry::RetrySafety::{self, Read, Repeatable, Write};
use kv_core::backend::retry::{Answered, Attempt, Effect, RequestError, Servers};
use kv_core::{Error, ErrorKind, Result, driver::Deadline};
use std::future::pending;
use std::time::Duration;
use tokio::time::{Instant, sleep};

const DEADLINE: Duration = Duration::from_secs(60);

/// The failure of an attempt: its effect, the kind of its error, and how much the error tells.
type Failure = (Effect, ErrorKind, u8);
const FAILURES: [Failure; 8] = [
    (Effect::None, ErrorKind::Timeout, 0),
    (Effect::None, ErrorKind::Unavailable, 1),
    (Effect::None, ErrorKind::Unauthenticated, 2),
    (Effect::Refused, ErrorKind::PermissionDenied, 2),
    (Effect::RefusedHere, ErrorKind::Unavailable, 2),
    (Effect::RefusedHere, ErrorKind::Unauthenticated, 2),
    (Effect::Unknown, ErrorKind::Timeout, 0),
    (Effect::Unknown, ErrorKind::Unavailable, 1),
];

#[derive(Clone, Copy, Debug)]
struct Step {
    failure: Failure,
    is_mended: bool,
}

/// The end of a call whose attempts have all failed as its steps say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The next attempt is answered.
    Answer,
    /// The next attempt hangs beyond the deadline.
    Hang,
    /// The last step took all the time; without any step, there never was any.
    Late,
}

#[derive(Clone, Debug)]
struct Case {
    safety: RetrySafety,
    servers: usize,
    steps: Vec<Step>,
    end: End,
}

/// The behaviour of a call as it is seen from outside.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    /// Each attempt: the server, and whether it was called a repeat.
    attempts: Vec<(usize, bool)>,
    /// `Ok` with whether the answer is one to a repeat; or the error's kind, and the attempt that
    /// the error is about.
    result: Result<bool, (ErrorKind, Option<usize>)>,
    /// The server that the next call would ask first.
    preferred: usize,
}

/// The rules, as a statement about the whole sequence.
impl Case {
    /// Tells whether a mended cause counts as such: every third one in a row does not.
    fn repeats_at_once(&self, i: usize) -> bool {
        let in_a_row = self.steps[..=i].iter().rev().take_while(|step| step.is_mended).count();
        !in_a_row.is_multiple_of(3)
    }

    /// Returns the failures that count as a server's own, up to the attempt `i`.
    fn turns(&self, i: usize) -> Vec<Failure> {
        (0..i.min(self.steps.len()))
            .filter(|&i| !self.repeats_at_once(i))
            .map(|i| self.steps[i].failure)
            .collect()
    }

    fn server(&self, i: usize) -> usize {
        self.turns(i).len() % self.servers
    }

    fn is_lost_write(&self, i: usize) -> bool {
        self.safety == Write && self.steps[i].failure.0 == Effect::Unknown
    }

    fn is_refused(&self, i: usize) -> bool {
        let turns = self.turns(i + 1);
        let all = turns.len().checked_sub(self.servers).map(|from| &turns[from..]);
        let by_all = all.is_some_and(|all| {
            all.iter().all(|f| f.0 == Effect::RefusedHere && f.1 == ErrorKind::Unauthenticated)
        });
        !self.repeats_at_once(i) && (self.steps[i].failure.0 == Effect::Refused || by_all)
    }

    fn expected(&self) -> Seen {
        let len = self.steps.len();
        let ended = (0..len).find(|&i| self.is_lost_write(i) || self.is_refused(i));
        let made = match (ended, self.end) {
            (Some(i), _) => i + 1,
            (None, End::Late) => len,
            (None, _) => len + 1,
        };
        let may_be_done_before = |i: usize| {
            self.safety != Read && self.steps[..i.min(len)].iter().any(|s| s.failure.0 == Effect::Unknown)
        };
        let attempts = (0..made).map(|i| (self.server(i), may_be_done_before(i))).collect();
        let is_answered = made > len && self.end == End::Answer;
        let hangs = made > len && self.end == End::Hang;
        let result = if is_answered {
            Ok(may_be_done_before(len))
        } else {
            let failures = self.steps[..made.min(len)].iter().map(|step| step.failure);
            let all = failures.chain(hangs.then_some((Effect::Unknown, ErrorKind::Timeout, 0)));
            // The latest of those that tell the most.
            let told = all.enumerate().max_by_key(|(i, failure)| (failure.2, *i));
            let maybe_done = may_be_done_before(made) || hangs && self.safety != Read;
            let kind = told.map_or(ErrorKind::Timeout, |(_, failure)| failure.1);
            let kind = if maybe_done { ErrorKind::OutcomeUnknown } else { kind };
            Err((kind, told.map(|(i, _)| i)))
        };
        let preferred = match ended {
            Some(i) if self.is_lost_write(i) => (self.server(i) + 1) % self.servers,
            Some(i) => self.server(i),
            None if hangs => (self.server(len) + 1) % self.servers,
            None => self.server(len),
        };
        Seen { attempts, result, preferred }
    }

    /// Returns the longest time that the pauses may take together: between rounds, not between
    /// servers, nor behind a mended cause.
    fn longest_pauses(&self, attempts: usize) -> Duration {
        let turn_ends =
            |i: &usize| !self.repeats_at_once(*i) && self.turns(*i + 1).len().is_multiple_of(self.servers);
        let pauses = (0..attempts.saturating_sub(1)).filter(turn_ends).count();
        // The timer counts milliseconds, and rounds up.
        (0..pauses).map(|n| Duration::from_millis((40 << n) + 1)).sum()
    }

    async fn seen(&self) -> (Seen, Duration) {
        let servers = Servers::new(0..self.servers).unwrap();
        let mut attempts = Vec::new();
        let deadline = Deadline::after(if self.steps.is_empty() && self.end == End::Late {
            Duration::ZERO
        } else {
            DEADLINE
        });
        let began = Instant::now();
        let run = servers.run(self.safety, deadline, |attempt: Attempt<'_, usize>| {
            let i = attempts.len();
            attempts.push((*attempt.server, attempt.is_repeat));
            self.attempt(i)
        });
        let result = match run.await {
            Ok(Answered { answer, is_repeat }) => {
                assert_eq!(answer, self.steps.len());
                Ok(is_repeat)
            }
            Err(error) => Err((error.kind(), told(&error, self.steps.len()))),
        };
        (Seen { attempts, result, preferred: *servers.preferred() }, began.elapsed())
    }

    /// Makes the attempt of this number.
    async fn attempt(&self, i: usize) -> Result<usize, RequestError> {
        let Some(step) = self.steps.get(i) else {
            assert_eq!(i, self.steps.len(), "an attempt behind the last one");
            assert_ne!(self.end, End::Late, "an attempt without time");
            return if self.end == End::Answer { Ok(i) } else { pending().await };
        };
        if self.end == End::Late && i + 1 == self.steps.len() {
            sleep(DEADLINE.mul_f64(0.95)).await;
        }
        let (effect, kind, _) = step.failure;
        Err(RequestError::new(effect, Error::new(kind, format!("attempt {i}"))).mended(step.is_mended))
    }
}

/// Returns the attempt that the error is about; the attempt behind the steps had no answer.
fn told(error: &Error, steps: usize) -> Option<usize> {
    let text = error.to_string();
    let of_step = (0..steps).find(|i| text.ends_with(&format!("attempt {i}")));
    of_step.or_else(|| text.ends_with("no answer within 60s").then_some(steps))
}

/// Returns all sequences of so many steps.
fn sequences(len: usize) -> Vec<Vec<Step>> {
    let mut all = vec![Vec::new()];
    for _ in 0..len {
        let longer = all.iter().flat_map(|steps: &Vec<Step>| {
            let every = FAILURES
                .iter()
                .flat_map(|&failure| [false, true].map(|is_mended| Step { failure, is_mended }));
            every.map(|step| steps.iter().copied().chain([step]).collect()).collect::<Vec<_>>()
        });
        all = longer.collect();
    }
    all
}

#[tokio::test(start_paused = true)]
async fn every_combination_goes_by_the_rules() {
    let mut cases = 0;
    for steps in (0..=3).flat_map(sequences) {
        for safety in [Read, Repeatable, Write] {
            for servers in 1..=3 {
                for end in [End::Answer, End::Hang, End::Late] {
                    let case = Case { safety, servers, steps: steps.clone(), end };
                    let (seen, took) = case.seen().await;
                    assert_eq!(seen, case.expected(), "{case:?}");
                    assert!(took <= DEADLINE, "{took:?}: {case:?}");
                    let is_over = seen.attempts.len() <= steps.len() || end == End::Answer;
                    if end != End::Late && is_over {
                        let longest = case.longest_pauses(seen.attempts.len());
                        assert!(took <= longest, "{took:?} of {longest:?}: {case:?}");
                    }
                    cases += 1;
                }
            }
        }
    }
    assert_eq!(cases, (1 + 16 + 16 * 16 + 16 * 16 * 16) * 3 * 3 * 3);
}
