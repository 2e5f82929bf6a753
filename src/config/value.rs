//! Values as an operator writes them, checked.

use super::bytes;
use super::duration::{self, show};
use super::names::{self, Refused};
use super::path::PathPattern;
use super::problem::Fault;
use super::suggest::one_of;
use crate::question::policy::{Cookies, Pattern};
use crate::semantics::BrowserTtl;
use http::HeaderValue;
use std::time::Duration;
use toml::Spanned;
use toml::de::DeValue;

/// Most items of a list.
pub const LIST_MAX: usize = 256;

/// Most bytes of a text that is sent as a field's value.
pub const FIELD_VALUE_MAX: usize = 256;

/// What a setting takes.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Text such as `"500ms"`, within bounds.
    Duration {
        /// The shortest allowed.
        min: Duration,
        /// The longest allowed.
        max: Duration,
    },
    /// A whole number, within bounds.
    Integer {
        /// The smallest allowed.
        min: u64,
        /// The largest allowed.
        max: u64,
    },
    /// An amount of bytes, within bounds: a whole number, or text such as `"1GiB"`.
    Bytes {
        /// The smallest allowed.
        min: u64,
        /// The largest allowed.
        max: u64,
    },
    /// A number from 0 to below 1, kept in thousandths.
    Ratio,
    /// `true` or `false`.
    Boolean,
    /// One of some words.
    Choice(&'static [&'static str]),
    /// Several of some words.
    Choices(&'static [&'static str]),
    /// Text that can be the value of a field.
    FieldValue,
    /// A list of names of query parameters.
    Parameters,
    /// A list of names of fields, of which some are refused.
    Fields(&'static [Refused]),
    /// A list of names of cookies.
    CookieNames,
    /// A list of hosts.
    Hosts,
    /// A list of patterns of paths.
    Paths,
    /// A list of paths with queries.
    Targets,
    /// What becomes of cookies.
    Cookies,
    /// How long visitors may keep answers: text such as `"1m"`, in whole seconds within a
    /// bound, or `"origin"`.
    BrowserTtl {
        /// The longest allowed.
        max: Duration,
    },
}

