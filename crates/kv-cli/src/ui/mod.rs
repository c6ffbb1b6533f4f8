//! `ui`: a page of this machine that shows a store.
//!
//! Who knows its URL may see the store, and nobody else: the URL has a token, only this machine can
//! connect, and requests of other pages are refused, those too that reach it by another name.

mod answer;
mod edits;
mod feed;
mod guard;
mod records;
mod views;

#[cfg(test)]
mod browser;
#[cfg(test)]
#[path = "../../tests/cli/http.rs"]
mod http;
#[cfg(test)]
mod tests;

use crate::{
    commands::terms::Named,
    exit::{Exit, Failure, Run},
    guarded::Signals,
    lines::V,
    out::Out,
};
use answer::{answer, not_found, text};
use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use clap::Args;
use kv_core::{Directory, Kv};
use serde::Serialize;
use std::{
    fs::File,
    io::Read,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};
use tokio::net::TcpListener;

/// The bytes of a token: more than anybody can guess.
const TOKEN: usize = 16;

/// The arguments of `ui`.
#[derive(Args, Debug)]
pub(crate) struct UiArgs {
    #[command(flatten)]
    pub(crate) named: Named,
    /// Shows what lies below this directory; all names are those in it
    #[arg(long, short, value_name = "DIRECTORY", default_value = "/")]
    directory: Directory,
    /// Allows edits, deletions, and breaking locks; without it the page is read-only
    #[arg(long, short)]
    write: bool,
    /// The port on 127.0.0.1; unless given, the system chooses a free one
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    port: u16,
}

#[derive(Serialize)]
struct UiLine<'a> {
    v: u8,
    url: &'a str,
    writable: bool,
}

pub(crate) async fn ui(args: UiArgs, kv: &Kv, out: &mut Out) -> Run {
    let mut signals = Signals::catch()?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, args.port));
    let listener = TcpListener::bind(address).await;
    let listener =
        listener.map_err(|e| Failure::here(format!("{address} cannot be listened on: {e}; give --port")))?;
    let site = Site::new(kv.within(&args.directory)?, args.write, &listener)?;
    let url = site.url();
    if out.is_json() {
        out.object(&UiLine { v: V, url: &url, writable: args.write })?;
    } else {
        out.line(&url)?;
    }
    out.flush()?;
    tokio::select! {
        biased;
        signal = signals.ending() => Ok(Exit::of_signal(signal.as_raw())),
        failure = serve(site, listener) => Err(failure),
    }
}

/// The page, and what it shows.
pub(crate) struct Site {
    kv: Kv,
    token: String,
    port: u16,
    is_writable: bool,
}

impl Site {
    fn new(kv: Kv, is_writable: bool, listener: &TcpListener) -> Run<Self> {
        let failed = |what: &str, e| Failure::here(format!("{what}: {e}"));
        let port = listener.local_addr().map_err(|e| failed("the port is not known", e))?.port();
        let mut random = [0; TOKEN];
        let read = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut random));
        read.map_err(|e| failed("no token can be made: /dev/urandom cannot be read", e))?;
        let token = random.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { kv, token, port, is_writable })
    }

    fn path(&self) -> String {
        format!("/{}/", self.token)
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}{}", self.port, self.path())
    }
}

/// Answers requests until that fails.
async fn serve(site: Site, listener: TcpListener) -> Failure {
    // A value in base64, with its key.
    let most = site.kv.capabilities().max_value / 2 * 3 + (4 << 10);
    let pages = Router::new().fallback(handle).layer(DefaultBodyLimit::max(most)).with_state(Arc::new(site));
    match axum::serve(listener, pages).await {
        Ok(()) => Failure::here("the page has ended"),
        Err(e) => Failure::here(format!("the page has ended: {e}")),
    }
}

async fn handle(State(site): State<Arc<Site>>, request: Request) -> Response {
    let answer = match guard::admit(&site, &request) {
        // The files of the page are named from there.
        Ok(_) if !request.uri().path().ends_with('/') && request.uri().path().matches('/').count() == 1 => {
            (StatusCode::PERMANENT_REDIRECT, [(header::LOCATION, site.path())]).into_response()
        }
        Ok(path) => route(&site, &path, request).await,
        Err(why) => text(StatusCode::FORBIDDEN, &why),
    };
    guard::close(answer)
}

async fn route(site: &Arc<Site>, path: &str, request: Request) -> Response {
    let query = request.uri().query().unwrap_or_default().to_owned();
    match (request.method(), path) {
        (&Method::GET, "") => file("text/html; charset=utf-8", include_str!("page.html")),
        (&Method::GET, "page.css") => file("text/css; charset=utf-8", include_str!("page.css")),
        (&Method::GET, "page.js") => file("text/javascript; charset=utf-8", include_str!("page.js")),
        (&Method::GET, "store") => answer(views::store(site)),
        (&Method::GET, "list") => answer(Box::pin(views::list(site, &query)).await),
        (&Method::GET, "key") => Box::pin(views::key(site, &query)).await,
        (&Method::GET, "locks") => answer(Box::pin(views::locks(site)).await),
        (&Method::GET, "events") => feed::feed(site),
        (&Method::POST, "put" | "delete" | "break") => {
            let what = path.to_owned();
            Box::pin(edits::edit(site, &what, request)).await
        }
        (&Method::GET | &Method::POST, _) => not_found("there is no such page"),
        _ => text(StatusCode::METHOD_NOT_ALLOWED, "this page is read by GET and changed by POST"),
    }
}

fn file(kind: &'static str, content: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind)], content).into_response()
}
