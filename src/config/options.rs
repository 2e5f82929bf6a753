//! The one definition of every option.

use super::Config;
use super::value::{Kind, Value};
use crate::semantics::Preset;
use std::time::Duration;
use toml::de::DeValue;

/// An option: all there is to say about it.
#[derive(Debug)]
pub struct Definition {
    /// Its name, sections included: `freshness.default_ttl`.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// The default, as an operator would write it in TOML.
    pub default: &'static str,
    /// What it means, for the reference.
    pub doc: &'static str,
    set: fn(&mut Config, Value),
}

impl Definition {
    pub(super) fn apply(&self, config: &mut Config, value: &DeValue<'_>) -> Result<(), String> {
        let value = self.kind.check(value)?;
        (self.set)(config, value);
        Ok(())
    }

    pub(super) fn apply_default(&self, config: &mut Config) -> Result<(), String> {
        let value = DeValue::parse(self.default).map_err(|error| error.message().to_owned())?;
        self.apply(config, value.get_ref())
    }
}

const fn seconds(min: u64, max: u64) -> Kind {
    Kind::Duration {
        min: Duration::from_secs(min),
        max: Duration::from_secs(max),
    }
}

const fn millis(min: u64, max_seconds: u64) -> Kind {
    Kind::Duration {
        min: Duration::from_millis(min),
        max: Duration::from_secs(max_seconds),
    }
}

const YEAR: u64 = 365 * 86_400;

/// Makes a setter; a value of another kind than the definition's cannot come,
/// for [`Kind::check`] made it.
macro_rules! set {
    (usize => $($field:ident).+) => {
        |config, value| {
            if let Value::Integer(value) = value {
                config.$($field).+ = usize::try_from(value).unwrap_or(usize::MAX);
            }
        }
    };
    ($variant:ident => $($field:ident).+) => {
        |config, value| {
            if let Value::$variant(value) = value {
                config.$($field).+ = value;
            }
        }
    };
}

