//! Keys and values on their way from one place to another: read, compared, written.

mod compare;
mod files;
mod folder;
mod follow;
mod git;
mod kept;
mod left_out;
mod overlap;
mod plan;
mod side;
mod write;

pub(crate) use folder::{Folder, Role};
pub(crate) use follow::follow;
pub(crate) use left_out::tell as tell_left_out;
pub(crate) use overlap::Location;
pub(crate) use plan::{Plan, compare, transfer};
pub(crate) use side::Place;
