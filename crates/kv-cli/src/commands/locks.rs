//! `locks`, `break`: the locks of a store, and the end of one, for operators.

use crate::{
    exit::{Exit, Failure, Run},
    lines::{Content, V},
    out::Out,
    text,
};
use clap::Args;
use kv_core::{Directory, HeldLock, Key, Kv};
use serde::Serialize;

/// The arguments of `locks`.
#[derive(Args, Debug)]
pub(crate) struct LocksArgs {
    /// The directory; the whole store if none is named
    #[arg(default_value = "/")]
    directory: Directory,
    /// Lets any member of a cluster answer, from the past
    #[arg(long)]
    stale: bool,
}

/// A lock that is held.
#[derive(Serialize)]
pub(crate) struct LockLine<'a> {
    v: u8,
    name: &'a str,
    token: u64,
    /// The number of contenders that wait behind the holder; null where the server does not know.
    waiters: Option<u64>,
    #[serde(flatten)]
    content: Content<'a>,
}

impl<'a> LockLine<'a> {
    pub(crate) fn of(lock: &'a HeldLock) -> Self {
        let HeldLock { name, holder, waiters, .. } = lock;
        let content = Content::of(&holder.value);
        Self { v: V, name: name.as_str(), token: holder.token, waiters: *waiters, content }
    }
}

const HEAD: [&str; 4] = ["NAME", "TOKEN", "WAITERS", "HOLDER"];

pub(crate) async fn locks(args: LocksArgs, kv: &Kv, out: &mut Out) -> Run {
    let locks = kv.locks(&args.directory);
    let mut locks = if args.stale { locks.stale() } else { locks }.stream();
    if !out.is_terminal() {
        while let Some(lock) = locks.next().await {
            let lock = lock?;
            if out.is_json() {
                out.object(&LockLine::of(&lock))?;
            } else {
                out.line(&cells(&lock).join("\t"))?;
            }
        }
        return Ok(Exit::DONE);
    }
    // A table has the width of its widest row, so that all are needed first.
    let mut rows = Vec::new();
    while let Some(lock) = locks.next().await {
        rows.push(cells(&lock?));
    }
    if !rows.is_empty() {
        rows.insert(0, HEAD.map(ToOwned::to_owned));
    }
    for line in table(&rows) {
        out.shown(None, &line.0, &line.1)?;
    }
    Ok(Exit::DONE)
}

fn cells(lock: &HeldLock) -> [String; 4] {
    let HeldLock { name, holder, waiters, .. } = lock;
    let waiters = waiters.map_or_else(|| "?".to_owned(), |waiters| waiters.to_string());
    [name.to_string(), holder.token.to_string(), waiters, text::on_one_line(&holder.value)]
}

/// Lays rows out in columns: what is never missing, and the last column, which may be cut.
fn table(rows: &[[String; 4]]) -> Vec<(String, String)> {
    let mut widths = [0; 3];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(text::width(cell));
        }
    }
    let lines = rows.iter().map(|[name, token, waiters, holder]| {
        let [wide, long, many] = widths;
        let space = " ".repeat(wide.saturating_sub(text::width(name)));
        (format!("{name}{space}  {token:>long$}  {waiters:>many$}"), format!("  {holder}"))
    });
    lines.collect()
}

/// The arguments of `break`.
#[derive(Args, Debug)]
pub(crate) struct BreakArgs {
    /// The name of the lock or election
    name: Key,
    /// The fencing token of the acquisition that is to end, as `locks` and `holder` show it
    #[arg(long, value_name = "TOKEN")]
    token: u64,
}

#[derive(Serialize)]
struct BreakLine<'a> {
    v: u8,
    name: &'a str,
    token: u64,
    broken: bool,
}

