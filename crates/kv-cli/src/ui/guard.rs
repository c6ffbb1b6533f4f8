//! Refuses requests of anybody but the user and the page itself, and tells the browser what it may
//! do with the answers.

use super::Site;
use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::Response,
};

/// Returns the path of a request behind the token, or why it is refused.
pub(super) fn admit(site: &Site, request: &Request) -> Result<String, String> {
    let refused = |why: &str| Err(why.to_owned());
    let headers = request.headers();
    // A name that somebody has made to lead here is not one of these.
    let hosts = [format!("127.0.0.1:{}", site.port), format!("localhost:{}", site.port)];
    let host = value(headers, &header::HOST);
    let Some(host) = host.filter(|host| hosts.iter().any(|known| known == host)) else {
        return refused(&format!("this page is for {} alone", hosts[0]));
    };
    let origin = value(headers, &header::ORIGIN);
    if headers.contains_key(header::ORIGIN) && origin != Some(format!("http://{host}").as_str()) {
        return refused("another page may not use this one");
    }
    // `none` is a person, by the address line or a link in a terminal.
    let site_of = value(headers, &HeaderName::from_static("sec-fetch-site"));
    if site_of.is_some_and(|from| !matches!(from, "same-origin" | "none")) {
        return refused("another page may not use this one");
    }
    let path = request.uri().path().strip_prefix('/').unwrap_or_default();
    let (token, rest) = path.split_once('/').unwrap_or((path, ""));
    if !is_same(token, &site.token) {
        return refused("the token in the URL is missing or wrong; open the URL that `kv ui` printed");
    }
    Ok(rest.to_owned())
}

fn value<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Compares in a time that does not tell how much is right.
fn is_same(given: &str, token: &str) -> bool {
    let differs = given.bytes().zip(token.bytes()).fold(0, |differs, (a, b)| differs | (a ^ b));
    given.len() == token.len() && differs == 0
}

/// Adds to an answer what the browser may do with it: nothing but show it, and ask here.
pub(super) fn close(mut answer: Response) -> Response {
    let rules = [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'",
        ),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    for (name, rule) in rules {
        answer.headers_mut().insert(name, HeaderValue::from_static(rule));
    }
    answer
}