/// Every option, in the order of the reference.
pub const OPTIONS: &[Definition] = &[
    Definition {
        name: "preset",
        kind: Kind::Choice(&["uptime", "strict"]),
        default: "\"uptime\"",
        doc: "How far the operator overrules the origin. `strict`: only what origin and client \
              allow. `uptime`: besides, the stale windows below apply to every response that does \
              not forbid stale use, and visitors cannot force a refresh.",
        set: |config, value| {
            config.policy.preset = match value {
                Value::Choice("strict") => Preset::Strict,
                _ => Preset::Uptime,
            }
        },
    },
    Definition {
        name: "freshness.default_ttl",
        kind: seconds(0, YEAR),
        default: "\"60s\"",
        doc: "How long storable responses are fresh that say nothing about it. With preset \
              `strict` the default is \"0s\": the origin's silence is not leave.",
        set: set!(Duration => policy.default_ttl),
    },
    Definition {
        name: "freshness.heuristic_max",
        kind: seconds(0, YEAR),
        default: "\"1d\"",
        doc: "The longest lifetime that is guessed from `Last-Modified` (a tenth of the time since \
              then) where the origin states none. \"0s\" turns guessing off.",
        set: set!(Duration => policy.heuristic_max),
    },
    Definition {
        name: "freshness.stale_while_revalidate",
        kind: seconds(0, YEAR),
        default: "\"1h\"",
        doc: "Preset `uptime`: how long after its expiry an entry is at least served at once while \
              a refresh runs behind the answer.",
        set: set!(Duration => policy.stale_while_revalidate),
    },
    Definition {
        name: "freshness.stale_if_error",
        kind: seconds(0, YEAR),
        default: "\"7d\"",
        doc: "How long after its expiry an entry is served when the origin fails.",
        set: set!(Duration => policy.stale_if_error),
    },
    Definition {
        name: "freshness.jitter",
        kind: Kind::Ratio,
        default: "0.1",
        doc: "The largest part of its lifetime by which an entry expires earlier, at random, so \
              that entries stored together do not expire together.",
        set: |config, value| {
            if let Value::Integer(value) = value {
                config.policy.jitter_per_mille = u16::try_from(value).unwrap_or(0);
            }
        },
    },
    Definition {
        name: "freshness.early_refresh",
        kind: Kind::Boolean,
        default: "true",
        doc: "Whether hot entries are refreshed shortly before they expire, behind an answer.",
        set: set!(Boolean => early_refresh),
    },
    Definition {
        name: "origin.connect_timeout",
        kind: millis(10, 600),
        default: "\"3s\"",
        doc: "Longest time to connect to the origin.",
        set: set!(Duration => origin.connect_timeout),
    },
    Definition {
        name: "origin.first_byte_timeout",
        kind: millis(10, 3_600),
        default: "\"15s\"",
        doc: "Longest time to the origin's response head, and between two parts of its body.",
        set: set!(Duration => origin.first_byte_timeout),
    },
    Definition {
        name: "origin.soft_timeout",
        kind: millis(0, 3_600),
        default: "\"500ms\"",
        doc: "Preset `uptime`: a request that waits although there is a stale entry for when the \
              origin fails gets it after this, and the fetch goes on.",
        set: set!(Duration => origin.soft_timeout),
    },
    Definition {
        name: "origin.retry.first",
        kind: millis(10, 86_400),
        default: "\"1s\"",
        doc: "How long a key is left alone after its refresh failed; twice as long with every \
              further failure.",
        set: set!(Duration => origin.retry.first),
    },
    Definition {
        name: "origin.retry.max",
        kind: millis(10, 86_400),
        default: "\"1m\"",
        doc: "The longest time for which a key is left alone, however often its refresh failed.",
        set: set!(Duration => origin.retry.max),
    },
    Definition {
        name: "origin.pass",
        kind: millis(0, 86_400),
        default: "\"2m\"",
        doc: "How long a key counts as one whose responses cannot be stored, so that its requests \
              do not queue for each other.",
        set: set!(Duration => origin.pass),
    },
    Definition {
        name: "lease.duration",
        kind: millis(100, 60),
        default: "\"5s\"",
        doc: "How long a lease lasts unless its holder renews it, and so how long the others wait \
              after a node died that was refreshing. The same on all nodes.",
        set: set!(Duration => lease.duration),
    },
    Definition {
        name: "lease.clock_skew",
        kind: millis(0, 15),
        default: "\"500ms\"",
        doc: "How far the clocks of two nodes may be apart.",
        set: set!(Duration => lease.clock_skew),
    },
    Definition {
        name: "wait.budget",
        kind: millis(0, 600),
        default: "\"10s\"",
        doc: "Longest wait of a request for somebody else's fetch; then 503 with `Retry-After`.",
        set: set!(Duration => wait.budget),
    },
    Definition {
        name: "key.query.ignore",
        kind: Kind::Texts,
        default: "[\"utm_*\", \"gclid\", \"fbclid\"]",
        doc: "Query parameters that are not part of the key; a `*` at the end stands for anything.",
        set: set!(Texts => key.ignore),
    },
    Definition {
        name: "key.query.sort",
        kind: Kind::Boolean,
        default: "true",
        doc: "Whether the order of query parameters is of no importance.",
        set: set!(Boolean => key.sort),
    },
    Definition {
        name: "limits.url",
        kind: Kind::Integer {
            min: 64,
            max: 65_536,
        },
        default: "8192",
        doc: "Longest path and query of a request, in bytes; longer ones get 414.",
        set: set!(usize => limits.url),
    },
    Definition {
        name: "limits.header_count",
        kind: Kind::Integer { min: 8, max: 1_024 },
        default: "128",
        doc: "Most header fields of a request; more get 431.",
        set: set!(usize => limits.header_count),
    },
    Definition {
        name: "limits.header_bytes",
        kind: Kind::Integer {
            min: 1_024,
            max: 1_048_576,
        },
        default: "32768",
        doc: "Most bytes of a request's header field names and values; more get 431.",
        set: set!(usize => limits.header_bytes),
    },
    Definition {
        name: "limits.request_body",
        kind: Kind::Integer {
            min: 0,
            max: 1 << 40,
        },
        default: "0",
        doc: "Longest request body that is accepted, in bytes; longer ones get 413. 0: any. \
              A body that does not announce its length is not held to it.",
        set: |config, value| {
            if let Value::Integer(value) = value {
                config.limits.request_body = value;
            }
        },
    },
    Definition {
        name: "limits.inline",
        kind: Kind::Integer {
            min: 0,
            max: 786_432,
        },
        default: "262144",
        doc: "Longest response body that is stored in the cell itself, in bytes, and so costs no \
              further read; longer ones are stored in chunks.",
        set: set!(usize => limits.inline),
    },
    Definition {
        name: "limits.body",
        kind: Kind::Integer {
            min: 0,
            max: 268_435_456,
        },
        default: "10485760",
        doc: "Longest response body that is stored, in bytes; longer ones stream through.",
        set: |config, value| {
            if let Value::Integer(value) = value {
                config.limits.body = value;
            }
        },
    },
    Definition {
        name: "limits.chunk",
        kind: Kind::Integer {
            min: 256,
            max: 262_144,
        },
        default: "262144",
        doc: "Largest value in the store that a longer body is cut into, in bytes.",
        set: set!(usize => limits.chunk),
    },
    Definition {
        name: "limits.variants",
        kind: Kind::Integer { min: 1, max: 1_024 },
        default: "200",
        doc: "Most variants of a key (`Vary`) that are stored; for one more the oldest is dropped.",
        set: set!(usize => limits.variants),
    },
    Definition {
        name: "limits.grace",
        kind: millis(0, 86_400),
        default: "\"60s\"",
        doc: "How long the chunks of a body that was replaced are kept for visitors who are still \
              reading it. They are removed when the key is next refreshed after that.",
        set: set!(Duration => limits.grace),
    },
];