pub(crate) async fn break_lock(args: BreakArgs, kv: &Kv, out: &mut Out) -> Run {
    let BreakArgs { name, token } = args;
    let broken = kv.break_lock(&name).token(token).await?;
    if broken {
        out.acts().note();
    }
    if out.is_json() {
        out.object(&BreakLine { v: V, name: name.as_str(), token, broken })?;
        return Ok(if broken { Exit::DONE } else { Exit::NO });
    }
    if broken {
        return Ok(Exit::DONE);
    }
    let now = match kv.lock_holder(&name).await {
        Ok(Some(holder)) => format!("; it is held under {}", holder.token),
        Ok(None) => "; nobody holds it".to_owned(),
        // The answer is no, whatever else can be said.
        Err(_) => String::new(),
    };
    Err(Failure::no(format!("the lock {name:?} is not held under the token {token}{now}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::out::Buffer;
    use std::time::Duration;

    async fn shown(kv: &Kv, json: bool, terminal: bool) -> String {
        let buffer = Buffer::default();
        let mut out = Out::to_buffer(&buffer, json, terminal);
        let args = LocksArgs { directory: Directory::parse("jobs").unwrap(), stale: false };
        locks(args, kv, &mut out).await.unwrap();
        out.flush().unwrap();
        buffer.text()
    }

    #[tokio::test]
    async fn locks_are_listed_with_their_holders_and_waiters_and_can_be_broken() {
        let kv = kv_memory::open("memory://").await.unwrap();
        assert_eq!(shown(&kv, false, true).await, "");
        let nightly = kv.new_lock("jobs/nightly").value("host-1\n\u{1b}[2J").acquire().await.unwrap();
        let other = kv.new_lock("jobs/a").value(&b"\xff"[..]).acquire().await.unwrap();
        let _elsewhere = kv.new_lock("elsewhere").acquire().await.unwrap();
        let waits = tokio::spawn({
            let lock = kv.new_lock("jobs/nightly").value("host-2");
            async move { lock.acquire().await }
        });
        while kv.locks("jobs").await.unwrap().iter().all(|lock| lock.waiters != Some(1)) {
            tokio::task::yield_now().await;
        }
        let (a, n) = (other.token(), nightly.token());
        let plain = format!("jobs/a\t{a}\t0\t\\xff\njobs/nightly\t{n}\t1\thost-1\\n\\x1b[2J\n");
        assert_eq!(shown(&kv, false, false).await, plain);
        let objects = format!(
            "{{\"v\":1,\"name\":\"jobs/a\",\"token\":{a},\"waiters\":0,\"base64\":\"/w==\"}}\n\
             {{\"v\":1,\"name\":\"jobs/nightly\",\"token\":{n},\"waiters\":1,\"value\":\"host-1\\n\\u001b[2J\"}}\n"
        );
        assert_eq!(shown(&kv, true, false).await, objects);
        let table = shown(&kv, false, true).await;
        let lines: Vec<_> = table.lines().collect();
        assert!(lines[0].starts_with("NAME          ") && lines[0].ends_with("WAITERS  HOLDER"), "{table}");
        assert!(lines[1].starts_with("jobs/a        ") && lines[1].ends_with("      0  \\xff"), "{table}");

        let mut out = Out::to_buffer(&Buffer::default(), false, false);
        let name = Key::parse("jobs/nightly").unwrap();
        let args = |token| BreakArgs { name: name.clone(), token };
        let refused = break_lock(args(n + 1), &kv, &mut out).await.unwrap_err();
        let why =
            format!("the lock \"jobs/nightly\" is not held under the token {}; it is held under {n}", n + 1);
        assert_eq!((refused.exit(), refused.words().unwrap().1), (Exit::NO, why));
        assert_eq!(break_lock(args(n), &kv, &mut out).await.unwrap(), Exit::DONE);
        assert!(!nightly.is_held());
        let next = tokio::time::timeout(Duration::from_secs(20), waits).await.unwrap().unwrap().unwrap();
        assert_eq!(break_lock(args(n), &kv, &mut out).await.unwrap_err().exit(), Exit::NO);
        assert!(next.is_held());
    }
}
