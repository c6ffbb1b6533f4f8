//! Records of the stores' own that make no sense for a while.

use super::super::{Failure, Reply, Resp};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Which records, by the end of their names as the server matches them, and what is written over them.
const WAYS: [(&str, &str); 6] = [
    ("*.kv/clock", "words"),
    // One above what scripts can count.
    ("*.kv/clock", "9007199254740993"),
    ("*.kv/meta", "words"),
    ("*.kv/index", "words"),
    ("*.kv/ends", "words"),
    ("*.kv/lock/*", "words"),
];
/// What records that are put aside have in front.
const ASIDE: &str = "aside:";

const BREAK: &str = "
    local names = redis.call('KEYS', ARGV[1])
    for _, name in ipairs(names) do
        redis.call('RENAME', name, ARGV[3] .. name)
        redis.call('SET', name, ARGV[2])
    end
    return #names";
const MEND: &str = "
    local names = redis.call('KEYS', ARGV[1] .. '*')
    for _, name in ipairs(names) do redis.call('RENAME', name, string.sub(name, #ARGV[1] + 1)) end
    return #names";

/// One way after another.
#[derive(Default)]
pub struct Damage(AtomicUsize);

impl Damage {
    pub async fn begin(&self, resp: &mut Resp) -> Result<(), Failure> {
        let (pattern, nonsense) = WAYS[self.0.fetch_add(1, Ordering::Relaxed) % WAYS.len()];
        match run(resp, BREAK, &[pattern, nonsense, ASIDE]).await? {
            0 => Err(format!("there is no {pattern} yet").into()),
            _ => Ok(()),
        }
    }

    pub async fn end(resp: &mut Resp) -> Result<(), Failure> {
        run(resp, MEND, &[ASIDE]).await.map(|_| ())
    }
}

/// How many names it was.
async fn run(resp: &mut Resp, script: &str, arguments: &[&str]) -> Result<i64, Failure> {
    let head = ["EVAL", script, "0"];
    let parts: Vec<_> = head.iter().chain(arguments).map(|part| part.as_bytes()).collect();
    match resp.ask(&parts).await? {
        Reply::Number(count) => Ok(count),
        other => Err(format!("{other:?}").into()),
    }
}
