//! `Cache-Status` (RFC 9211): saying what happened.

use super::fields::{CACHE_STATUS, append};
use http::{HeaderMap, HeaderValue};
use sfv::{Integer, KeyRef, ListSerializer, RefBareItem, StringRef, TokenRef, key_ref, token_ref};

/// This cache's name in the list.
const NAME: &TokenRef = token_ref("leeward");

/// The longest key or detail that is said, in bytes; more is cut off.
pub const TEXT_MAX: usize = 1_024;

/// The largest number of a Structured Field (RFC 9651 section 3.3.1).
const INTEGER_MAX: i64 = 999_999_999_999_999;

/// Why the request went forward (RFC 9211 section 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Forward {
    /// The cache was configured not to handle this request.
    Bypass,
    /// The method requires it.
    Method,
    /// Nothing stored for the key.
    UriMiss,
    /// Entries for the key, none of them for these request fields.
    VaryMiss,
    /// An entry was usable, but the request's directives asked for more.
    Request,
    /// The entry was stale.
    Stale,
}

impl Forward {
    /// The parameter's value.
    pub fn token(self) -> &'static str {
        match self {
            Forward::Bypass => "bypass",
            Forward::Method => "method",
            Forward::UriMiss => "uri-miss",
            Forward::VaryMiss => "vary-miss",
            Forward::Request => "request",
            Forward::Stale => "stale",
        }
    }
}

/// One cache's member of the `Cache-Status` list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheStatus {
    /// Answered without going forward. With it, all that is about going forward is not said.
    pub hit: bool,
    /// Why it went forward.
    pub fwd: Option<Forward>,
    /// The status of the origin's answer, where it is not the visitor's.
    pub fwd_status: Option<u16>,
    /// What remains of the lifetime in seconds; negative when stale.
    pub ttl: Option<i64>,
    /// The forwarded answer was stored.
    pub stored: bool,
    /// The request was collapsed into another one's.
    pub collapsed: bool,
    /// The key, as far as it should be seen.
    pub key: Option<String>,
    /// Anything else, as a short token or text.
    pub detail: Option<String>,
}

impl CacheStatus {
    /// Appends this member after what is already in `Cache-Status` (RFC 9211
    /// section 2: the cache closest to the visitor is last), on a line of its
    /// own, so that what came before is left as it was, valid or not.
    pub fn append_to(&self, headers: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::try_from(self.to_value()) {
            append(headers, CACHE_STATUS, value);
        }
    }

    /// The member as a list of one.
    fn to_value(&self) -> String {
        let mut list = ListSerializer::new();
        let mut member = list.bare_item(NAME);
        if self.hit {
            member = member.parameter(key_ref("hit"), true);
        } else if let Some(fwd) = self.fwd {
            member = text_parameter(member, key_ref("fwd"), fwd.token());
            if let Some(status) = self.fwd_status {
                member = member.parameter(key_ref("fwd-status"), Integer::from(status));
            }
        }
        if let Some(ttl) = self.ttl
            && let Ok(ttl) = Integer::try_from(ttl.clamp(-INTEGER_MAX, INTEGER_MAX))
        {
            member = member.parameter(key_ref("ttl"), ttl);
        }
        if !self.hit && self.stored {
            member = member.parameter(key_ref("stored"), true);
        }
        if !self.hit && self.collapsed {
            member = member.parameter(key_ref("collapsed"), true);
        }
        if let Some(key) = &self.key {
            let key = printable(key);
            if let Ok(key) = StringRef::from_str(&key) {
                member = member.parameter(key_ref("key"), RefBareItem::String(key));
            }
        }
        if let Some(detail) = &self.detail {
            let _written = text_parameter(member, key_ref("detail"), &printable(detail));
        }
        list.finish().unwrap_or_default()
    }
}

/// Adds a token, or a string where the text is none.
fn text_parameter<'a>(
    member: sfv::ParameterSerializer<&'a mut String>,
    key: &KeyRef,
    text: &str,
) -> sfv::ParameterSerializer<&'a mut String> {
    match (TokenRef::from_str(text), StringRef::from_str(text)) {
        (Ok(token), _) => member.parameter(key, RefBareItem::Token(token)),
        (Err(_), Ok(text)) => member.parameter(key, RefBareItem::String(text)),
        (Err(_), Err(_)) => member,
    }
}

