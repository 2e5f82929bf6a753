//! Visitors, and what they got in a few words.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Result;
use leeward_tests::client::{Ask, Crowd, Reply};

/// The longest that a lone visitor waits.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a visitor got.
#[derive(Debug)]
pub(crate) struct Visit {
    /// None if there was no whole answer.
    pub(crate) reply: Option<Reply>,
    /// Until it was there, or was no longer waited for.
    pub(crate) took: Duration,
}

impl Visit {
    pub(crate) fn is_ok(&self) -> bool {
        self.status() == 200
    }

    /// 0 if there was no answer.
    pub(crate) fn status(&self) -> u16 {
        self.reply.as_ref().map_or(0, |reply| reply.status.as_u16())
    }

    /// Whether it is an answer, or says when to come back.
    pub(crate) fn is_told(&self) -> bool {
        let told = |reply: &Reply| !reply.header("retry-after").is_empty();
        self.is_ok() || self.reply.as_ref().is_some_and(told)
    }

    pub(crate) fn body(&self) -> String {
        self.reply.as_ref().map_or(String::new(), Reply::text)
    }
}

impl From<Result<Reply>> for Visit {
    fn from(reply: Result<Reply>) -> Self {
        let reply = reply.ok();
        let took = reply.as_ref().map_or(Duration::ZERO, |reply| reply.took);
        Visit { reply, took }
    }
}

/// One visitor, who waits for at most `limit`.
pub(crate) async fn visit(node: SocketAddr, ask: &Ask, limit: Duration) -> Visit {
    let began = Instant::now();
    let reply = tokio::time::timeout(limit, ask.to(node)).await;
    Visit {
        reply: reply.ok().and_then(Result::ok),
        took: began.elapsed(),
    }
}

/// One visitor of a page, whose patience is long.
pub(crate) async fn get(node: SocketAddr, path: &str) -> Visit {
    visit(node, &Ask::get(path), PATIENCE).await
}

/// So many visitors of one page, at once, who take the nodes in turn.
pub(crate) async fn crowd(nodes: &[SocketAddr], size: usize, path: &str) -> Vec<Visit> {
    each(nodes, vec![Ask::get(path); size]).await
}

/// A visitor for each request, all at once, who take the nodes in turn.
pub(crate) async fn each(nodes: &[SocketAddr], asks: Vec<Ask>) -> Vec<Visit> {
    let replies = Crowd::connect(nodes, asks.len()).await.ask_each(asks).await;
    replies.into_iter().map(Visit::from).collect()
}

/// Whether all were answered 200.
pub(crate) fn all_ok(visits: &[Visit]) -> bool {
    visits.iter().all(Visit::is_ok)
}

/// What became of them, such as `all answered` or `91 × 200, 309 × 503`.
pub(crate) fn statuses(visits: &[Visit]) -> String {
    if all_ok(visits) {
        return "all answered".to_owned();
    }
    let mut counts = BTreeMap::new();
    for visit in visits {
        *counts.entry(visit.status()).or_insert(0_usize) += 1;
    }
    let told = counts.iter().map(|(status, count)| match status {
        0 => format!("{count} × no answer"),
        _ => format!("{count} × {status}"),
    });
    told.collect::<Vec<_>>().join(", ")
}

/// The time within which 99 of 100 had what they got, such as `0.52 s`.
pub(crate) fn p99(visits: &[Visit]) -> String {
    let mut times: Vec<_> = visits.iter().map(|visit| visit.took).collect();
    times.sort();
    let last = times.len().saturating_sub(1);
    let time = times.get((times.len() * 99 / 100).min(last));
    seconds(time.copied().unwrap_or_default())
}

/// The longest time.
pub(crate) fn slowest<'a>(visits: impl IntoIterator<Item = &'a Visit>) -> Duration {
    let times = visits.into_iter().map(|visit| visit.took);
    times.max().unwrap_or_default()
}

/// Such as `0.52 s` or `12 s`.
pub(crate) fn seconds(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        ..1.0 => format!("{seconds:.2} s"),
        ..20.0 => format!("{seconds:.1} s"),
        _ => format!("{seconds:.0} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_visitors_got_is_told_in_a_few_words() {
        let none = |millis| Visit {
            reply: None,
            took: Duration::from_millis(millis),
        };
        let visits: Vec<_> = (1..=200).map(none).collect();
        assert_eq!(statuses(&visits), "200 × no answer");
        assert_eq!(p99(&visits), "0.20 s");
        assert_eq!(p99(&[]), "0.00 s");
        assert_eq!(slowest(&visits), Duration::from_millis(200));
        assert_eq!(seconds(Duration::from_millis(12_340)), "12.3 s");
        assert_eq!(seconds(Duration::from_millis(92_340)), "92 s");
        assert!(!all_ok(&visits) && all_ok(&[]));
    }
}
