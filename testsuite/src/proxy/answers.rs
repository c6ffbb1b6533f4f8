//! Answers that are not the server's.

use std::io;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Reads one request, whatever it asks, gives this answer, and ends the connection.
pub(super) async fn give(client: &mut TcpStream, answer: &[u8]) -> io::Result<()> {
    let (mut asked, mut piece) = (Vec::new(), vec![0; 16 << 10]);
    while !is_whole(&asked) {
        let read = client.read(&mut piece).await?;
        if read == 0 {
            return Ok(());
        }
        asked.extend_from_slice(&piece[..read]);
    }
    client.write_all(answer).await?;
    client.shutdown().await?;
    // The client reads the answer first: to end the connection before that would be a reset, which
    // may overtake the answer.
    while client.read(&mut piece).await? > 0 {}
    Ok(())
}

/// Tells whether this is a request with all of its body. Bytes that are no HTTP have neither head
/// nor body, and are answered at once.
fn is_whole(asked: &[u8]) -> bool {
    let Some(first) = asked.windows(2).position(|two| two == b"\r\n") else {
        // The longest line is that of a request, with a name of a thousand bytes, escaped.
        return asked.contains(&0) || asked.len() > 16 << 10;
    };
    if !asked[..first].windows(8).any(|word| word == b" HTTP/1.") {
        return true;
    }
    let Some(head) = asked.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let (head, body) = (String::from_utf8_lossy(&asked[..head]).to_lowercase(), &asked[head + 4..]);
    let of = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    match of("content-length:").and_then(|length| length.parse::<usize>().ok()) {
        Some(length) => body.len() >= length,
        None if of("transfer-encoding:").is_some() => body.ends_with(b"0\r\n\r\n"),
        None => true,
    }
}
