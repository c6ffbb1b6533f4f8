//! The kv store on Consul.
