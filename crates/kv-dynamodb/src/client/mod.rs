//! Sends requests: each waits in its lane; of one without an answer the error tells what is known.

mod answers;
pub(crate) mod cancelled;
pub(crate) mod change;
pub(crate) mod clock;
pub(crate) mod item;
mod lane;
mod login;
pub(crate) mod open;
mod sent;
pub(crate) mod table;
pub(crate) mod terms;

pub(crate) use lane::Lane;

use crate::{
    client::{
        clock::ServiceTime,
        lane::Lanes,
        login::{Login, Refusals},
    },
    error::{Failure, closed},
};
use aws_sdk_dynamodb::Client as Tables;
use aws_sdk_dynamodbstreams::Client as Streams;
use kv_core::{
    Result,
    backend::{
        Backoff, ByRuntime, catch_up,
        retry::{Answered, Attempt, Effect, RequestError, RetrySafety, Servers, before},
        unique,
    },
    driver::Deadline,
};
use std::{fmt, future::Future, pin::pin, sync::Arc, time::Duration};

/// The parts that every attempt passes on its way to the service.
struct Service {
    lanes: ByRuntime<Arc<Lanes>>,
    login: Login,
}

/// The SDK's clients of the table and of its stream. Their connections end and stand still with the
/// runtime in which they were made.
#[derive(Clone)]
struct Sdk {
    tables: Tables,
    streams: Streams,
}

/// The settings of the SDK's clients.
pub(crate) struct Configs {
    pub(crate) tables: aws_sdk_dynamodb::Config,
    pub(crate) streams: aws_sdk_dynamodbstreams::Config,
}

/// The clients of the table and of its stream, and the service's time.
pub(crate) struct Client {
    configs: Configs,
    sdks: ByRuntime<Sdk>,
    pub(crate) table: String,
    pub(crate) time: ServiceTime,
    service: Servers<Service>,
}

/// Returns the pauses between attempts.
pub(crate) fn backoff() -> Backoff {
    Backoff::new(Duration::from_millis(100), Duration::from_millis(800))
}

/// Returns an id that nobody else has.
pub(crate) fn unique_id() -> String {
    format!("{:016x}{:016x}", unique(), unique())
}

impl Client {
    pub(crate) fn new(configs: Configs, table: String, time: ServiceTime, login: Login) -> Self {
        let service = Servers::one(Service { lanes: ByRuntime::new(), login }).with_backoff(backoff());
        Self { configs, sdks: ByRuntime::new(), table, time, service }
    }

    fn sdk(&self) -> Sdk {
        let new = || Sdk {
            tables: Tables::from_conf(self.configs.tables.clone()),
            streams: Streams::from_conf(self.configs.streams.clone()),
        };
        // Outside of a runtime nothing is sent.
        self.sdks.here(new).unwrap_or_else(|_| new())
    }

    /// Returns the client of the table for this runtime.
    pub(crate) fn tables(&self) -> Tables {
        self.sdk().tables
    }

    /// Returns the client of the table's stream for this runtime.
    pub(crate) fn streams(&self) -> Streams {
        self.sdk().streams
    }

    /// Returns the answer to a call, which is sent again by the rules of [`Servers::run`].
    pub(crate) async fn call<T, F>(
        &self,
        safety: RetrySafety,
        deadline: Deadline,
        request: impl Fn() -> F + Send + Sync,
    ) -> Result<T>
    where
        F: Future<Output = Result<T, Failure>> + Send,
    {
        Ok(self.answer(safety, Lane::Calls, deadline, request).await?.answer)
    }

    /// Returns the answer to a request of this lane, and whether an earlier attempt may have taken
    /// effect, so that the answer may be about its doing.
    pub(crate) async fn answer<T, F>(
        &self,
        safety: RetrySafety,
        lane: Lane,
        deadline: Deadline,
        request: impl Fn() -> F + Send + Sync,
    ) -> Result<Answered<T>>
    where
        F: Future<Output = Result<T, Failure>> + Send,
    {
        let (request, refusals) = (&request, &Refusals::default());
        // The attempt is boxed, since the SDK's futures are so deep that compilers of programs
        // give up on what is around them.
        let attempt = |attempt| Box::pin(once(attempt, safety, lane, refusals, request));
        self.service.run(safety, deadline, attempt).await
    }

