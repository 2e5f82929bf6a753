//! `leeward origin`: a stand-in for the fragile server that Leeward protects.
//!
//! It answers JSON under any path (`private` under `/private/`), takes its time over it, and falls over when
//! more requests are in it at once than it has capacity for: every open
//! connection is reset and new ones are refused until it has restarted. It
//! counts what reached it, so that a test or the demo can say how well it was
//! shielded. It knows nothing of the shield.
//!
//! - `server` listens, crashes and comes back,
//! - `answer` turns one request into a response,
//! - `content` decides which version of a path there is: counter and ETag,
//! - `counters` counts requests and how many are in flight at once,
//! - `per_path` bounds what is remembered by path,
//! - `signals` tells a command that it was asked to stop.

mod answer;
mod content;
mod counters;
mod per_path;
mod server;
pub(crate) mod signals;

use std::io::Write;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;

pub(crate) use self::answer::{Latency, PRIVATE_PATH};
pub(crate) use self::counters::{Sample, Stats};
pub(crate) use self::per_path::PATHS_MAX;
pub(crate) use self::server::{Options, Origin};

/// Longest duration that is accepted on the command line: longer ones are slips
/// of the pen, and sums with them could leave the range of a clock.
const DURATION_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What `leeward origin` can be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Address to listen on; port 0 takes any free port
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,

    /// Most requests that it survives at once; one more and it crashes
    #[arg(long, value_name = "N", default_value = "8")]
    capacity: NonZeroU32,

    /// Time that each request takes
    #[arg(long, value_name = "DURATION", default_value = "300ms", value_parser = duration)]
    latency: Duration,

    /// Time for which it refuses connections after a crash
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    crash_for: Duration,

    /// `max-age` of its responses, in whole seconds
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = whole_seconds)]
    ttl: Duration,

    /// `stale-while-revalidate` of its responses, in whole seconds
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = whole_seconds)]
    stale_while_revalidate: Duration,
}

/// Runs the stand-in until it is told to stop.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut signals = signals::Signals::listen()?;
    let origin = Origin::start(Options {
        listen: args.listen,
        capacity: args.capacity,
        latency: Latency::Fixed(args.latency),
        crash_for: args.crash_for,
        ttl: args.ttl,
        stale_while_revalidate: args.stale_while_revalidate,
        announce: true,
    })
    .with_context(|| format!("cannot listen on {}", args.listen))?;
    writeln!(std::io::stdout(), "Serving http://{}", origin.addr())?;
    signals.stop().await;
    origin.stop().await;
    Ok(ExitCode::SUCCESS)
}

/// Reads a duration with its unit, of at most [`DURATION_MAX`].
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if duration <= DURATION_MAX {
        Ok(duration)
    } else {
        Err(format!(
            "at most {}",
            humantime::format_duration(DURATION_MAX)
        ))
    }
}

/// Reads a duration that an HTTP header can carry: a whole number of seconds.
pub(crate) fn whole_seconds(text: &str) -> Result<Duration, String> {
    let duration = duration(text)?;
    if duration.subsec_nanos() == 0 {
        Ok(duration)
    } else {
        Err("Cache-Control counts whole seconds: write 1s, 2s, …".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parse(words: &[&str]) -> Result<Args, clap::Error> {
        Line::try_parse_from(["origin"].iter().chain(words)).map(|line| line.args)
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let args = parse(&[]).expect("no argument is needed");
        assert_eq!(args.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(args.capacity.get(), 8);
        assert_eq!(args.latency, Duration::from_millis(300));
        assert_eq!(args.crash_for, Duration::from_secs(10));
        assert_eq!(args.ttl, Duration::from_secs(2));
        assert_eq!(args.stale_while_revalidate, Duration::from_secs(30));
    }

    #[test]
    fn refuses_what_it_cannot_do() {
        for words in [
            ["--capacity", "0"],
            ["--listen", "8080"],
            ["--latency", "300"],
            ["--ttl", "500ms"],
            ["--stale-while-revalidate", "-1s"],
        ] {
            assert!(parse(&words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn durations_have_units_and_a_bound() {
        let cases = [
            ("0s", Some(Duration::ZERO)),
            ("300ms", Some(Duration::from_millis(300))),
            ("1m 30s", Some(Duration::from_secs(90))),
            ("365d", Some(DURATION_MAX)),
            ("366d", None),
            ("1000000000years", None),
            ("300", None),
            ("-1s", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(duration(text).ok(), expected, "{text:?}");
        }
    }

    #[test]
    fn whole_seconds_only() {
        let cases = [
            ("0s", Some(0)),
            ("2s", Some(2)),
            ("1m 5s", Some(65)),
            ("2000ms", Some(2)),
            ("2500ms", None),
            ("2", None),
            ("", None),
        ];
        for (text, seconds) in cases {
            assert_eq!(
                whole_seconds(text).ok(),
                seconds.map(Duration::from_secs),
                "{text:?}"
            );
        }
    }
}
