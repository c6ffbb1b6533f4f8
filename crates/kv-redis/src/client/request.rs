//! Requests that run scripts: by the script's name, and with its text where the server does not
//! know it.

use crate::{
    client::{
        link::Link,
        script::{self, Script},
    },
    error::{Code, code},
};
use fred::types::Value;
use kv_core::backend::retry::{Effect, RequestError};

/// A script with its names and arguments.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) script: &'static Script,
    pub(crate) names: Vec<Value>,
    pub(crate) arguments: Vec<Value>,
}

impl Request {
    fn parts(&self, head: Value) -> Vec<Value> {
        let mut parts = Vec::with_capacity(2 + self.names.len() + self.arguments.len());
        parts.push(head);
        parts.push(i64::try_from(self.names.len()).unwrap_or(i64::MAX).into());
        parts.extend(self.names.iter().chain(&self.arguments).cloned());
        parts
    }

    /// Sends the request by the script's name. Where the server does not know the script, it did
    /// nothing, and the request is sent again with the script's text.
    pub(crate) async fn send(&self, link: &Link) -> Result<Value, RequestError> {
        match link.call("EVALSHA", self.parts(self.script.sha.clone())).await {
            Err(failed) if code(&failed) == Some(&Code::NoScript) => {
                link.call("EVAL", self.parts(Value::from_static_str(self.script.source))).await
            }
            answer => answer,
        }
    }
}

/// Loads the scripts that the server does not know, so that no call has to send its text.
pub(crate) async fn load(link: &Link) -> Result<(), RequestError> {
    let all = script::all();
    let names = std::iter::once("EXISTS".into()).chain(all.iter().map(|script| script.sha.clone()));
    let known = match link.call("SCRIPT", names.collect()).await {
        Ok(Value::Array(known)) => known,
        // Without the right to `SCRIPT`, each call sends its script's text.
        Err(RequestError { effect: Effect::Refused, .. }) | Ok(_) => return Ok(()),
        Err(failed) => return Err(failed),
    };
    let missing = all.iter().zip(known).filter(|(_, known)| known.as_i64() != Some(1));
    let loads = missing.map(|(script, _)| link.call("SCRIPT", vec!["LOAD".into(), script.source.into()]));
    futures::future::try_join_all(loads).await.map(drop)
}