/// Whether options lie below `name`.
pub(super) fn is_section(name: &str) -> bool {
    OPTIONS.iter().any(|option| below(option, name))
}

fn below(option: &Definition, section: &str) -> bool {
    option
        .name
        .strip_prefix(section)
        .is_some_and(|rest| rest.starts_with('.'))
}

/// An example of a setting below `section`.
pub(super) fn example(section: &str) -> String {
    OPTIONS
        .iter()
        .find(|option| below(option, section))
        .map(|option| format!("{} = {}", option.name, option.default))
        .unwrap_or_default()
}

/// What to say of a setting that does not exist.
pub(super) fn unknown(name: &str) -> String {
    let nearest = OPTIONS
        .iter()
        .map(|option| (distance(option.name, name), option.name))
        .min();
    match nearest {
        Some((distance, nearest)) if distance <= nearest.len() / 3 => {
            format!("there is no such setting; did you mean {nearest}?")
        }
        Some(_) | None => {
            let section = name.rsplit_once('.').map_or("", |(section, _)| section);
            let known: Vec<_> = OPTIONS
                .iter()
                .map(|option| option.name)
                .filter(|option| {
                    section.is_empty() || option.starts_with(section) || !is_section(section)
                })
                .collect();
            format!("there is no such setting; known are {}", known.join(", "))
        }
    }
}

/// Levenshtein distance in bytes; names are short and ASCII.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a) in a.bytes().enumerate() {
        let mut left = i + 1;
        let mut corner = i;
        for (above, b) in row.iter_mut().skip(1).zip(b.bytes()) {
            let cost = (corner + usize::from(a != b)).min(left + 1).min(*above + 1);
            corner = std::mem::replace(above, cost);
            left = cost;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

/// The reference of all options, as a Markdown table.
pub fn reference() -> String {
    let mut text =
        String::from("| setting | takes | default | meaning |\n| --- | --- | --- | --- |\n");
    for option in OPTIONS {
        text.push_str(&format!(
            "| `{}` | {} | `{}` | {} |\n",
            option.name,
            option.kind.describe(),
            option.default,
            option.doc
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, expected) in [
            ("", "", 0),
            ("a", "", 1),
            ("", "ab", 2),
            ("kitten", "sitting", 3),
            ("flaw", "lawn", 2),
            ("same", "same", 0),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    /// The reference in `docs/` is made from the definitions; run with
    /// `LEEWARD_WRITE_DOCS=1` to make it anew.
    #[test]
    fn the_reference_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let (head, _) = text
            .split_once("<!-- settings -->\n")
            .unwrap_or((text.as_str(), ""));
        let wanted = format!("{head}<!-- settings -->\n\n{}", reference());
        if std::env::var_os("LEEWARD_WRITE_DOCS").is_some() {
            let written = std::fs::write(path, &wanted);
            assert!(written.is_ok(), "{written:?}");
        } else {
            assert!(
                text == wanted,
                "run LEEWARD_WRITE_DOCS=1 cargo test reference"
            );
        }
    }
}