/// A checked value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// Of [`Kind::Duration`].
    Duration(Duration),
    /// Of [`Kind::Integer`] and [`Kind::Bytes`]; of [`Kind::Ratio`], thousandths.
    Integer(u64),
    /// Of [`Kind::Boolean`].
    Boolean(bool),
    /// Of [`Kind::Choice`].
    Choice(&'static str),
    /// Of [`Kind::Choices`].
    Choices(Vec<&'static str>),
    /// Of [`Kind::FieldValue`].
    Header(HeaderValue),
    /// Of [`Kind::Parameters`], [`Kind::Fields`] and [`Kind::CookieNames`].
    Patterns(Vec<Pattern>),
    /// Of [`Kind::Hosts`] and [`Kind::Targets`].
    Texts(Vec<String>),
    /// Of [`Kind::Paths`].
    Paths(Vec<PathPattern>),
    /// Of [`Kind::Cookies`].
    Cookies(Cookies),
    /// Of [`Kind::BrowserTtl`].
    BrowserTtl(BrowserTtl),
}

impl Kind {
    /// Checks a value, or says what is wrong with it and what to write.
    pub(super) fn check(&self, value: &Spanned<DeValue<'_>>) -> Result<Value, Fault> {
        let inner = value.get_ref();
        match self {
            Kind::Duration { min, max } => match inner {
                DeValue::String(text) => {
                    let duration = duration::parse(text)?;
                    if duration < *min || duration > *max {
                        return Err(format!(
                            "{text:?} is out of bounds; write a duration from {} to {}",
                            show(*min),
                            show(*max)
                        )
                        .into());
                    }
                    Ok(Value::Duration(duration))
                }
                other => Err(format!(
                    "is a duration, not {}; write text with a unit, for instance \"{}\"",
                    type_of(other),
                    show(*min.max(&Duration::from_secs(1)).min(max)),
                )
                .into()),
            },
            Kind::Integer { min, max } => integer(inner)
                .filter(|integer| (min..=max).contains(&integer))
                .map(Value::Integer)
                .ok_or_else(|| format!("write a whole number from {min} to {max}").into()),
            Kind::Bytes { min, max } => match inner {
                DeValue::String(text) => {
                    let bytes = bytes::parse(text)?;
                    match (min..=max).contains(&&bytes) {
                        true => Ok(Value::Integer(bytes)),
                        false => Err(format!(
                            "{text:?} is out of bounds; write an amount from {} to {}",
                            bytes::show(*min),
                            bytes::show(*max)
                        )
                        .into()),
                    }
                }
                other => integer(other)
                    .filter(|integer| (min..=max).contains(&integer))
                    .map(Value::Integer)
                    .ok_or_else(|| {
                        format!(
                            "is an amount of bytes; write a number from {min} to {max}, or text \
                             with a unit, for instance \"{}\"",
                            bytes::show(*min)
                        )
                        .into()
                    }),
            },
            Kind::Ratio => ratio(inner).map(Value::Integer).ok_or_else(|| {
                "write a number from 0 to 0.999, for instance 0.1"
                    .to_owned()
                    .into()
            }),
            Kind::Boolean => inner
                .as_bool()
                .map(Value::Boolean)
                .ok_or_else(|| "write true or false".to_owned().into()),
            Kind::Choice(words) => inner
                .as_str()
                .and_then(|text| word(text, words))
                .map(Value::Choice)
                .ok_or_else(|| format!("write {}", one_of(words)).into()),
            Kind::Choices(words) => {
                let example: Vec<_> = words.iter().take(2).copied().collect();
                list(value, &example, |text| {
                    word(text, words)
                        .ok_or_else(|| format!("{text:?} is unknown; write {}", one_of(words)))
                })
                .map(Value::Choices)
            }
            Kind::FieldValue => field_value(inner).map(Value::Header),
            Kind::Parameters => {
                list(value, &["utm_*", "gclid"], names::parameter).map(Value::Patterns)
            }
            Kind::Fields(refused) => list(value, &["x-device-id", "x-app-*"], |text| {
                names::field(text, refused)
            })
            .map(Value::Patterns),
            Kind::CookieNames => {
                list(value, &["_ga*", "CookieConsent"], names::cookies).map(Value::Patterns)
            }
            Kind::Hosts => {
                let hosts = list(value, &["www.example.com", "localhost:8080"], names::host)?;
                let mut distinct = Vec::new();
                for host in hosts {
                    if !distinct.contains(&host) {
                        distinct.push(host);
                    }
                }
                Ok(Value::Texts(distinct))
            }
            Kind::Paths => {
                list(value, &["/health", "/status/*"], PathPattern::parse).map(Value::Paths)
            }
            Kind::Targets => {
                list(value, &["/", "/products/?page=1"], names::target).map(Value::Texts)
            }
            Kind::Cookies => cookies(value).map(Value::Cookies),
            Kind::BrowserTtl { max } => browser_ttl(inner, *max).map(Value::BrowserTtl),
        }
    }

    /// How the reference describes what to write.
    pub fn describe(&self) -> String {
        match self {
            Kind::Duration { min, max } => {
                format!("duration, {} to {}", show(*min), show(*max))
            }
            Kind::Integer { min, max } => format!("whole number, {min} to {max}"),
            Kind::Bytes { min, max } => {
                format!("bytes, {} to {}", bytes::show(*min), bytes::show(*max))
            }
            Kind::Ratio => "number, 0 to 0.999".to_owned(),
            Kind::Boolean => "true or false".to_owned(),
            Kind::Choice(words) => one_of(words),
            Kind::Choices(words) => format!("list of {}", one_of(words)),
            Kind::FieldValue => "text".to_owned(),
            Kind::Parameters => "list of parameter names".to_owned(),
            Kind::Fields(_) => "list of field names".to_owned(),
            Kind::CookieNames => "list of cookie names".to_owned(),
            Kind::Hosts => "list of hosts".to_owned(),
            Kind::Paths => "list of path patterns".to_owned(),
            Kind::Targets => "list of paths".to_owned(),
            Kind::Cookies => COOKIES.to_owned(),
            Kind::BrowserTtl { max } => {
                format!(
                    "\"origin\", or duration in whole seconds, 0s to {}",
                    show(*max)
                )
            }
        }
    }
}

/// What [`Kind::Cookies`] takes.
const COOKIES: &str = "\"pass\", \"ignore\" or { key = [\"lang\"] }";

/// The type of a value, with its article.
pub(super) fn type_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// The word of `words` that `text` is.
fn word(text: &str, words: &[&'static str]) -> Option<&'static str> {
    words.iter().find(|word| **word == text).copied()
}

/// A whole number that is not negative.
pub(super) fn integer(value: &DeValue<'_>) -> Option<u64> {
    let integer = value.as_integer()?;
    u64::from_str_radix(&integer.as_str().replace('_', ""), integer.radix()).ok()
}

/// A list of texts, each read by `read`. A fault has the place of its item.
pub(super) fn list<T>(
    value: &Spanned<DeValue<'_>>,
    example: &[&str],
    mut read: impl FnMut(&str) -> Result<T, String>,
) -> Result<Vec<T>, Fault> {
    let wrong = || Fault::from(format!("write a list of texts, for instance {example:?}"));
    let items = value.get_ref().as_array().ok_or_else(wrong)?;
    if items.len() > LIST_MAX {
        return Err(format!("has {} items; write at most {LIST_MAX}", items.len()).into());
    }
    items
        .iter()
        .map(|item| {
            let text = item.get_ref().as_str().ok_or_else(wrong);
            text.and_then(|text| read(text).map_err(Fault::from))
                .map_err(|fault| fault.at(item.span().start))
        })
        .collect()
}

fn field_value(value: &DeValue<'_>) -> Result<HeaderValue, Fault> {
    let example = concat!("\"leeward/", env!("CARGO_PKG_VERSION"), "\"");
    let text = value
        .as_str()
        .filter(|text| !text.is_empty())
        .ok_or_else(|| format!("write a text, for instance {example}"))?;
    if text.len() > FIELD_VALUE_MAX {
        return Err(format!("has {} bytes; write at most {FIELD_VALUE_MAX}", text.len()).into());
    }
    if text.trim() != text {
        return Err(format!(
            "{text:?} has space at its beginning or end; write {:?}",
            text.trim()
        )
        .into());
    }
    HeaderValue::from_str(text).map_err(|_| {
        format!(
            "{text:?} cannot be sent as the value of a field; write ASCII letters, for instance \
             {example}"
        )
        .into()
    })
}

fn cookies(value: &Spanned<DeValue<'_>>) -> Result<Cookies, Fault> {
    let wrong = || Fault::from(format!("write {COOKIES}"));
    match value.get_ref() {
        DeValue::String(text) if text == "pass" => Ok(Cookies::Pass),
        DeValue::String(text) if text == "ignore" => Ok(Cookies::Ignore),
        DeValue::Table(table) => {
            if let Some((other, _)) = table.iter().find(|(name, _)| name.get_ref() != "key") {
                return Err(wrong().at(other.span().start));
            }
            let names = table.get("key").ok_or_else(wrong)?;
            let at = names.span().start;
            let mut names = list(names, &["lang"], names::cookie).map_err(|fault| fault.at(at))?;
            if names.is_empty() {
                let message = "an empty list keys no cookie; write cookies = \"ignore\" to drop \
                               all of them";
                return Err(Fault::from(message.to_owned()).at(at));
            }
            // The order in which an operator lists them has no meaning.
            names.sort();
            names.dedup();
            Ok(Cookies::Key(names))
        }
        _ => Err(wrong()),
    }
}

fn browser_ttl(value: &DeValue<'_>, max: Duration) -> Result<BrowserTtl, Fault> {
    let text = match value {
        DeValue::String(text) if text == "origin" => return Ok(BrowserTtl::Origin),
        DeValue::String(text) => text,
        other => {
            return Err(format!(
                "is a duration, not {}; write text with a unit, for instance \"1m\", or \"origin\"",
                type_of(other)
            )
            .into());
        }
    };
    let duration = duration::parse(text)
        .map_err(|problem| format!("{problem}; or write \"origin\" for what the origin says"))?;
    u32::try_from(duration.as_secs())
        .ok()
        .filter(|_| duration <= max && duration.subsec_nanos() == 0)
        .map(BrowserTtl::Seconds)
        .ok_or_else(|| {
            format!(
                "{text:?} cannot be told to browsers; write whole seconds, at most {}",
                show(max)
            )
            .into()
        })
}

/// Thousandths of a number below one, from its decimal text, because a binary
/// fraction would be rounded.
fn ratio(value: &DeValue<'_>) -> Option<u64> {
    if value
        .as_integer()
        .is_some_and(|integer| integer.as_str() == "0")
    {
        return Some(0);
    }
    let text = value.as_float()?.as_str().replace('_', "");
    let decimals = text.strip_prefix("0.")?;
    if decimals.is_empty() || !decimals.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    format!("{decimals:0<3}").get(..3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn ratios() {
        for (text, thousandths) in [
            ("0", Some(0)),
            ("0.0", Some(0)),
            ("0.1", Some(100)),
            ("0.25", Some(250)),
            ("0.9999", Some(999)),
            ("1", None),
            ("1.0", None),
            ("-0.1", None),
            ("nan", None),
            ("1e-1", None),
            ("\"0.1\"", None),
        ] {
            let value = DeValue::parse(text).unwrap();
            assert_eq!(ratio(value.get_ref()), thousandths, "{text}");
        }
    }
}
