//! The access log: a line for each request that was answered.
//!
//! A thread writes it. What cannot be written in time is lost, and counted: a disk that is
//! slow or full delays no visitor.

mod sink;

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::mpsc::{self, SyncSender, TrySendError};
use std::time::Duration;

use anyhow::Context as _;
use http::{HeaderValue, Version};
use leeward::platform::log::{date, rfc3339};
use leeward::shield::platform::RequestId;
use leeward::time::Time;
use serde_json::json;

use self::sink::{Message, Sink};
use super::{observed, without_controls};

/// Most lines that wait to be written.
const WAITING_MAX: usize = 8_192;

/// Most bytes of a target or a field that a line has; more is cut off.
const TEXT_BYTES_MAX: usize = 2_048;

/// Longest that the end of the process waits for the last lines.
const FINISH_MAX: Duration = Duration::from_secs(1);

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// The Common Log Format, then seconds, outcome and request id
    Common,
    /// One JSON object a line
    Json,
    /// As common, with Referer and User-Agent after the size
    Combined,
}

/// A request that was answered.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) time: Time,
    pub(super) client: IpAddr,
    pub(super) method: &'a str,
    /// As the visitor sent it.
    pub(super) target: &'a str,
    pub(super) host: Option<&'a HeaderValue>,
    pub(super) version: Version,
    pub(super) status: u16,
    /// Bytes of content.
    pub(super) bytes: u64,
    /// From the head of the request to the end of the answer.
    pub(super) took: Duration,
    pub(super) outcome: &'static str,
    /// Why it was refused.
    pub(super) why: Option<&'static str>,
    pub(super) request: RequestId,
    pub(super) referer: Option<&'a HeaderValue>,
    pub(super) agent: Option<&'a HeaderValue>,
}

/// An open access log.
#[derive(Debug)]
pub(super) struct AccessLog {
    format: Format,
    lines: SyncSender<Message>,
}

impl AccessLog {
    /// Opens the file, or takes standard output.
    ///
    /// # Errors
    ///
    /// If the file cannot be written, or there can be no thread.
    pub(super) fn open(format: Format, path: Option<PathBuf>) -> anyhow::Result<Self> {
        let sink = match path {
            Some(path) => {
                let name = path.display().to_string();
                Sink::file(path).with_context(|| {
                    format!("cannot write {name}; write another --access-log-file FILE")
                })?
            }
            None => Sink::standard_output(),
        };
        let (lines, waiting) = mpsc::sync_channel(WAITING_MAX);
        std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || sink::run(sink, &waiting))
            .context("cannot start the thread of the access log")?;
        Ok(Self { format, lines })
    }

    /// Writes a line, or loses it.
    pub(super) fn write(&self, entry: &Entry<'_>) {
        let line = line(self.format, entry);
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
            self.lines.try_send(Message::Line(line))
        {
            lost(1);
        }
    }

    /// Waits until what was written before is in the file, for a bounded time.
    pub(super) async fn finish(&self) {
        let (written, all_written) = tokio::sync::oneshot::channel();
        if self.lines.try_send(Message::Finish(written)).is_ok() {
            drop(tokio::time::timeout(FINISH_MAX, all_written).await);
        }
    }
}

/// Counts lines that are lost.
fn lost(lines: u64) {
    if let Some(observed) = observed() {
        observed.metrics.access_lost(lines);
    }
    sink::note_lost(lines);
}

fn line(format: Format, entry: &Entry<'_>) -> String {
    match format {
        Format::Common => common(entry, ""),
        Format::Combined => {
            let quoted = |field: Option<&HeaderValue>| match field {
                Some(value) => escaped(value.as_bytes()),
                None => "-".to_owned(),
            };
            let (referer, agent) = (quoted(entry.referer), quoted(entry.agent));
            common(entry, &format!(" \"{referer}\" \"{agent}\""))
        }
        Format::Json => json_line(entry),
    }
}

fn common(entry: &Entry<'_>, further: &str) -> String {
    let method = escaped(entry.method.as_bytes());
    let target = escaped(entry.target.as_bytes());
    let (client, status, bytes) = (entry.client, entry.status, entry.bytes);
    let (version, time) = (version(entry.version), clf_time(entry.time));
    let (seconds, outcome) = (entry.took.as_secs_f64(), entry.outcome);
    let why = entry.why.map_or(String::new(), |why| format!(":{why}"));
    let request = entry.request;
    format!(
        "{client} - - [{time}] \"{method} {target} {version}\" {status} {bytes}{further} \
         {seconds:.6} {outcome}{why} {request}\n"
    )
}

