//! The one list of cases, in the order of the contract.

use crate::Case;

mod calls;
mod errors;
mod expiry;
mod keys;
mod locks;
mod opening;
mod outages;
mod values;
mod watches;

/// Every case.
pub fn all() -> Vec<Case> {
    [
        keys::CASES,
        values::CASES,
        calls::CASES,
        expiry::CASES,
        watches::CASES,
        locks::CASES,
        errors::CASES,
        opening::CASES,
        outages::CASES,
    ]
    .concat()
}
