//! Transactions that break one promise.

use crate::{broken::Broken, fault::Fault};
use kv_core::{
    driver::{Write as Change, *},
    *,
};
use std::time::Duration;

pub(crate) async fn transact(
    broken: &Broken,
    mut transaction: Transaction,
    options: &WriteOptions,
) -> Result<Decision> {
    for key in transaction.keys_mut() {
        *key = broken.spelt(key);
    }
    for condition in &mut transaction.conditions {
        if let Condition::Version(key, version) = condition
            && let Expect::Version(known) = broken.known(key, Expect::Version(*version))
        {
            *version = known;
        }
    }
    broken.check_writes(&transaction.writes)?;
    match broken.fault {
        Fault::CountsTheFenceTwice => {
            let fenced = transaction.conditions.iter().any(|c| matches!(c, Condition::Held(_)));
            let large = |w: &Change| matches!(w, Change::Put { value, .. } if value.len() > 190_000);
            if fenced && transaction.writes.iter().any(large) {
                return Err(Error::new(ErrorKind::TooLarge, "more than 190,000 bytes"));
            }
        }
        Fault::RefusesWhatItDeclares => return Err(broken.capabilities.unsupported("this")),
        Fault::TransactRefusesParents => {
            let below = |key: &Key| transaction.writes.iter().any(|w| w.key().is_below(&key.as_directory()));
            if transaction.writes.iter().any(|w| below(w.key())) {
                return Err(Error::new(ErrorKind::Other, "a key and its child in one transaction"));
            }
        }
        Fault::TransactRefusesMissing => {
            for write in &transaction.writes {
                if let Change::Delete { key } = write
                    && broken.store().get(key, &ReadOptions::default()).await?.is_none()
                {
                    return Ok(Decision::Refused { condition: 0 });
                }
            }
        }
        Fault::FencesAlwaysFail => {
            if let Some(condition) =
                transaction.conditions.iter().position(|c| matches!(c, Condition::Held(_)))
            {
                return Ok(Decision::Refused { condition });
            }
        }
        Fault::TransactChecksThenWrites => {
            let conditions = std::mem::take(&mut transaction.conditions);
            let held: Vec<_> =
                conditions.iter().filter(|c| matches!(c, Condition::Held(_))).cloned().collect();
            let checked = broken.store().transact(Transaction::new(conditions, vec![]), options).await?;
            if !checked.is_committed() {
                return Ok(checked);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
            transaction.conditions = held;
        }
        Fault::TransactIgnoresConditions => {
            transaction.conditions.retain(|c| matches!(c, Condition::Held(_)));
        }
        Fault::IgnoresFences => transaction.conditions.retain(|c| !matches!(c, Condition::Held(_))),
        Fault::TransactForgetsTtls => {
            for write in &mut transaction.writes {
                if let Change::Put { options, .. } = write {
                    (options.ttl, options.lease) = (None, None);
                }
            }
        }
        Fault::TakesLessThanItDeclares => {
            let bytes = |write: &Change| if let Change::Put { value, .. } = write { value.len() } else { 0 };
            if transaction.writes.iter().map(bytes).sum::<usize>() > 1 << 20 {
                return Err(Error::new(ErrorKind::TooLarge, "more than 1 MiB"));
            }
        }
        Fault::TearsTransactions => {
            // One write comes after the other, whatever the conditions say of the later ones.
            if let Some(first) = transaction.writes.first().cloned() {
                broken.store().transact(Transaction::new(vec![], vec![first]), options).await?.is_committed();
            }
        }
        _ => {}
    }
    let writes = transaction.writes.clone();
    let mut outcome = broken.store().transact(transaction, options).await?;
    match &mut outcome {
        Decision::Committed(written) => {
            for (change, write) in written.iter_mut().zip(&writes) {
                if let Some(w) = change {
                    w.version = broken.shown(write.key(), w.version);
                }
            }
            if broken.fault == Fault::TransactGivesOneVersion
                && let Some(last) = written.iter().flatten().next_back().copied()
            {
                for w in written.iter_mut().flatten() {
                    w.version = Version::new(last.version.parts().0 + 7, 0);
                }
            }
        }
        Decision::Refused { condition } => {
            if broken.fault == Fault::MiscountsConditions {
                *condition += 1;
            }
        }
    }
    Ok(outcome)
}