fn json_line(entry: &Entry<'_>) -> String {
    let text = |field: Option<&HeaderValue>| field.map(|value| cut(value.as_bytes()));
    let line = json!({
        "time": rfc3339(entry.time),
        "client": entry.client.to_string(),
        "method": entry.method,
        "host": text(entry.host),
        "target": cut(entry.target.as_bytes()),
        "version": version(entry.version),
        "status": entry.status,
        "bytes": entry.bytes,
        "seconds": (entry.took.as_secs_f64() * 1e6).round() / 1e6,
        "outcome": entry.outcome,
        "why": entry.why,
        "request": entry.request.to_string(),
        "referer": text(entry.referer),
        "user_agent": text(entry.agent),
    });
    let mut text = without_controls(&line.to_string());
    text.push('\n');
    text
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}

/// A moment as the Common Log Format has it, in UTC: `30/Nov/2026:21:51:33 +0000`.
fn clf_time(time: Time) -> String {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let seconds = time.as_unix_millis() / 1_000;
    let (year, month, day) = date(seconds / 86_400);
    let month = usize::try_from(month).ok();
    let month = month.and_then(|month| MONTHS.get(month.checked_sub(1)?));
    let month = month.copied().unwrap_or("-");
    let (hour, minute) = (seconds / 3_600 % 24, seconds / 60 % 60);
    let second = seconds % 60;
    format!("{day:02}/{month}/{year:04}:{hour:02}:{minute:02}:{second:02} +0000")
}

fn cut(bytes: &[u8]) -> String {
    let part = bytes.get(..TEXT_BYTES_MAX).unwrap_or(bytes);
    String::from_utf8_lossy(part).into_owned()
}

/// What a visitor has sent, between quotes: a visitor makes neither a line nor a field of its
/// own, and no terminal obeys it. As Apache and nginx do it.
fn escaped(bytes: &[u8]) -> String {
    let part = bytes.get(..TEXT_BYTES_MAX).unwrap_or(bytes);
    let mut text = String::new();
    for &byte in part {
        match byte {
            b'"' | b'\\' => {
                text.push('\\');
                text.push(char::from(byte));
            }
            b' '..=b'~' => text.push(char::from(byte)),
            _ => {
                let _ = write!(text, "\\x{byte:02x}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn entry<'a>(referer: Option<&'a HeaderValue>) -> Entry<'a> {
        Entry {
            time: Time::from_unix_millis(1_000_000_000_007),
            client: [192, 0, 2, 7].into(),
            method: "GET",
            target: "/a?b=\"c",
            host: None,
            version: Version::HTTP_11,
            status: 503,
            bytes: 42,
            took: Duration::from_micros(1_500),
            outcome: "refused",
            why: Some("origin-busy"),
            request: RequestId(0xa5),
            referer,
            agent: None,
        }
    }

    #[test]
    fn the_common_and_the_combined_format_are_those_of_other_servers() {
        let referer = HeaderValue::from_static("http://a/");
        let before =
            "192.0.2.7 - - [09/Sep/2001:01:46:40 +0000] \"GET /a?b=\\\"c HTTP/1.1\" 503 42";
        let after = "0.001500 refused:origin-busy 00000000000000a5\n";
        let common = line(Format::Common, &entry(Some(&referer)));
        assert_eq!(common, format!("{before} {after}"));
        let combined = line(Format::Combined, &entry(Some(&referer)));
        assert_eq!(combined, format!("{before} \"http://a/\" \"-\" {after}"));
    }

    #[test]
    fn a_visitor_makes_no_line_of_its_own() {
        let forged = HeaderValue::from_bytes(b"x\" 200 \xc2\x9b2J\xff\t\\").unwrap();
        let combined = line(Format::Combined, &entry(Some(&forged)));
        let shown = "\"x\\\" 200 \\xc2\\x9b2J\\xff\\x09\\\\\"";
        assert!(combined.contains(shown), "{combined}");
        assert_eq!(combined.lines().count(), 1);
        let json = line(Format::Json, &entry(Some(&forged)));
        assert_eq!(json.lines().count(), 1);
        assert!(!json.trim_end().contains(char::is_control), "{json}");
        let read: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(read["status"], 503);
        assert_eq!(read["outcome"], "refused");
        assert_eq!(read["seconds"], 0.0015);
        assert_eq!(read["user_agent"], serde_json::Value::Null);
    }

    #[test]
    fn a_long_target_is_cut() {
        let target = format!("/{}", "x".repeat(100_000));
        let long = Entry {
            target: &target,
            ..entry(None)
        };
        for format in [Format::Common, Format::Json] {
            assert!(line(format, &long).len() < TEXT_BYTES_MAX + 500);
        }
    }
}
