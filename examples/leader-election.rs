//! Three candidates for one office: one leads at a time, and what a leader of before writes is
//! refused.
//!
//! ```text
//! cargo run --example leader-election            # on an embedded store, in leader-election.redb
//! cargo run --example leader-election -- URL     # on the store of this URL
//! ```
//!
//! Each leader takes up the work where the one before left it. The program fails if one of its
//! claims is false: no step is done twice or left out, an observer sees terms in their order, and
//! the store refuses a leader whose term is over.

use kv_core::{Error, ErrorKind, Kv, Result};
use kv_recipes::{Election, Leadership, Term};
use tokio::task::JoinSet;

const NAME: &str = "leader-election/leader";
const DONE: &str = "leader-election/done";
/// The steps of a term, after which the leader resigns, as in an update of its program.
const STEPS: u64 = 4;

#[tokio::main]
async fn main() -> Result<()> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "redb://leader-election.redb".into());
    let kv = kv_examples::open(&url).await?;
    kv.delete_tree("leader-election").await?; // removes what an earlier run left

    let mut leaders = Election::new(&kv, NAME).observe().await?;
    let mut candidates = JoinSet::new();
    for name in ["ann", "bob", "cleo"] {
        let election = Election::new(&kv, NAME).candidate(name).value(format!("{name}.example:80"));
        let kv = kv.clone();
        candidates.spawn(async move { election.lead(|term| work(kv.clone(), term)).await });
    }
    // A term that is over before it is looked at is not seen.
    let mut last = 0;
    while !candidates.is_empty() {
        tokio::select! {
            news = leaders.next() => if let Leadership::Leader(leader) = news? {
                claim(leader.term >= last, "terms are seen in their order")?;
                if leader.term > last {
                    println!("{} leads, at {}", leader.candidate, String::from_utf8_lossy(&leader.value));
                }
                last = leader.term;
            },
            Some(led) = candidates.join_next() => {
                led.map_err(|e| Error::new(ErrorKind::Other, "a candidate failed").with_cause(e))??;
            }
        }
    }
    claim(done(&kv).await? == 3 * STEPS, "every leader has done its steps, where the one before ended")?;
    println!("three terms have done {} steps", 3 * STEPS);

    // A leader that was replaced without noticing, as by a pause, comes late.
    let old = Election::new(&kv, NAME).candidate("ann").campaign().await?;
    let fence = old.fence().clone();
    old.resign().await?;
    let new = Election::new(&kv, NAME).candidate("bob").campaign().await?;
    let late = kv.put(DONE, "0").fenced(&fence).await;
    claim(late.is_err_and(|e| e.kind() == ErrorKind::LockLost), "the store refuses an old leader")?;
    println!("an old leader was refused");
    new.resign().await?;
    kv.close().await
}

/// Works for one term.
async fn work(kv: Kv, term: Term) -> Result<()> {
    let from = done(&kv).await?;
    for step in from..from + STEPS {
        // It is written only while this term lasts.
        kv.put(DONE, (step + 1).to_string()).fenced(&term).await?;
    }
    Ok(())
}

async fn done(kv: &Kv) -> Result<u64> {
    Ok(kv.get(DONE).await?.and_then(|entry| entry.text()?.parse().ok()).unwrap_or(0))
}

fn claim(holds: bool, what: &'static str) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::new(ErrorKind::Other, format!("not true: {what}"))) }
}