/// At most [`TEXT_MAX`] characters, each other than printable ASCII a `?`.
fn printable(text: &str) -> String {
    text.chars()
        .take(TEXT_MAX)
        .map(|letter| {
            if (' '..='~').contains(&letter) {
                letter
            } else {
                '?'
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::super::fields::tests::{lines, map};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn members_are_written_as_the_rfc_shows_them() {
        let status = CacheStatus::default;
        for (status, expected) in [
            (
                CacheStatus {
                    hit: true,
                    ..status()
                },
                "leeward;hit",
            ),
            (
                CacheStatus {
                    hit: true,
                    ttl: Some(376),
                    ..status()
                },
                "leeward;hit;ttl=376",
            ),
            (
                CacheStatus {
                    hit: true,
                    ttl: Some(-12),
                    detail: Some("stale".to_owned()),
                    ..status()
                },
                "leeward;hit;ttl=-12;detail=stale",
            ),
            (
                CacheStatus {
                    fwd: Some(Forward::UriMiss),
                    stored: true,
                    ..status()
                },
                "leeward;fwd=uri-miss;stored",
            ),
            (
                CacheStatus {
                    fwd: Some(Forward::Stale),
                    fwd_status: Some(304),
                    ..status()
                },
                "leeward;fwd=stale;fwd-status=304",
            ),
            (
                CacheStatus {
                    fwd: Some(Forward::UriMiss),
                    collapsed: true,
                    key: Some("/a?\"b\u{e9}".to_owned()),
                    ..status()
                },
                "leeward;fwd=uri-miss;collapsed;key=\"/a?\\\"b?\"",
            ),
            (
                CacheStatus {
                    fwd: Some(Forward::Bypass),
                    detail: Some("no store".to_owned()),
                    ..status()
                },
                "leeward;fwd=bypass;detail=\"no store\"",
            ),
            // A hit did not go forward, whatever else is set.
            (
                CacheStatus {
                    hit: true,
                    fwd: Some(Forward::Stale),
                    fwd_status: Some(304),
                    stored: true,
                    collapsed: true,
                    ..status()
                },
                "leeward;hit",
            ),
            (
                CacheStatus {
                    ttl: Some(i64::MIN),
                    ..status()
                },
                "leeward;ttl=-999999999999999",
            ),
            (status(), "leeward"),
        ] {
            assert_eq!(status.to_value(), expected);
        }
    }

    #[test]
    fn every_forward_reason_is_a_token() {
        for (fwd, token) in [
            (Forward::Bypass, "bypass"),
            (Forward::Method, "method"),
            (Forward::UriMiss, "uri-miss"),
            (Forward::VaryMiss, "vary-miss"),
            (Forward::Request, "request"),
            (Forward::Stale, "stale"),
        ] {
            let status = CacheStatus {
                fwd: Some(fwd),
                ..CacheStatus::default()
            };
            assert_eq!(status.to_value(), format!("leeward;fwd={token}"));
        }
    }

    #[test]
    fn what_was_there_stays() {
        let mut headers = map(&[("cache-status", "Origin; hit"), ("cache-status", "b@d, ,")]);
        CacheStatus {
            hit: true,
            ..CacheStatus::default()
        }
        .append_to(&mut headers);
        assert_eq!(
            lines(&headers),
            lines(&map(&[
                ("cache-status", "Origin; hit"),
                ("cache-status", "b@d, ,"),
                ("cache-status", "leeward;hit")
            ]))
        );
    }

    proptest! {
        #[test]
        fn any_text_makes_a_valid_member(key in any::<String>(), detail in any::<String>(), ttl in any::<i64>(), fwd_status in any::<u16>()) {
            let mut headers = HeaderMap::new();
            CacheStatus { fwd: Some(Forward::UriMiss), fwd_status: Some(fwd_status), ttl: Some(ttl), key: Some(key), detail: Some(detail), ..CacheStatus::default() }.append_to(&mut headers);
            let value = headers.get("cache-status").unwrap();
            let list: sfv::List = sfv::Parser::new(value.as_bytes()).parse().unwrap();
            prop_assert_eq!(list.len(), 1);
        }
    }
}
