//! Watches: what the server publishes, and what is made of it.

pub(crate) mod feed;
pub(crate) mod holder;
pub(crate) mod keys;
pub(crate) mod listener;
pub(crate) mod notification;
