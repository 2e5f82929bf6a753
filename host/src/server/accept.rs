//! Accepting connections on all addresses, and stopping: what is in flight may finish for a
//! while, and what is left is cut.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::connection::Line;
use super::connections::Connections;
use super::limits::Limits;
use super::protocol::serve_connection;
use crate::drain::Stop;
use crate::reload::Site;
use crate::{notify, report};

/// Pause after the system failed to accept a connection, for instance because
/// there are no file descriptors left.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// Pause between two lines in the log about connections that could not be accepted.
const REPORT_EVERY: Duration = Duration::from_secs(60);

/// Serves on all of `listeners` until it is asked to stop. Then no connection is accepted,
/// those without a request are closed, and the requests in flight get `--drain`.
pub(crate) async fn serve(
    listeners: Vec<TcpListener>,
    site: Arc<Site>,
    limits: Limits,
    mut stop: Stop,
) {
    let connections = connections(&limits);
    let accepting = listeners
        .into_iter()
        .map(|listener| accept(listener, &connections, &site, &limits));
    let accepting = join_all(accepting);
    tokio::select! {
        _ = accepting => {}
        () = stop.asked() => {}
    }
    // The listeners are closed now: the system refuses further connections.
    let finish = async {
        connections.stop().await;
        site.close().await;
    };
    notify::stopping();
    let patience = limits.clients.drain;
    let in_flight = || connections.requests();
    report::event(
        "stopping",
        format_args!(
            "stopping: no new connections; requests in flight: {}, they get {}",
            in_flight(),
            humantime::format_duration(patience)
        ),
    );
    match drain(finish, patience, stop.asked()).await {
        Drained::All => report::event("stopped", "stopped: nothing was cut"),
        end => {
            site.cut();
            report::event("requests-cut", cut(in_flight(), end, patience));
        }
    }
}

/// How the time after the first signal ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Drained {
    /// All work was finished.
    All,
    /// It took too long.
    Late,
    /// A second signal came.
    Hurried,
}

async fn drain(
    finish: impl Future<Output = ()>,
    patience: Duration,
    again: impl Future<Output = ()>,
) -> Drained {
    tokio::select! {
        biased;
        () = finish => Drained::All,
        () = again => Drained::Hurried,
        () = tokio::time::sleep(patience) => Drained::Late,
    }
}

/// What the log says of requests that are cut.
fn cut(requests: usize, end: Drained, patience: Duration) -> String {
    let when = match end {
        Drained::Late => format!("after {} (--drain)", humantime::format_duration(patience)),
        Drained::Hurried | Drained::All => "at a second signal".to_owned(),
    };
    match requests {
        0 => format!("stopped {when}: no request was cut, work behind answers was"),
        requests => format!("stopped {when}: requests cut: {requests}"),
    }
}

/// Accepts connections on one address, for ever.
async fn accept(
    listener: TcpListener,
    connections: &Arc<Connections>,
    site: &Arc<Site>,
    limits: &Limits,
) {
    let mut refused = None;
    loop {
        let slot = connections.slot().await;
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // If there are no files left, connections without a request have some.
                connections.close_idle();
                if is_due(&mut refused) {
                    report::event(
                        "accept-failed",
                        format_args!("cannot accept a connection: {error}"),
                    );
                }
                tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
                continue;
            }
        };
        let line = Line::new(stream, limits.patience());
        let Some(place) = connections.admit(slot, peer, &line) else {
            continue;
        };
        let serving = serve_connection(line, peer, Arc::clone(site), limits.clone());
        tokio::spawn(async move {
            serving.await;
            drop(place);
        });
    }
}

/// The connections that clients may have.
fn connections(limits: &Limits) -> Arc<Connections> {
    let (most, is_less) = limits.connections();
    if is_less {
        report::event(
            "connections-limited",
            format_args!(
                "there are at most {most} connections instead of --connections: this process may \
                 open {} files; raise its limit (LimitNOFILE in systemd, ulimit -n)",
                limits.files
            ),
        );
    }
    Connections::new(most, limits.clients.connections_per_client)
}

/// Whether a line that was last written at `last` is due again. Then it is written now.
fn is_due(last: &mut Option<Instant>) -> bool {
    let now = Instant::now();
    let is_due = last.is_none_or(|at| now.saturating_duration_since(at) >= REPORT_EVERY);
    if is_due {
        *last = Some(now);
    }
    is_due
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn work_is_waited_for_until_it_ends_or_takes_too_long_or_a_second_signal_comes() {
        let after = |seconds| tokio::time::sleep(Duration::from_secs(seconds));
        let long = after(29);
        assert_eq!(drain(long, PATIENCE, pending()).await, Drained::All);
        let longer = after(31);
        assert_eq!(drain(longer, PATIENCE, pending()).await, Drained::Late);
        let again = after(2);
        assert_eq!(drain(pending(), PATIENCE, again).await, Drained::Hurried);
        assert_eq!(drain(ready(()), PATIENCE, ready(())).await, Drained::All);
    }

    #[test]
    fn the_log_says_how_many_requests_were_cut_and_why() {
        for (requests, end, text) in [
            (
                3,
                Drained::Late,
                "stopped after 30s (--drain): requests cut: 3",
            ),
            (
                1,
                Drained::Hurried,
                "stopped at a second signal: requests cut: 1",
            ),
            (
                0,
                Drained::Late,
                "stopped after 30s (--drain): no request was cut, work behind answers was",
            ),
        ] {
            assert_eq!(cut(requests, end, PATIENCE), text);
        }
    }
}
