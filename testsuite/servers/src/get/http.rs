//! A plain download from a mirror, for machines without apt. What comes is checked by its sum, so
//! no TLS is needed.

use std::{
    env,
    io::{Read, Write},
    net::{TcpStream, ToSocketAddrs},
    time::Duration,
};

/// The time that connecting may take, and the time between two pieces of an answer.
const PATIENCE: Duration = Duration::from_secs(30);
const REDIRECTS: usize = 5;

/// Returns what lies at the URL.
pub(super) fn get(url: &str) -> Result<Vec<u8>, String> {
    let mut url = url.to_owned();
    for _ in 0..=REDIRECTS {
        match ask(&url)? {
            Answer::Body(body) => return Ok(body),
            Answer::Moved(to) => url = to,
        }
    }
    Err(format!("more than {REDIRECTS} redirects"))
}

enum Answer {
    Body(Vec<u8>),
    Moved(String),
}

fn ask(url: &str) -> Result<Answer, String> {
    let (host, path) = parts(url)?;
    let proxy = env::var("http_proxy").ok().filter(|proxy| !proxy.is_empty() && !is_loopback(host));
    // A proxy is told the whole URL.
    let (at, target) = match &proxy {
        Some(proxy) => (parts(proxy)?.0, url),
        None => (host, path),
    };
    let mut stream = connect(at)?;
    // HTTP/1.0 is asked for, so that the end of the connection is that of the answer.
    let request = format!("GET {target} HTTP/1.0\r\nHost: {host}\r\nUser-Agent: kv-servers\r\n\r\n");
    let mut answer = Vec::new();
    stream
        .write_all(request.as_bytes())
        .and_then(|()| stream.read_to_end(&mut answer))
        .map_err(|e| format!("{at}: {e}"))?;
    read(answer)
}

fn parts(url: &str) -> Result<(&str, &str), String> {
    let rest = url.strip_prefix("http://").ok_or_else(|| {
        format!("{url:?} is not plain http, which is all that is spoken without apt; sums are checked anyway")
    })?;
    let end = rest.find('/').unwrap_or(rest.len());
    Ok((&rest[..end], if end == rest.len() { "/" } else { &rest[end..] }))
}

fn is_loopback(host: &str) -> bool {
    ["127.", "localhost", "[::1]"].iter().any(|own| host.starts_with(own))
}

fn connect(host: &str) -> Result<TcpStream, String> {
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let at = if has_port { host.to_owned() } else { format!("{host}:80") };
    let mut last = format!("{at} has no address");
    for address in at.to_socket_addrs().map_err(|e| format!("{at}: {e}"))? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE)).map_err(|e| e.to_string())?;
                return Ok(stream);
            }
            Err(e) => last = format!("{address}: {e}"),
        }
    }
    Err(last)
}

fn read(mut answer: Vec<u8>) -> Result<Answer, String> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").ok_or("an answer without a head")?;
    let body = answer.split_off(end + 4);
    let head = String::from_utf8_lossy(&answer);
    let field = |wanted: &str| {
        let of = head.lines().filter_map(|line| line.split_once(':'));
        of.filter(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim()).next()
    };
    match head.split(' ').nth(1).unwrap_or_default() {
        "200" => match field("content-length").and_then(|length| length.parse::<usize>().ok()) {
            Some(length) if length != body.len() => Err(format!("{} of {length} bytes came", body.len())),
            _ => Ok(Answer::Body(body)),
        },
        "301" | "302" | "303" | "307" | "308" => {
            Ok(Answer::Moved(field("location").ok_or("a redirect without a place")?.to_owned()))
        }
        _ => Err(head.lines().next().unwrap_or_default().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, parts, read};

    #[test]
    fn what_is_cut_short_is_no_package() {
        let whole = b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nfour";
        assert!(matches!(read(whole.to_vec()), Ok(Answer::Body(body)) if body == b"four"));
        assert!(read(whole[..whole.len() - 1].to_vec()).is_err());
        assert!(read(b"HTTP/1.0 200".to_vec()).is_err());
    }

    #[test]
    fn a_redirect_is_no_package() {
        let moved = b"HTTP/1.1 302 Found\r\nlocation: http://other/x\r\n\r\nhere";
        assert!(matches!(read(moved.to_vec()), Ok(Answer::Moved(to)) if to == "http://other/x"));
        assert!(read(b"HTTP/1.1 404 Not Found\r\n\r\nno".to_vec()).is_err());
    }

    #[test]
    fn urls_have_a_host_and_a_path() {
        assert_eq!(parts("http://h:8/a/b"), Ok(("h:8", "/a/b")));
        assert_eq!(parts("http://h"), Ok(("h", "/")));
        assert!(parts("https://h/").unwrap_err().contains("plain http"));
    }
}
