//! The nemesis: it strikes servers and links while the workloads run.

use super::{
    chance::Chance,
    field::{Blow, Field},
};
use crate::{Harness, Proxy, Server};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

mod foreign;

pub use super::stroke::{ALL, Stroke};

use Stroke::*;

const LONGEST_CALM: Duration = Duration::from_secs(6);

impl Stroke {
    /// Tells whether it can be brought about here.
    pub fn can_fall_on(self, harness: &dyn Harness) -> bool {
        match self {
            KillClient | PauseClient => false,
            Kill | Stop | Pause | Restore => harness.server().is_some(),
            NotFound | Forbidden | TooMany => harness.address().is_some() && harness.speaks_http(),
            Foreign => harness.foreign().is_some(),
            stroke if stroke.is_the_servers() => {
                harness.troubles().is_some_and(|troubles| troubles.known().contains(&stroke))
            }
            _ => harness.address().is_some(),
        }
    }
}

/// Returns an answer that does not come from the server: one of HTTP/1, or nothing.
fn answer(stroke: Stroke) -> String {
    let (status, kind, body) = match stroke {
        HangUp => return String::new(),
        NotFound => ("404 Not Found", "text/plain", "no route\n"),
        Page => ("200 OK", "text/html", "<!DOCTYPE html><title>Sign in</title>\n"),
        Forbidden => ("403 Forbidden", "text/html", "<html>blocked by policy</html>\n"),
        _ => ("429 Too Many Requests", "text/plain", "slow down\n"),
    };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// Strikes by these kinds, alone and two at once, until the round is over, and puts all right
/// after each.
pub async fn strike(field: &Field, strokes: &[Stroke], calm: (u64, u64)) {
    let mut chance = field.chance("nemesis");
    let is_saved = match field.harness().server() {
        Some(server) if strokes.contains(&Restore) => server.save().await,
        _ => false,
    };
    let strokes: Vec<Stroke> =
        strokes.iter().copied().filter(|stroke| *stroke != Restore || is_saved).collect();
    if strokes.is_empty() {
        return;
    }
    // A cluster needs as long to find itself again as it was in trouble.
    let is_cluster = field.harness().troubles().is_some_and(|troubles| troubles.members() > 1);
    let mut took = Duration::ZERO;
    loop {
        let quiet = chance.millis(calm.0, calm.1).max(took.min(LONGEST_CALM));
        let began = Instant::now();
        // Each stroke has random numbers of its own, from what the nemesis would draw next.
        let seed = chance.clone().below(usize::MAX) as u64;
        let (mut one, mut other) = (Chance::new(seed, "first"), Chance::new(seed, "second"));
        tokio::time::sleep(quiet).await;
        if field.is_over() {
            return;
        }
        let (first, second) = (draw(&strokes, &mut chance), draw(&strokes, &mut chance));
        let is_pair = first.is_on_server() != second.is_on_server() && chance.one_in(3);
        if is_pair {
            tokio::join!(fall(field, first, &mut one), fall(field, second, &mut other));
        } else {
            fall(field, first, &mut one).await;
        }
        took = if is_cluster { began.elapsed().saturating_sub(quiet) } else { Duration::ZERO };
    }
}

fn draw(strokes: &[Stroke], chance: &mut Chance) -> Stroke {
    // This stroke meets one request, where others meet all requests of a while; and most mistakes
    // are about it.
    if chance.one_in(4) && strokes.contains(&LoseAnswer) {
        return LoseAnswer;
    }
    let stroke = *chance.pick(strokes);
    // These are many kinds of one trouble, which is not to come much more often than others.
    if stroke.is_answer() && !chance.one_in(3) { *chance.pick(strokes) } else { stroke }
}

async fn fall(field: &Field, stroke: Stroke, chance: &mut Chance) {
    let began = field.now();
    let met = if stroke == Foreign {
        foreign::write(field, chance).await
    } else if stroke.is_the_servers() {
        troubles(field, stroke, chance).await
    } else if stroke.is_on_server() {
        let Some(server) = field.harness().server() else { return };
        on_server(&*server, stroke, chance).await;
        "the server".to_owned()
    } else {
        let all = field.proxies();
        if all.is_empty() {
            return;
        }
        let met: Vec<_> = match chance.one_in(3) {
            true => all.clone(),
            false => all.iter().filter(|_| chance.one_in(2)).cloned().collect(),
        };
        let met = if met.is_empty() { vec![chance.pick(&all).clone()] } else { met };
        on_links(&met, stroke, chance).await;
        format!("{} of {} links", met.len(), all.len())
    };
    let label = format!("{} ({met})", stroke.name());
    field.struck(Blow { stroke, label, began, ended: field.now() });
}

/// Brings about a stroke that the server's own kind can have, and ends it; returns what it met.
async fn troubles(field: &Field, stroke: Stroke, chance: &mut Chance) -> String {
    let Some(troubles) = field.harness().troubles() else { return "nothing".into() };
    let member = chance.below(troubles.members());
    let begun = troubles.begin(stroke, member).await;
    if begun.is_ok() {
        tokio::time::sleep(chance.millis(50, 2500)).await;
    }
    let ended = troubles.end(stroke).await;
    match (begun, ended) {
        (Ok(()), Ok(())) if troubles.members() > 1 => format!("member {member}, or who leads"),
        (Ok(()), Ok(())) => "the server".into(),
        (Err(e), Ok(())) => format!("nothing: {e}"),
        // After this, nothing shows anything.
        (_, Err(e)) => {
            field.spoil(format!("{} could not be put right: {e}", stroke.name()));
            format!("for good: {e}")
        }
    }
}

async fn on_server(server: &dyn Server, stroke: Stroke, chance: &mut Chance) {
    let away = chance.millis(50, 2500);
    match stroke {
        Kill => {
            server.kill().await;
            tokio::time::sleep(away).await;
            server.start().await;
        }
        Stop => {
            server.stop().await;
            tokio::time::sleep(away).await;
            server.start().await;
        }
        Restore => server.restore_saved().await,
        _ => {
            server.pause().await;
            tokio::time::sleep(away).await;
            server.resume().await;
        }
    }
}

async fn on_links(links: &[Arc<Proxy>], stroke: Stroke, chance: &mut Chance) {
    let time = chance.millis(50, 2500);
    match stroke {
        Cut => {
            for link in links {
                link.cut().await;
            }
        }
        Reset => {
            for link in links {
                link.reset().await;
            }
            return;
        }
        Freeze => links.iter().for_each(|link| link.freeze()),
        LoseRequests => links.iter().for_each(|link| link.freeze_requests()),
        HoldAnswers => links.iter().for_each(|link| link.freeze_answers()),
        LoseAnswer => {
            // A client may ask nothing for long, so the wait has a limit; `moment` is for the
            // server to do what is asked.
            let (time, moment) = (time.min(Duration::from_millis(500)), chance.millis(5, 300));
            let each = links.iter().map(async |link| {
                link.hold_next_answer();
                let _ = tokio::time::timeout(time, link.trapped()).await;
                tokio::time::sleep(moment).await;
                link.reset().await;
                link.heal().await;
            });
            futures::future::join_all(each).await;
            return;
        }
        Strand => links.iter().for_each(|link| link.strand()),
        Slow => links.iter().for_each(|link| link.delay(Duration::from_millis(40))),
        other => {
            for link in links {
                link.answer_for_server(answer(other)).await;
            }
        }
    }
    tokio::time::sleep(time).await;
    if stroke == LoseRequests {
        for link in links {
            link.reset().await;
        }
    }
    for link in links {
        link.heal().await;
    }
}
