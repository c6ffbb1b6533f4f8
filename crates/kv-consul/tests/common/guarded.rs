//! A server that asks for tokens.

use super::*;
use kv_consul::Config;
use kv_core::{Error, Watch, WatchEvent};
use kv_testsuite::failover::soon;
use std::time::Instant;

/// Holds the token that may do everything.
pub const ROOT: &str = "11111111-2222-3333-4444-555555555555";

/// A server that asks for tokens, and knows the token that may do everything.
pub struct Guarded(pub Arc<Node>);

impl Guarded {
    /// Starts the server, with the settings of `more` besides its own.
    pub async fn start(more: &Value) -> Result<Self, Failure> {
        let acl = json!({ "enabled": true, "default_policy": "deny", "tokens": { "master": ROOT },
            "policy_ttl": "100ms", "token_ttl": "100ms", "role_ttl": "100ms" });
        let mut all = json!({ "acl": acl });
        for (name, value) in more.as_object().into_iter().flatten() {
            all[name] = value.clone();
        }
        let guarded = Self(Arc::new(with(&all).await?));
        let deadline = Instant::now() + Duration::from_secs(30);
        while guarded.ask("GET /v1/acl/tokens", &Value::Null).await.is_err() {
            assert!(Instant::now() < deadline, "the server knows its first token");
        }
        Ok(guarded)
    }

    pub async fn ask(&self, request: &str, body: &Value) -> Result<Value, Failure> {
        let token = format!("X-Consul-Token: {ROOT}\r\n");
        let body = serde_json::to_vec(body)?;
        http_with(self.0.address, request, &token, &body).await?.json()
    }

    /// Makes a policy of these rules, and returns a token that has it.
    pub async fn token(&self, name: &str, rules: &str) -> Result<String, Failure> {
        self.ask("PUT /v1/acl/policy", &json!({ "Name": name, "Rules": rules })).await?;
        let token = self.ask("PUT /v1/acl/token", &json!({ "Policies": [{ "Name": name }] })).await?;
        Ok(token["SecretID"].as_str().ok_or("a token")?.to_owned())
    }

    pub async fn change(&self, name: &str, rules: &str) -> Result<(), Failure> {
        let policy = self.ask(&format!("GET /v1/acl/policy/name/{name}"), &Value::Null).await?;
        let id = policy["ID"].as_str().ok_or("a policy")?;
        let changed = json!({ "ID": id, "Name": name, "Rules": rules });
        self.ask(&format!("PUT /v1/acl/policy/{id}"), &changed).await?;
        Ok(())
    }

    pub async fn delete(&self, token: &str) -> Result<(), Failure> {
        let all = self.ask("GET /v1/acl/tokens", &Value::Null).await?;
        for one in all.as_array().ok_or("tokens")? {
            let id = one["AccessorID"].as_str().ok_or("an accessor")?;
            let whole = self.ask(&format!("GET /v1/acl/token/{id}"), &Value::Null).await?;
            if whole["SecretID"] == token {
                self.ask(&format!("DELETE /v1/acl/token/{id}"), &Value::Null).await?;
                return Ok(());
            }
        }
        Err("no such token".into())
    }

    /// Tells whether the server still takes the token; asks without the library.
    pub async fn knows(&self, token: &str) -> Result<bool, Failure> {
        let header = format!("X-Consul-Token: {token}\r\n");
        let answer = http_with(self.0.address, "GET /v1/kv/mine/x", &header, b"").await?;
        Ok(!answer.body.starts_with(b"ACL not found"))
    }

    pub fn config(&self, token: &str) -> Config {
        Config::new([self.0.address.to_string()]).prefix("mine/").token(token)
    }
}

/// Lists the rules that a store below `mine/` needs.
pub const MINE: &str = r#"key_prefix "mine/" { policy = "write" } session_prefix "" { policy = "write" }"#;

/// Returns the error that ends a watch; checks that the watch tells no deletion before.
pub async fn end_of(watch: &mut Watch) -> Result<Error, Failure> {
    soon("the end", async {
        loop {
            match watch.event().await {
                Ok(event) => assert!(!matches!(event, WatchEvent::Delete { .. }), "{event:?}"),
                Err(e) => return e,
            }
        }
    })
    .await
}
