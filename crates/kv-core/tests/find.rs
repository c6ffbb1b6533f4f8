//! A store under a handle is found, whatever holds it.

use kv_core::{Kv, driver::Store};
use kv_memory::Memory;
use std::sync::Arc;

#[test]
fn a_store_is_found_through_all_that_holds_it() {
    let store = Arc::new(Box::new(Arc::new(Memory::new()) as Arc<dyn Store>) as Box<dyn Store>);
    let kv = Kv::new(store);
    assert!(kv.store().find::<Memory>().is_some());
    assert!(kv.store().find::<Arc<dyn Store>>().is_some());
    assert!(kv.store().find::<Arc<Memory>>().is_none());
}
