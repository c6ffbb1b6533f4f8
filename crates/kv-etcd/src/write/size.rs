//! The size of the request of a transaction. The server limits it, and names count as often as the
//! request has them.

use crate::{
    client::limits::{ENVELOPE, FRAME, REQUEST},
    names::Names,
};
use kv_core::{
    Condition, Error, ErrorKind, Key, Result,
    driver::{Transaction, Write},
};

/// Refuses a transaction whose request the server would not take.
pub(super) fn check(names: &Names, transaction: &Transaction) -> Result<()> {
    let size = size(names, transaction);
    if size <= REQUEST {
        return Ok(());
    }
    let why = format!(
        "the request of the transaction has {size} bytes with all its names, and a server takes \
         {REQUEST}; write less at once"
    );
    Err(Error::new(ErrorKind::TooLarge, why))
}

fn size(names: &Names, transaction: &Transaction) -> usize {
    let name = |key: &Key| FRAME + names.prefix().len() + key.as_str().len();
    let conditions = transaction.conditions.iter().map(|condition| match condition {
        // It is compared, and read for when the condition is not true.
        Condition::Version(key, _) | Condition::Exists(key) | Condition::Missing(key) => 2 * name(key),
        // Its lease is compared too.
        Condition::Held(fence) => 3 * (FRAME + fence.proof().len()),
    });
    let writes = transaction.writes.iter().map(|write| {
        let value = match write {
            Write::Put { value, .. } => value.len(),
            Write::Delete { .. } => 0,
        };
        name(write.key()) + value
    });
    ENVELOPE + conditions.sum::<usize>() + writes.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::limits::capabilities;
    use kv_core::{Bytes, Fence, Version, driver::PutOptions};

    #[test]
    fn a_fenced_put_of_the_greatest_value_fits_whatever_the_names() {
        let key = Key::from_stored(&"k".repeat(1000)).unwrap();
        for prefix in [0, 20, 500, 5_000, 100_000] {
            let names = Names::new("p".repeat(prefix));
            let put = |value: usize| {
                let fence = Fence::new(key.clone(), 1, names.contender(&key, 1));
                let conditions =
                    vec![Condition::Held(fence), Condition::Version(key.clone(), Version::new(1, 0))];
                let (value, options) = (Bytes::from(vec![0; value]), PutOptions::default());
                let write = Write::Put { key: key.clone(), value, options };
                check(&names, &Transaction::new(conditions, vec![write]))
            };
            assert!(put(capabilities(names.prefix()).max_value).is_ok(), "a prefix of {prefix} bytes");
            assert_eq!(put(REQUEST).unwrap_err().kind(), ErrorKind::TooLarge);
        }
    }
}
