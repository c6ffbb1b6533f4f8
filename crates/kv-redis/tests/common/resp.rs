//! The server's bare protocol, in its second version, as its own tools speak it.

use kv_testsuite::Failure;
use std::{future::Future, net::SocketAddr, pin::Pin};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Text(Vec<u8>),
    Number(i64),
    Nothing,
    Error(String),
    List(Vec<Reply>),
}

impl Reply {
    pub fn text(&self) -> String {
        match self {
            Self::Text(text) => String::from_utf8_lossy(text).into_owned(),
            other => format!("{other:?}"),
        }
    }

    pub fn list(self) -> Vec<Reply> {
        match self {
            Self::List(parts) => parts,
            _ => Vec::new(),
        }
    }
}

pub struct Resp(BufReader<TcpStream>);

impl Resp {
    pub async fn connect(address: SocketAddr) -> Result<Self, Failure> {
        Ok(Self(BufReader::new(TcpStream::connect(address).await?)))
    }

    pub async fn ask(&mut self, parts: &[&[u8]]) -> Result<Reply, Failure> {
        let mut request = format!("*{}\r\n", parts.len()).into_bytes();
        for part in parts {
            request.extend(format!("${}\r\n", part.len()).into_bytes());
            request.extend(*part);
            request.extend(b"\r\n");
        }
        self.0.write_all(&request).await?;
        self.reply().await
    }

    /// Sends a command of words without spaces.
    pub async fn say(&mut self, words: &str) -> Result<Reply, Failure> {
        let parts: Vec<_> = words.split(' ').map(str::as_bytes).collect();
        self.ask(&parts).await
    }

    /// Reads what the server sends next.
    pub async fn next(&mut self) -> Result<Reply, Failure> {
        self.reply().await
    }

    fn reply(&mut self) -> Pin<Box<dyn Future<Output = Result<Reply, Failure>> + Send + '_>> {
        Box::pin(async {
            let mut line = String::new();
            if self.0.read_line(&mut line).await? == 0 {
                return Err("the server ended the connection".into());
            }
            let line = line.trim_end();
            let (kind, rest) = line.split_at_checked(1).ok_or("an empty line")?;
            Ok(match kind {
                "+" => Reply::Text(rest.into()),
                "-" => Reply::Error(rest.into()),
                ":" => Reply::Number(rest.parse()?),
                "$" if rest == "-1" => Reply::Nothing,
                "$" => {
                    let mut text = vec![0; rest.parse::<usize>()? + 2];
                    self.0.read_exact(&mut text).await?;
                    text.truncate(text.len() - 2);
                    Reply::Text(text)
                }
                "*" if rest == "-1" => Reply::Nothing,
                "*" => {
                    let mut parts = Vec::new();
                    for _ in 0..rest.parse::<usize>()? {
                        parts.push(self.reply().await?);
                    }
                    Reply::List(parts)
                }
                _ => return Err(format!("{line:?} is none of the protocol's").into()),
            })
        })
    }
}

impl Resp {
    /// Returns the number of times that the server has served this command, by its own count.
    pub async fn calls(&mut self, command: &str) -> Result<usize, Failure> {
        let stats = self.say("INFO commandstats").await?.text();
        let begin = format!("cmdstat_{command}:calls=");
        let count = stats.lines().find_map(|line| line.strip_prefix(&begin)?.split(',').next());
        Ok(count.map(str::parse).transpose()?.unwrap_or(0))
    }
}

/// Returns the number of commands that clients have sent. Commands that scripts run are counted by
/// the server too, and left out here; so are `PUBSUB` and `HELLO`, by which a connection for
/// watches is checked, both every five seconds.
pub async fn requests(resp: &mut Resp) -> Result<u64, Failure> {
    let stats = resp.say("INFO commandstats").await?.text();
    let ours = ["evalsha", "eval", "script|exists", "script|load", "ssubscribe", "sunsubscribe", "scan"];
    let of = |line: &str| -> Option<u64> {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        ours.contains(&name).then(|| rest.split(',').next()?.parse().ok())?
    };
    Ok(stats.lines().filter_map(of).sum())
}
