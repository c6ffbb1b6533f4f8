//! Damage to the stores' own records, for a while.

use super::super::{Failure, Reply, Resp};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The records, by the end of their names as a pattern of the server, and the text that is written
/// over them.
const WAYS: [(&str, &str); 8] = [
    ("*.kv/clock", "words"),
    // One above the numbers that scripts can count.
    ("*.kv/clock", "9007199254740993"),
    ("*.kv/meta", "words"),
    ("*.kv/index", "words"),
    ("*.kv/ends", "words"),
    ("*.kv/lock/*", "words"),
    ("*.kv/held/*", "words"),
    ("*.kv/session/*", "words"),
];
/// The beginning of the names of records that are put aside, and the name of the set that holds
/// them.
const ASIDE: &str = "aside:";
const BROKEN: &str = "broken";

const BREAK: &str = "
    local names = redis.call('KEYS', ARGV[1])
    for _, name in ipairs(names) do
        redis.call('RENAME', name, ARGV[3] .. name)
        redis.call('SET', name, ARGV[2])
        redis.call('SADD', ARGV[4], name)
    end
    return #names";
/// Puts the records back, except for those that ended meanwhile.
const MEND: &str = "
    local names = redis.call('SMEMBERS', ARGV[2])
    for _, name in ipairs(names) do
        if redis.call('EXISTS', ARGV[1] .. name) == 1 then
            redis.call('RENAME', ARGV[1] .. name, name)
        else
            redis.call('DEL', name)
        end
    end
    redis.call('DEL', ARGV[2])
    return #names";

/// Does one kind of damage after another.
#[derive(Default)]
pub struct Damage(AtomicUsize);

impl Damage {
    pub async fn begin(&self, resp: &mut Resp) -> Result<(), Failure> {
        let (pattern, nonsense) = WAYS[self.0.fetch_add(1, Ordering::Relaxed) % WAYS.len()];
        match run(resp, BREAK, &[pattern, nonsense, ASIDE, BROKEN]).await? {
            0 => Err(format!("there is no {pattern} yet").into()),
            _ => Ok(()),
        }
    }

    pub async fn end(resp: &mut Resp) -> Result<(), Failure> {
        run(resp, MEND, &[ASIDE, BROKEN]).await.map(|_| ())
    }
}

/// Runs a script, and returns the number of names that it changed.
async fn run(resp: &mut Resp, script: &str, arguments: &[&str]) -> Result<i64, Failure> {
    let head = ["EVAL", script, "0"];
    let parts: Vec<_> = head.iter().chain(arguments).map(|part| part.as_bytes()).collect();
    match resp.ask(&parts).await? {
        Reply::Number(count) => Ok(count),
        other => Err(format!("{other:?}").into()),
    }
}
