//! The log on standard error: the lines of the component, and the host's own.
//!
//! Each goes through `tracing`, so that `RUST_LOG` filters it, and is written in one piece.

use std::fmt::{Display, Write as _};
use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, anyhow};
use leeward::events::{Level, level};
use leeward::platform::log::rfc3339;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use super::without_controls;

/// The environment variable that says what is written.
const FILTER: &str = "RUST_LOG";

/// Fields of a line of text that come first, and those that come last.
const FIRST: &[&str] = &[
    "message", "why", "status", "method", "url", "error", "problem",
];
const LAST: &[&str] = &["effect", "remedy", "request"];

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people: time, level, node, event, then name=value
    Text,
    /// For machines: one JSON object a line
    Json,
}

/// Whether the log has begun. Before, and in other commands, messages are plain text.
static BEGUN: AtomicBool = AtomicBool::new(false);

/// Begins the log.
///
/// # Errors
///
/// If `RUST_LOG` cannot be read.
pub(super) fn begin(format: Option<Format>, node: String) -> anyhow::Result<()> {
    let format = format.unwrap_or(match std::io::stderr().is_terminal() {
        true => Format::Text,
        false => Format::Json,
    });
    let said = std::env::var(FILTER).unwrap_or_default();
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .parse(&said)
        .map_err(|error| anyhow!("{error}"))
        .with_context(|| {
            format!("{FILTER}: {said:?} is no filter; write for instance {FILTER}=info")
        })?;
    let lines = Lines { format, node };
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()
        .context("cannot begin the log")?;
    BEGUN.store(true, Ordering::Relaxed);
    Ok(())
}

/// Host name and process id.
pub(super) fn default_node() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = name.or_else(|| std::env::var("HOSTNAME").ok());
    let name = name.as_deref().map_or("", str::trim);
    let name = match name.is_empty() {
        true => "localhost",
        false => name,
    };
    format!("{name}-{}", std::process::id())
}

/// Whether the log has begun.
pub(crate) fn has_begun() -> bool {
    BEGUN.load(Ordering::Relaxed)
}

/// Writes a line of the host with a text for people.
pub(crate) fn event(name: &str, message: impl Display) {
    let mut fields = Map::new();
    fields.insert("message".to_owned(), message.to_string().into());
    write(name, level(name), fields);
}

/// Writes a line of the host with fields.
pub(super) fn fields(name: &str, fields: &[(&str, Value)]) {
    component_line(&leeward::events::line(name, fields));
}

/// Writes a line that the component has made: a JSON object with an event, or what something
/// in the component has printed.
pub(crate) fn component_line(line: &str) {
    match serde_json::from_str(line) {
        Ok(Value::Object(mut fields)) => {
            let event = text_of(fields.remove("event"));
            let said = text_of(fields.remove("level"));
            let level = Level::of(&said).unwrap_or_else(|| level(&event));
            write(&event, level, fields);
        }
        _ => event("output", line),
    }
}

fn text_of(value: Option<Value>) -> String {
    match value {
        Some(Value::String(text)) => text,
        _ => String::new(),
    }
}

/// Hands a line to `tracing`. Its target and level have to be known when it is compiled.
fn write(event: &str, level: Level, fields: Map<String, Value>) {
    let fields = Value::Object(fields).to_string();
    macro_rules! to {
        ($target:literal, $($ours:ident => $level:ident),*) => {
            match level {
                $(Level::$ours => {
                    tracing::event!(target: $target, tracing::Level::$level, event, fields);
                })*
            }
        };
        ($target:literal) => {
            to!($target, Error => ERROR, Warn => WARN, Info => INFO, Debug => DEBUG)
        };
    }
    match part_of(event) {
        Part::Origin => to!("leeward::origin"),
        Part::Visitors => to!("leeward::visitors"),
        Part::Store => to!("leeward::store"),
        Part::Node => to!("leeward::node"),
    }
}

/// What an event is about, for filters.
enum Part {
    Origin,
    Visitors,
    Store,
    Node,
}

fn part_of(event: &str) -> Part {
    match event {
        "origin" | "origin-check" | "origin-unreachable" | "breaker" => Part::Origin,
        "refused" | "not-served" | "request-failed" | "answer-refused" | "loop" => Part::Visitors,
        "budget-unreadable" | "cell-unreadable" | "clocks-apart" | "publish-failing"
        | "purge-lost" | "store-failed" | "store-full" | "store-recovered" | "store-damaged"
        | "store-unusable" | "sweep" | "sweep-unavailable" | "value-refused"
        | "variant-evicted" => Part::Store,
        _ => Part::Node,
    }
}