    /// Sends a request to the stream. It is sent again only with other credentials: whoever
    /// follows the stream rides out every other failure, and has to know of it.
    pub(crate) async fn stream<T, F>(
        &self,
        within: Duration,
        request: impl Fn() -> F + Send + Sync,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>> + Send,
    {
        let (request, refusals) = (&request, &Refusals::default());
        let attempt = |attempt| Box::pin(once_of_stream(attempt, refusals, request));
        let answered = self.service.run(RetrySafety::Read, Deadline::after(within), attempt).await;
        answered.map_err(Failure::refused)?.answer
    }

    /// Refuses all requests that still wait in their lane.
    pub(crate) fn close(&self) {
        self.service.preferred().lanes.close().iter().for_each(|lanes| lanes.close());
    }
}

/// Makes one attempt at a request.
async fn once<T, F>(
    attempt: Attempt<'_, Service>,
    safety: RetrySafety,
    lane: Lane,
    refusals: &Refusals,
    request: &(impl Fn() -> F + Sync),
) -> Result<T, RequestError>
where
    F: Future<Output = Result<T, Failure>> + Send,
{
    let Service { lanes, login } = attempt.server;
    let lanes = lanes.here(|| Arc::new(Lanes::new())).map_err(|e| RequestError::new(Effect::Refused, e))?;
    let _slot = match before(attempt.deadline, lanes.of(lane).wait()).await {
        Some(Ok(slot)) => slot,
        Some(Err(_)) => return Err(RequestError::new(Effect::Refused, closed())),
        None => return Err(Failure::silent(Effect::None, "free connection", attempt.deadline).into()),
    };
    if safety == RetrySafety::Write {
        catch_up(attempt.deadline, || false).await;
    }
    let (connect_patience, patience) = (attempt.connect_patience(), attempt.patience());
    let (asked, sent) = sent::watched(login.send(refusals, request()));
    let mut asked = pin!(asked);
    let answer = match before(connect_patience, &mut asked).await {
        None if sent.maybe() => before(patience, asked).await,
        answer => answer,
    };
    match answer {
        Some(answer) => Ok(answer?),
        None if sent.maybe() => Err(Failure::silent(Effect::Unknown, "answer", patience).into()),
        None => Err(Failure::silent(Effect::None, "connection", connect_patience).into()),
    }
}

/// Makes one attempt at a request to the stream. It fails only where other credentials may help.
async fn once_of_stream<T, F>(
    attempt: Attempt<'_, Service>,
    refusals: &Refusals,
    request: &(impl Fn() -> F + Sync),
) -> Result<Result<T, Failure>, RequestError>
where
    F: Future<Output = Result<T, Failure>> + Send,
{
    let asked = attempt.server.login.send(refusals, request());
    match before(attempt.deadline, asked).await {
        Some(Err(failure)) if failure.is_mended => Err(failure.into()),
        Some(answer) => Ok(answer),
        None => Ok(Err(Failure::silent(Effect::Unknown, "answer of the stream", attempt.deadline))),
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "table {:?}", self.table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::sent::Sending;
    use aws_config::{BehaviorVersion, Region};
    use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
    use kv_core::{Error, ErrorKind, backend::Clock};
    use std::net::SocketAddr;
    use tokio::net::{TcpListener, TcpSocket, TcpStream};

    async fn write_to(address: SocketAddr) -> Error {
        let shared = aws_config::SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(format!("http://{address}"))
            .region(Region::new("us-east-1"))
            .credentials_provider(SharedCredentialsProvider::new(Credentials::new(
                "id", "secret", None, None, "tests",
            )))
            .build();
        let tables = aws_sdk_dynamodb::config::Builder::from(&shared).interceptor(Sending).build();
        let configs = Configs { tables, streams: aws_sdk_dynamodbstreams::Config::new(&shared) };
        let time = ServiceTime::new(Clock::system());
        let login = Login::new(None, None, None, time.clone());
        let client = Client::new(configs, "t".into(), time, login);
        let write = || async {
            let written = client.tables().delete_item().table_name("t").send().await;
            written.map(drop).map_err(Failure::from)
        };
        let within = Deadline::after(Duration::from_millis(300));
        client.call(RetrySafety::Write, within, write).await.expect_err("nobody answers")
    }

    #[tokio::test]
    async fn a_write_that_never_had_a_connection_did_not_happen() -> std::io::Result<()> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let full = socket.listen(1)?;
        let address = full.local_addr()?;
        let mut queue = Vec::new();
        // A connection behind these is neither accepted nor refused.
        while let Ok(there) =
            tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await
        {
            queue.push(there?);
        }
        assert_eq!(write_to(address).await.kind(), ErrorKind::Timeout);
        Ok(())
    }

    #[tokio::test]
    async fn of_a_write_that_was_sent_nobody_knows() -> std::io::Result<()> {
        let silent = TcpListener::bind("127.0.0.1:0").await?;
        assert_eq!(write_to(silent.local_addr()?).await.kind(), ErrorKind::OutcomeUnknown);
        Ok(())
    }
}
