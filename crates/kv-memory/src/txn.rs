//! Transactions.

use crate::{Memory, store::life};
use kv_core::{Condition, Decision, Result, Transaction, Write, Written};

impl Memory {
    pub(crate) fn transacted(&self, transaction: Transaction) -> Result<Decision> {
        let mut data = self.look();
        let version = |key| data.version(&self.name(key));
        let refused = transaction.conditions.iter().position(|condition| !match condition {
            Condition::Version(key, expected) => version(key) == Some(*expected),
            Condition::Exists(key) => version(key).is_some(),
            Condition::Missing(key) => version(key).is_none(),
            Condition::Held(fence) => data.is_held(&self.lock_name(fence.lock()), fence.token()),
        });
        if let Some(condition) = refused {
            return Ok(Decision::Refused { condition });
        }
        // All that can be refused is, before the first write.
        let lives = transaction.writes.iter().map(|write| match write {
            Write::Put { options, .. } => life(&data, options).map(Some),
            Write::Delete { .. } => Ok(None),
        });
        let lives = lives.collect::<Result<Vec<_>>>()?;
        let mut written = Vec::with_capacity(lives.len());
        for (write, life) in transaction.writes.into_iter().zip(lives) {
            let name = self.name(write.key()).into_owned();
            written.push(match (write, life) {
                (Write::Put { key, value, .. }, Some((life, ttl))) => {
                    Some(Written::new(data.put(&name, Some(&key), value, life), ttl))
                }
                _ => {
                    data.remove(&name);
                    None
                }
            });
        }
        Ok(Decision::Committed(written))
    }
}
