//! Fields that are removed from a response before it is stored (RFC 9111 section 3.1).

use super::fields::strip_connection_fields;
use super::policy::Policy;
use super::response::ResponseDirectives;
use http::HeaderMap;
use http::header::SET_COOKIE;

/// Removes what must not be stored: connection-specific fields and those that
/// are between a client and its proxy (RFC 9111 section 3.1), those that
/// `no-cache="…"` and `private="…"` name (sections 5.2.2.4 and 5.2.2.7), and
/// `Set-Cookie`, which is for the visitor that caused the fetch and for nobody
/// else. Everything else stays as it came.
pub fn remove_private_fields(response: &mut HeaderMap, policy: &Policy) {
    let said = ResponseDirectives::parse(response).without(policy.ignore_origin);
    for name in said.listed_fields() {
        response.remove(name);
    }
    response.remove(SET_COOKIE);
    strip_connection_fields(response);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::super::fields::tests::{arbitrary_map, lines, map};
    use super::super::freshness::tests::at;
    use super::super::line::latin1;
    use super::super::policy::{IgnoreOrigin, Preset};
    use super::super::response::Scope;
    use super::super::storable::{Asked, Storability, storability};
    use super::*;
    use http::{HeaderName, HeaderValue, StatusCode};
    use proptest::prelude::*;

    #[test]
    fn listed_fields_and_those_of_the_connection_go() {
        let mut response = map(&[
            ("cache-control", "max-age=60, no-cache=\"a, B\", private=c"),
            ("a", "1"),
            ("b", "1"),
            ("c", "1"),
            ("connection", "d"),
            ("d", "1"),
            ("proxy-authenticate", "Basic"),
            ("e", "2"),
            ("e", "1"),
            ("x-\u{66}", "caf\u{e9}"),
            ("set-cookie", "k=v"),
        ]);
        remove_private_fields(&mut response, &Policy::default());
        assert_eq!(
            lines(&response),
            lines(&map(&[
                ("cache-control", "max-age=60, no-cache=\"a, B\", private=c"),
                ("e", "2"),
                ("e", "1"),
                ("x-f", "caf\u{e9}"),
            ]))
        );
    }

    #[test]
    fn rules_keep_and_strip() {
        let response = map(&[
            ("cache-control", "max-age=60, no-cache=a, private=b"),
            ("a", "1"),
            ("b", "1"),
            ("set-cookie", "k=v"),
        ]);
        let kept = |ignore_origin| {
            let mut headers = response.clone();
            remove_private_fields(
                &mut headers,
                &Policy {
                    ignore_origin,
                    ..Policy::default()
                },
            );
            ["a", "b", "set-cookie"].map(|name| headers.contains_key(name))
        };
        let nothing = IgnoreOrigin::default();
        assert_eq!(kept(nothing), [false, false, false]);
        assert_eq!(
            kept(IgnoreOrigin {
                no_cache: true,
                ..nothing
            }),
            [true, false, false]
        );
        assert_eq!(
            kept(IgnoreOrigin {
                private: true,
                ..nothing
            }),
            [false, true, false]
        );
        assert_eq!(
            kept(IgnoreOrigin {
                set_cookie: true,
                ..nothing
            }),
            [false, false, false]
        );
    }

    fn spelled(directive: &'static str) -> impl Strategy<Value = (String, Vec<&'static str>)> {
        (
            proptest::collection::vec(
                prop_oneof![Just("x-a"), Just("x-b"), Just("set-cookie"), Just("etag")],
                1..4,
            ),
            any::<bool>(),
            "[ \t]{0,2}",
        )
            .prop_map(move |(names, upper, space)| {
                let list = names.join(&format!("{space},{space}"));
                let text = format!("{directive}=\"{list}\"");
                (
                    if upper {
                        text.to_ascii_uppercase()
                    } else {
                        text
                    },
                    names,
                )
            })
    }

    proptest! {
        #[test]
        fn a_stored_response_lets_no_private_field_through(
            noise in arbitrary_map(),
            (text, names) in prop_oneof![spelled("private"), spelled("no-cache")],
            before in prop_oneof![Just("max-age=60, "), Just("x=\"a, \\\"b\", public,"), Just("")],
            after in prop_oneof![Just(""), Just(" , s-maxage=5"), Just(", foo=\"private\"")],
            strict in any::<bool>(),
            status in prop_oneof![Just(StatusCode::OK), Just(StatusCode::NOT_FOUND), Just(StatusCode::BAD_GATEWAY)],
        ) {
            let mut response = noise;
            response.remove("cdn-cache-control");
            response.append("cache-control", HeaderValue::try_from(format!("{before}{text}{after}")).unwrap());
            for name in ["x-a", "x-b", "x-c"] {
                response.append(name, HeaderValue::from_static("secret"));
            }
            let policy = Policy::of(if strict { Preset::Strict } else { Preset::Uptime });
            let asked = Asked { headers: &HeaderMap::new(), path: "/", keyed_by_client: false };
            let decided = storability(asked, status, &response, at(0), at(0), &policy);
            if let Storability::Store(_) | Storability::Brief(..) = decided {
                // `no-cache` without a list beside one with a list: the field is stored, and
                // the whole response validated before each use (RFC 9111, 5.2.2.4).
                let validated = text.to_ascii_lowercase().starts_with("no-cache")
                    && ResponseDirectives::parse(&response).no_cache == Scope::Everything;
                let hidden = response.get_all("connection").iter().any(|line| latin1(line.as_bytes()).contains("x-"));
                remove_private_fields(&mut response, &policy);
                for name in names {
                    prop_assert!(validated || !response.contains_key(name), "{}", name);
                }
                prop_assert!(hidden || response.contains_key("x-c"));
                for name in ["connection", "keep-alive", "proxy-authenticate", "upgrade"] {
                    prop_assert!(!response.contains_key(HeaderName::from_static(name)));
                }
                prop_assert!(!response.contains_key("set-cookie"));
            }
        }
    }
}
