//! Keys and values on their way from one place to another: read, compared, written.

mod compare;
mod plan;
mod side;
mod write;

pub(crate) use plan::{Plan, compare, transfer};
pub(crate) use side::Source;
