//! To come.

use crate::Case;

pub(super) const CASES: &[Case] = &[];
