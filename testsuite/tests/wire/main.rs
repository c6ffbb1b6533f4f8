//! The whole suite on a small networked store of its own, which proves that the cases about
//! outages can be kept.

#[path = "mod.rs"]
mod wire;

fn main() {
    kv_testsuite::main(|| async { Ok(wire::Net::start(None).await) })
}
