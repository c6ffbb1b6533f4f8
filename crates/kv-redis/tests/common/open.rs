//! Helpers of the tests of opening.

use kv_core::{Error, ErrorKind};
use kv_redis::Config;
use kv_testsuite::{
    Failure,
    opening::{self, DEADLINE},
};

/// Checks that opening is refused with this kind, at once, and returns the error, which must
/// contain `names`.
pub async fn refused(config: Config, kind: ErrorKind, names: &str) -> Result<Error, Failure> {
    opening::refused(config.deadline(DEADLINE).open(), kind, names).await
}

pub async fn works(config: Config) -> Result<(), Failure> {
    assert!(!opening::works(config.open()).await?.version.is_empty());
    Ok(())
}
