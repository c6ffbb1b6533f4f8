//! Makes the client from the SDK's clients, which repeat nothing by themselves, with this crate's
//! login, time and check of answers.

use crate::client::{
    Client, Configs,
    answers::Answers,
    clock::ServiceTime,
    login::{Login, loader},
    sent::Sending,
};
use aws_config::{retry::RetryConfig, timeout::TimeoutConfig};
use aws_credential_types::Credentials;
use kv_core::{Error, ErrorKind, Result};
use std::time::Duration;

/// The longest time to make a connection, TLS included.
const CONNECT: Duration = Duration::from_secs(2);

/// The place of the table, and the login; the environment gives what is missing.
pub(crate) struct Settings {
    pub(crate) table: String,
    pub(crate) region: Option<String>,
    pub(crate) endpoint: Option<String>,
    pub(crate) profile: Option<String>,
    pub(crate) credentials: Option<Credentials>,
}

/// Reads the SDK's settings from files and the environment, and makes the client; sends nothing to
/// the service.
pub(crate) async fn open(settings: Settings, time: ServiceTime) -> Result<Client> {
    let Settings { table, region, endpoint, profile, credentials } = settings;
    let login = Login::new(credentials, region.clone(), profile.clone(), time.clone());
    // This crate decides how often a request is sent: the SDK would repeat those that must not be.
    let mut loader = loader(region.as_deref(), profile.as_deref())
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT).build())
        .time_source(time.clone())
        .identity_cache(login.clone())
        .credentials_provider(login.clone());
    if let Some(endpoint) = &endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    let shared = loader.load().await;
    if shared.region().is_none() {
        let why = "no region is known; set AWS_REGION, put one into the profile, or give `region`";
        return Err(Error::new(ErrorKind::InvalidArgument, why));
    }
    let answers = Answers(time.clone());
    let tables = aws_sdk_dynamodb::config::Builder::from(&shared);
    let tables = tables.interceptor(answers.clone()).interceptor(Sending).build();
    let streams = aws_sdk_dynamodbstreams::config::Builder::from(&shared).interceptor(answers).build();
    Ok(Client::new(Configs { tables, streams }, table, time, login))
}
