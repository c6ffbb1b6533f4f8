//! `run`: a command whose environment is a directory of a store.

use crate::{
    exit::{Exit, Failure, Run},
    guarded::{Child, Environment, Signals},
    out::note,
    text,
    view::{Quiet, View},
};
use clap::{Args, ValueEnum};
use kv_core::{Bytes, Directory, Key, Kv};
use rustix::process::Signal;
use std::{
    collections::BTreeMap,
    ffi::OsString,
    hash::{BuildHasher, RandomState},
    os::unix::ffi::OsStringExt,
    time::Duration,
};

/// The arguments of `run`.
#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// The directory: its key db/url becomes the variable DB_URL
    #[arg(long, short, value_name = "DIRECTORY")]
    env: Directory,
    /// The effect on the command of a change of the environment
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = Change::Restart)]
    on_change: Change,
    /// The time without a change that has to pass before that is done
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = text::duration)]
    quiet: Duration,
    /// Waits up to this time more, by chance, so that not all commands restart at once
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = text::duration)]
    splay: Duration,
    /// The time that the command has to end when it is restarted, before it is killed
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = text::duration)]
    grace: Duration,
    /// The command, which is run without a shell
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// The effects that a change can have on a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Change {
    /// Ends it, and runs it anew
    Restart,
    /// Sends SIGHUP; the environment of a command that runs stays as it was
    Hup,
    /// Sends SIGUSR1
    Usr1,
    /// Sends SIGUSR2
    Usr2,
    /// Nothing: the store is not watched
    Nothing,
}

pub(crate) async fn run(args: RunArgs, kv: &Kv) -> Run {
    let mut signals = Signals::catch()?;
    let mut view = View::open(kv, &args.env).await?;
    tokio::select! {
        biased;
        signal = signals.ending() => return Ok(Exit::of_signal(signal.as_raw())),
        synced = view.synced() => synced?,
    }
    let mut current = environment(view.keys())?;
    let mut child = Child::start(&args.command, current.clone())?;
    let mut quiet = Quiet::new(args.quiet);
    let mut is_watched = args.on_change != Change::Nothing;
    loop {
        tokio::select! {
            biased;
            exit = child.exit() => return exit,
            signal = signals.next() => child.pass_on(signal),
            changed = view.changed(), if is_watched => match changed {
                Ok(()) => quiet.changed(by_chance(args.splay)),
                // The command goes on with what it has.
                Err(failure) => {
                    is_watched = false;
                    note_end(&failure);
                }
            },
            () = quiet.due(), if quiet.is_waiting() => {
                match environment(view.keys()) {
                    Ok(new) if new == current => {}
                    Ok(new) => {
                        current = new;
                        match args.on_change {
                            Change::Restart => match restart(child, &args, &current, &mut signals).await? {
                                Ok(new) => child = new,
                                Err(exit) => return Ok(exit),
                            },
                            Change::Hup => child.pass_on(Signal::HUP),
                            Change::Usr1 => child.pass_on(Signal::USR1),
                            Change::Usr2 => child.pass_on(Signal::USR2),
                            Change::Nothing => {}
                        }
                    }
                    // What makes no environment is no reason to end a command that runs.
                    Err(failure) => note_end(&failure),
                }
            }
        }
    }
}

fn note_end(failure: &Failure) {
    if let Some((_, why)) = failure.words() {
        note(&format!("the command goes on as it is: {why}"));
    }
}

/// Ends a command and starts it anew. Where a signal that is to end it comes before its new start,
/// the exit code is returned.
async fn restart(
    mut child: Child,
    args: &RunArgs,
    environment: &Environment,
    signals: &mut Signals,
) -> Run<Result<Child, Exit>> {
    child.ask_to_end(args.grace);
    tokio::select! {
        biased;
        exit = child.exit() => {
            exit?;
        }
        signal = signals.ending() => {
            child.pass_on(signal);
            child.exit().await?;
            return Ok(Err(Exit::of_signal(signal.as_raw())));
        }
    }
    Child::start(&args.command, environment.clone()).map(Ok)
}

/// Returns a part of this time.
fn by_chance(most: Duration) -> Duration {
    // Each state is seeded by chance.
    let chance = RandomState::new().hash_one(0) >> 11;
    most.mul_f64(chance as f64 / (1_u64 << 53) as f64)
}

/// Makes the variables of the keys. What cannot be one is an error that names the key.
fn environment(keys: &BTreeMap<Key, Bytes>) -> Run<Environment> {
    let mut variables = BTreeMap::<String, (&Key, OsString)>::new();
    for (key, value) in keys {
        let name = variable(key.as_str());
        if value.contains(&0) {
            return Err(Failure::here(format!(
                "the value of {key:?} has a zero byte, which no variable can"
            )));
        }
        if let Some((other, _)) = variables.get(&name) {
            let why = format!("the keys {other:?} and {key:?} are both the variable {name}; rename one");
            return Err(Failure::here(why));
        }
        variables.insert(name, (key, OsString::from_vec(value.to_vec())));
    }
    Ok(variables.into_iter().map(|(name, (_, value))| (name.into(), value)).collect())
}

/// Returns the variable that a key becomes.
fn variable(key: &str) -> String {
    let name = key.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
    let name: String = name.collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("_{name}") } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_variables() {
        for (key, name) in [("db/url", "DB_URL"), ("a.b-c", "A_B_C"), ("1st", "_1ST"), ("ü", "_")] {
            assert_eq!(variable(key), name);
        }
    }

    #[test]
    fn a_splay_is_within_its_time() {
        for _ in 0..100 {
            assert!(by_chance(Duration::from_secs(1)) <= Duration::from_secs(1));
        }
        assert_eq!(by_chance(Duration::ZERO), Duration::ZERO);
    }
}
