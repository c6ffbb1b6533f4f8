//! Makes those calls of Consul's HTTP API that are used, and reads their answers:
//! <https://developer.hashicorp.com/consul/api-docs>.

mod about;
mod fault;
mod json;
mod kv;
mod op;
mod pair;
mod sessions;
#[cfg(test)]
mod tests;
mod txn;

pub(crate) use about::{About, about, leader, server_node, status};
pub(crate) use fault::Fault;
pub(crate) use kv::{Listing, Range, get, hidden, names, range, tree};
pub(crate) use op::Op;
pub(crate) use pair::Pair;
pub(crate) use sessions::{create_session, destroy_session, renew_session, sessions_named};
pub(crate) use txn::{Done, MOST_OPS, OP_OVERHEAD, body, faults, txn};