/// Writes events as lines.
struct Lines {
    format: Format,
    node: String,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut seen = Seen::default();
        event.record(&mut seen);
        let metadata = event.metadata();
        let level = match *metadata.level() {
            tracing::Level::ERROR => Level::Error,
            tracing::Level::WARN => Level::Warn,
            tracing::Level::INFO => Level::Info,
            _ => Level::Debug,
        };
        let fields = match seen.fields.map(|text| serde_json::from_str(&text)) {
            Some(Ok(Value::Object(fields))) => fields,
            _ => seen.others,
        };
        let event = seen.event.unwrap_or_else(|| metadata.target().to_owned());
        let line = self.line(level, &event, fields);
        // A standard error that nobody can write to is no reason to stop.
        drop(std::io::stderr().lock().write_all(line.as_bytes()));
    }
}

impl Lines {
    fn line(&self, level: Level, event: &str, mut fields: Map<String, Value>) -> String {
        // The component's own time, if it has one.
        let time = match fields.remove("time") {
            Some(Value::String(time)) => time,
            _ => rfc3339(super::now()),
        };
        match self.format {
            Format::Json => {
                let head = [
                    ("time", time.as_str()),
                    ("level", level.name()),
                    ("node", &self.node),
                    ("event", event),
                ];
                json(&head, &fields)
            }
            Format::Text => {
                let level = level.name().to_ascii_uppercase();
                let head = format!("{time} {level:<5} {} {event}", self.node);
                text(head, &fields)
            }
        }
    }
}

/// The head of a line has an order of its own: a `Map` has that of the alphabet.
fn json(head: &[(&str, &str)], fields: &Map<String, Value>) -> String {
    let mut line = String::from("{");
    for (name, value) in head {
        let _ = write!(line, "\"{name}\":{},", Value::from(*value));
    }
    for (name, value) in fields {
        let _ = write!(line, "{}:{value},", Value::from(name.as_str()));
    }
    line.truncate(line.len().saturating_sub(1));
    line.push('}');
    let mut line = without_controls(&line);
    line.push('\n');
    line
}

fn text(mut line: String, fields: &Map<String, Value>) -> String {
    let usual = |name: &&str| !FIRST.contains(name) && !LAST.contains(name);
    let others = fields.keys().map(String::as_str).filter(usual);
    let names = FIRST.iter().copied().chain(others);
    for name in names.chain(LAST.iter().copied()) {
        match fields.get(name) {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) if name == "message" => {
                line.push(' ');
                push_visible(&mut line, text);
            }
            Some(Value::String(text)) if is_word(text) => {
                let _ = write!(line, " {name}={text}");
            }
            Some(value) => {
                let _ = write!(line, " {name}=");
                push_visible(&mut line, &value.to_string());
            }
        }
    }
    line.push('\n');
    line
}

/// Whether a value needs no quotes.
fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'"')
}

/// A terminal obeys some characters.
fn push_visible(line: &mut String, text: &str) {
    for character in text.chars() {
        match character.is_control() {
            true => line.extend(character.escape_default()),
            false => line.push(character),
        }
    }
}

/// The fields of an event of `tracing`.
#[derive(Default)]
struct Seen {
    event: Option<String>,
    fields: Option<String>,
    others: Map<String, Value>,
}

impl Visit for Seen {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "event" => self.event = Some(value.to_owned()),
            "fields" => self.fields = Some(value.to_owned()),
            name => drop(self.others.insert(name.to_owned(), value.into())),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let text = format!("{value:?}");
        self.others.insert(field.name().to_owned(), text.into());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use serde_json::json;

    use super::*;

    fn line(format: Format, fields: Value) -> String {
        let lines = Lines {
            format,
            node: "web-1".to_owned(),
        };
        let Value::Object(fields) = fields else {
            unreachable!("it is an object");
        };
        lines.line(Level::Warn, "refused", fields)
    }

    const TIME: &str = "2026-11-30T21:51:33.007Z";

    #[test]
    fn a_line_of_json_begins_with_time_level_node_and_event() {
        let fields = json!({"time": TIME, "a": "x\n\"y\u{9b}", "status": 503});
        let line = line(Format::Json, fields);
        let expected = format!(
            "{{\"time\":\"{TIME}\",\"level\":\"warn\",\"node\":\"web-1\",\"event\":\"refused\",\
             \"a\":\"x\\n\\\"y\\u009b\",\"status\":503}}\n"
        );
        assert_eq!(line, expected);
        assert!(serde_json::from_str::<Value>(&line).is_ok());
    }

    #[test]
    fn a_line_of_text_is_for_people_and_obeys_no_visitor() {
        let fields = json!({
            "time": TIME, "remedy": "raise it", "url": "a/b?c=1", "status": 503,
            "error": "one\ntwo \u{9b}31m", "empty": "", "none": null,
        });
        let line = line(Format::Text, fields);
        let expected = format!(
            "{TIME} WARN  web-1 refused status=503 url=a/b?c=1 error=\"one\\ntwo \\u{{9b}}31m\" \
             empty=\"\" remedy=\"raise it\"\n"
        );
        assert_eq!(line, expected);
    }
}
