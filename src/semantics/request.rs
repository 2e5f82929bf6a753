//! What a request says about the answer it wants (RFC 9111 section 5.2.1).

use super::directives::{Argument, Seconds, directives};
use http::HeaderMap;
use http::header::{CACHE_CONTROL, PRAGMA};
use std::time::Duration;

/// How stale an answer a visitor accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxStale {
    /// However stale.
    Any,
    /// Stale for no longer than this.
    Within(Duration),
}

/// The directives of a request. Unknown ones are ignored, of repeated numbers
/// the first counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestDirectives {
    /// Nothing of this exchange may be stored.
    pub no_store: bool,
    /// Validate before use; also `Pragma: no-cache` without `Cache-Control`.
    pub no_cache: bool,
    /// No older than this. A malformed number counts as zero: the visitor wants
    /// something newer, we cannot know how much.
    pub max_age: Option<Duration>,
    /// Fresh for at least this long still.
    pub min_fresh: Option<Duration>,
    /// Stale is welcome. A malformed number is no welcome.
    pub max_stale: Option<MaxStale>,
    /// From cache, or 504.
    pub only_if_cached: bool,
    /// Stale is welcome if the origin fails, for this long after expiry (RFC 5861 section 4).
    pub stale_if_error: Option<Duration>,
}

impl RequestDirectives {
    /// Reads `Cache-Control`; without that field, `Pragma` (RFC 9111 section 5.4).
    pub fn parse(headers: &HeaderMap) -> Self {
        let mut read = RequestDirectives::default();
        if !headers.contains_key(CACHE_CONTROL) {
            read.no_cache = directives(headers, &PRAGMA)
                .iter()
                .any(|d| d.name == "no-cache");
            return read;
        }
        for directive in directives(headers, &CACHE_CONTROL) {
            let number = directive.argument.seconds();
            match directive.name.as_str() {
                "no-store" => read.no_store = true,
                "no-cache" => read.no_cache = true,
                "only-if-cached" => read.only_if_cached = true,
                "max-age" => first(&mut read.max_age, duration(number.or_zero())),
                "min-fresh" => {
                    if let Seconds::Valid(seconds) = number {
                        first(&mut read.min_fresh, duration(seconds));
                    }
                }
                "max-stale" => match (&directive.argument, number) {
                    (Argument::None, _) => first(&mut read.max_stale, MaxStale::Any),
                    (_, Seconds::Valid(seconds)) => {
                        first(&mut read.max_stale, MaxStale::Within(duration(seconds)));
                    }
                    (_, Seconds::Malformed) => {}
                },
                "stale-if-error" => {
                    if let Seconds::Valid(seconds) = number {
                        first(&mut read.stale_if_error, duration(seconds));
                    }
                }
                _ => {}
            }
        }
        read
    }
}

fn duration(seconds: u32) -> Duration {
    Duration::from_secs(u64::from(seconds))
}

fn first<T>(slot: &mut Option<T>, value: T) {
    if slot.is_none() {
        *slot = Some(value);
    }
}

#[cfg(test)]
mod tests {
    use super::super::fields::tests::{arbitrary_map, map};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn directives_are_read() {
        let none = RequestDirectives::default();
        let secs = Duration::from_secs;
        let table: Vec<(&[(&str, &str)], RequestDirectives)> = vec![
            (&[], none),
            (&[("cache-control", "")], none),
            (
                &[("cache-control", "No-Store")],
                RequestDirectives {
                    no_store: true,
                    ..none
                },
            ),
            (
                &[("cache-control", "no-cache")],
                RequestDirectives {
                    no_cache: true,
                    ..none
                },
            ),
            (
                &[("cache-control", "only-if-cached, x")],
                RequestDirectives {
                    only_if_cached: true,
                    ..none
                },
            ),
            (
                &[("cache-control", "max-age=0")],
                RequestDirectives {
                    max_age: Some(secs(0)),
                    ..none
                },
            ),
            (
                &[("cache-control", "max-age=\"60\"")],
                RequestDirectives {
                    max_age: Some(secs(60)),
                    ..none
                },
            ),
            (
                &[
                    ("cache-control", "max-age=5"),
                    ("cache-control", "max-age=6"),
                ],
                RequestDirectives {
                    max_age: Some(secs(5)),
                    ..none
                },
            ),
            (
                &[("cache-control", "max-age=-1")],
                RequestDirectives {
                    max_age: Some(secs(0)),
                    ..none
                },
            ),
            (
                &[("cache-control", "max-age")],
                RequestDirectives {
                    max_age: Some(secs(0)),
                    ..none
                },
            ),
            (
                &[("cache-control", "min-fresh=5")],
                RequestDirectives {
                    min_fresh: Some(secs(5)),
                    ..none
                },
            ),
            (&[("cache-control", "min-fresh=x")], none),
            (
                &[("cache-control", "max-stale")],
                RequestDirectives {
                    max_stale: Some(MaxStale::Any),
                    ..none
                },
            ),
            (
                &[("cache-control", "max-stale=5")],
                RequestDirectives {
                    max_stale: Some(MaxStale::Within(secs(5))),
                    ..none
                },
            ),
            (&[("cache-control", "max-stale=x")], none),
            (
                &[("cache-control", "stale-if-error=5")],
                RequestDirectives {
                    stale_if_error: Some(secs(5)),
                    ..none
                },
            ),
            (&[("cache-control", "stale-if-error")], none),
            // Pragma counts only without Cache-Control.
            (
                &[("pragma", "no-cache")],
                RequestDirectives {
                    no_cache: true,
                    ..none
                },
            ),
            (
                &[("pragma", "x, No-Cache")],
                RequestDirectives {
                    no_cache: true,
                    ..none
                },
            ),
            (&[("pragma", "x=\"no-cache\"")], none),
            (
                &[("pragma", "no-cache"), ("cache-control", "max-age=9")],
                RequestDirectives {
                    max_age: Some(secs(9)),
                    ..none
                },
            ),
        ];
        for (fields, expected) in table {
            assert_eq!(
                RequestDirectives::parse(&map(fields)),
                expected,
                "{fields:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_fields_are_read(headers in arbitrary_map()) {
            let _ = RequestDirectives::parse(&headers);
        }
    }
}
