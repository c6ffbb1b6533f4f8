//! A bank: transfers between accounts by transactions, and the sum that never changes.

use super::{
    field::{Failed, Field},
    patience::until_done,
    stroke::Stroke,
    workload::{Bar, Seen, Violation, Workload},
};
use crate::Failure;
use kv_core::{Capabilities, Durability, Entry, Error, Kv, Outcome, driver::async_trait};
use std::sync::{Mutex, PoisonError};

const ACCOUNTS: usize = 5;
const EACH: i64 = 100;
const CLIENTS: usize = 3;

/// Some clients that move money, and look at all accounts at one moment.
#[derive(Debug, Default)]
pub struct Bank(());

#[async_trait]
impl Workload for Bank {
    fn name(&self) -> &'static str {
        "bank"
    }

    fn unsuited(&self, capabilities: &Capabilities, strokes: &[Stroke]) -> Option<String> {
        if capabilities.max_txn_ops < ACCOUNTS {
            return Some("no transactions of this size".into());
        }
        let lost = strokes.iter().any(|stroke| stroke.may_lose(Durability::Fsync));
        lost.then(|| "the accounts themselves would be lost".into())
    }

    async fn run(&self, field: &Field) -> Result<Seen, Failure> {
        let observer = field.observer(self.name()).await?;
        // An earlier try, whose answer was lost, may have opened the account.
        for account in 0..ACCOUNTS {
            let open = || observer.put(name(account), EACH.to_string()).into_future();
            until_done("opening an account", open).await?;
        }
        let seen = Mutex::new(Seen::default());
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            clients.push(field.client(self.name()).await?);
        }
        futures::future::join_all(clients.into_iter().map(|(name, kv)| client(field, &seen, name, kv))).await;
        let mut seen = seen.into_inner().unwrap_or_else(PoisonError::into_inner);
        let began = field.now();
        let last = until_done("reading all accounts", || async {
            all(&observer).await.map_err(|e| e.to_string())?.ok_or_else(|| "they change".to_owned())
        });
        let last = last.await?;
        seen.violations.extend(audit("the end", &last, began, field.now()));
        observer.close().await?;
        Ok(seen)
    }
}

fn name(account: usize) -> String {
    format!("account/{account}")
}

async fn client(field: &Field, seen: &Mutex<Seen>, name: String, kv: Kv) {
    let mut chance = field.chance(&name);
    while !field.is_over() {
        let began = field.now();
        let from = chance.below(ACCOUNTS);
        let to = (from + 1 + chance.below(ACCOUNTS - 1)) % ACCOUNTS;
        let (amount, looks) = (chance.below(40) as i64, chance.one_in(4));
        let answer = match looks {
            true => all(&kv).await,
            false => transfer(&kv, from, to, amount).await.map(|()| None),
        };
        note(field, seen, &name, began, answer);
        tokio::time::sleep(chance.millis(0, 10)).await;
    }
    let _ = kv.close().await;
}

/// Notes the answer of a call: all accounts at one moment, or `None` where it tells nothing of
/// them.
fn note(
    field: &Field,
    seen: &Mutex<Seen>,
    client: &str,
    began: u64,
    answer: Result<Option<Vec<Option<i64>>>, Error>,
) {
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    match answer {
        Ok(accounts) => {
            seen.answered += 1;
            if let Some(accounts) = accounts {
                seen.violations.extend(audit(client, &accounts, began, field.now()));
            }
        }
        Err(e) => match field.failed(&e) {
            Failed::Nothing => seen.failed += 1,
            Failed::Unknown => seen.unknown += 1,
            Failed::Absurd => {
                let (what, at) = (e.to_string(), field.now());
                seen.violations.push(Violation { what, at, calls: Vec::new() });
            }
        },
    }
}

fn balance(entry: &Entry) -> i64 {
    // A value that is no number makes a sum that the audit sees.
    entry.text().and_then(|text| text.parse().ok()).unwrap_or(i64::MIN / 100)
}

/// Moves money, if there is enough and nobody writes either account meanwhile.
async fn transfer(kv: &Kv, from: usize, to: usize, amount: i64) -> Result<(), Error> {
    let (from, to) = (name(from), name(to));
    let (Some(source), Some(target)) = (kv.get(&from).await?, kv.get(&to).await?) else { return Ok(()) };
    let left = balance(&source) - amount;
    if left < 0 {
        return Ok(());
    }
    let txn = kv.transact().when_version(&from, source.version).when_version(&to, target.version);
    let txn = txn.then(kv.put(&from, left.to_string()));
    txn.then(kv.put(&to, (balance(&target) + amount).to_string())).await.map(drop)
}

/// Returns all accounts at one moment: those that were read, if all of them still had their
/// versions together; else `None`.
async fn all(kv: &Kv) -> Result<Option<Vec<Option<i64>>>, Error> {
    let entries = kv.get_many((0..ACCOUNTS).map(name)).await?;
    let mut txn = kv.transact();
    for (account, entry) in entries.iter().enumerate() {
        txn = match entry {
            Some(entry) => txn.when_version(name(account), entry.version),
            None => txn.when_missing(name(account)),
        };
    }
    let at_once = matches!(txn.await?, Outcome::Committed(_));
    Ok(at_once.then(|| entries.iter().map(|entry| entry.as_ref().map(balance)).collect()))
}

/// Returns what is wrong with the accounts, if anything is.
fn audit(client: &str, accounts: &[Option<i64>], began: u64, ended: u64) -> Option<Violation> {
    let sum: i64 = accounts.iter().flatten().sum();
    let expected = EACH * ACCOUNTS as i64;
    let right = sum == expected && accounts.iter().all(|account| account.is_some_and(|money| money >= 0));
    let what = format!("the accounts hold {accounts:?}, {sum} together, not {expected}");
    let label = "reads all accounts at one moment".to_owned();
    let calls = vec![Bar { client: client.into(), label, began, ended: Some(ended) }];
    (!right).then_some(Violation { what, at: ended, calls })
}

#[cfg(test)]
mod tests {
    use super::audit;

    #[test]
    fn money_that_came_from_nowhere_is_seen() {
        let all = |accounts: [i64; 5]| audit("a", &accounts.map(Some), 0, 1);
        assert!(all([100, 100, 100, 100, 100]).is_none());
        assert!(all([0, 250, 50, 100, 100]).is_none());
        assert!(all([100, 100, 100, 100, 101]).is_some());
        assert!(all([-1, 201, 100, 100, 100]).is_some(), "an account below zero");
        assert!(
            audit("a", &[Some(500), Some(0), Some(0), Some(0), None], 0, 1).is_some(),
            "an account is gone"
        );
    }
}
