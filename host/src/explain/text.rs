//! What is said about a path.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use leeward::config::Config;
use leeward::semantics::{Audience, Kept, Reason};
use leeward::time::Time;

/// Longest file with an answer's head, in bytes.
const ANSWER_MAX: u64 = 1 << 20;

/// Lines about one path.
#[derive(Debug)]
pub(super) struct Lines(String);

impl Lines {
    pub(super) fn new(path: &str) -> Self {
        Lines(format!("{}\n", path.escape_debug()))
    }

    pub(super) fn add(&mut self, what: &str, told: impl AsRef<str>) {
        // Writing to a `String` cannot fail.
        let _ = writeln!(self.0, "  {what:<17} {}", told.as_ref());
    }

    /// The rule that would have the path stored, if one can.
    pub(super) fn add_rule(&mut self, path: &str, config: &Config, reason: Reason) {
        let ignored = match reason {
            Reason::Private | Reason::NoStore | Reason::SetCookie | Reason::Useless => {
                "[\"private\", \"no-cache\", \"no-store\", \"set-cookie\"]"
            }
            Reason::NoFreshness if config.policy.default_ttl.is_zero() => "[\"private\"]",
            _ => return,
        };
        self.add(
            "to store it",
            "only if it is the same for every visitor, logged in or not:",
        );
        let _ = write!(
            self.0,
            "\n      [[rule]]\n      match = {{ path = {path:?}, method = \"GET\" }}\n      \
             ttl = \"30s\"\n      ignore_origin = {ignored}\n      cookies = \"ignore\"\n"
        );
    }

    pub(super) fn finish(self) -> String {
        self.0
    }
}

/// What is kept of an answer.
pub(super) fn stored(kept: &Kept, now: Time) -> String {
    let freshness = &kept.freshness;
    let whom = match kept.audience {
        Audience::Everyone => "shared with everyone",
        Audience::Anonymous => {
            "shared with visitors without credentials; others' requests are forwarded"
        }
    };
    let seconds = |millis: u64| humantime::format_duration(Duration::from_secs(millis / 1_000));
    let lifetime = match freshness.ttl(now) {
        ttl if ttl > 0 => format!(
            "fresh for {}",
            seconds(u64::try_from(ttl).unwrap_or(0) * 1_000)
        ),
        _ => "validated each time it is used".to_owned(),
    };
    format!(
        "stored, {whom}, {lifetime}, then stale while it is refreshed for {}, and for {} while the \
         origin fails",
        seconds(freshness.stale_while_revalidate_ms),
        seconds(freshness.stale_if_error_ms)
    )
}

/// Which field of an answer decides that it is not stored.
pub(super) fn deciding(reason: Reason, headers: &HeaderMap) -> String {
    let field = |name: &str| {
        let values = headers.get_all(name).iter();
        let values = values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let joined = values.collect::<Vec<_>>().join(", ");
        format!("{name}: {}", joined.escape_debug())
    };
    match reason {
        Reason::Private | Reason::NoStore | Reason::NotUnderstood => field("cache-control"),
        Reason::SetCookie => "it sets a cookie, and does not say that it may be shared".to_owned(),
        Reason::VaryStar => field("vary"),
        Reason::SelfRedirect => format!("it redirects to itself, {}", field("location")),
        Reason::NoFreshness => {
            "it states no lifetime, and its status is not one that is stored without".to_owned()
        }
        Reason::Useless => format!(
            "its lifetime is zero and it has no validator, {}",
            field("cache-control")
        ),
        Reason::Failure => "its status says that the origin fails".to_owned(),
        Reason::Method
        | Reason::NotFinal
        | Reason::Partial
        | Reason::NotModified
        | Reason::RequestNoStore
        | Reason::Authorization
        | Reason::Cookie => "such an answer is not stored".to_owned(),
    }
}

/// The time of now.
pub(super) fn now() -> Time {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let millis = since.unwrap_or_default().as_millis();
    Time::from_unix_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

/// The head of an answer in a file: a status line and fields, as `curl -i` shows them.
pub(super) fn answer_in(path: &Path) -> anyhow::Result<(StatusCode, HeaderMap)> {
    let name = path.display();
    let length = std::fs::metadata(path)
        .with_context(|| format!("cannot read {name}"))?
        .len();
    anyhow::ensure!(
        length <= ANSWER_MAX,
        "{name} is longer than {ANSWER_MAX} bytes"
    );
    let text = std::fs::read(path).with_context(|| format!("cannot read {name}"))?;
    let text = String::from_utf8_lossy(&text);
    answer_of(&text).with_context(|| {
        format!(
            "{name} is not the head of an answer; make it with curl -sD {name} -o /dev/null URL"
        )
    })
}

pub(super) fn answer_of(text: &str) -> Option<(StatusCode, HeaderMap)> {
    let mut lines = text.lines();
    let (version, rest) = lines.next()?.split_once(' ')?;
    let status = rest.split(' ').next()?.parse().ok()?;
    if !version.starts_with("HTTP/") {
        return None;
    }
    let mut headers = HeaderMap::new();
    for line in lines.take_while(|line| !line.trim().is_empty()) {
        let (name, value) = line.split_once(':')?;
        let name: HeaderName = name.trim().parse().ok()?;
        headers.append(name, HeaderValue::from_str(value.trim()).ok()?);
    }
    Some((status, headers))
}
