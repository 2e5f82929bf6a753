//! The question of a CORS preflight: may an application of that origin send that
//! method with those fields?
//!
//! It is keyed by what a preflight asks and by nothing else that the visitor sends, and
//! so is the request that the origin gets.

use super::fields::{Class, class};
use super::policy::{KeyPolicy, RequestPolicy};
use super::visitor::{Read, Visitor};
use crate::question::Origin;
use crate::semantics::{CDN_LOOP, field_members};
use http::header::{
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, MAX_FORWARDS, ORIGIN,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, request};
use std::collections::BTreeSet;

/// `Access-Control-Request-Private-Network`.
const PRIVATE_NETWORK: HeaderName =
    HeaderName::from_static("access-control-request-private-network");

/// What is kept of a preflight: what it asks, and how the visitor reached the site.
fn is_kept(name: &HeaderName) -> bool {
    [
        ORIGIN,
        ACCESS_CONTROL_REQUEST_METHOD,
        ACCESS_CONTROL_REQUEST_HEADERS,
        PRIVATE_NETWORK,
        CDN_LOOP,
    ]
    .contains(name)
        || matches!(class(name), Class::Host | Class::Scheme | Class::Rewriting)
}

/// The key of a URL's preflights. A key without a line break stays the only one that
/// begins with it.
pub fn preflight_key(key: &str) -> String {
    format!("{key}\npreflight")
}

/// Whether a request is a preflight (Fetch standard, section 3.2.2). A browser sends it
/// without content.
pub fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    *method == Method::OPTIONS
        && headers.contains_key(ORIGIN)
        && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// Reads a request without content as a [preflight](is_preflight): it,
/// without all that it does not ask, and its question. `None` if it is another request,
/// or if the settings keep what it asks out of the question.
pub fn preflight(
    parts: &request::Parts,
    origin: &Origin,
    key: &KeyPolicy,
    policy: &RequestPolicy,
) -> Option<(request::Parts, Box<Visitor>)> {
    let asks = is_preflight(&parts.method, &parts.headers)
        && !parts.headers.contains_key(MAX_FORWARDS)
        && parts
            .headers
            .keys()
            .all(|name| class(name) != Class::MethodOverride);
    if !asks {
        return None;
    }
    let mut plain = Request::new(()).into_parts().0;
    plain.method = Method::OPTIONS;
    plain.uri = parts.uri.clone();
    for (name, value) in &parts.headers {
        if is_kept(name) {
            let _full = plain.headers.try_append(name.clone(), value.clone());
        }
    }
    normalise_requested_fields(&mut plain.headers);
    let Read::Question(visitor) = Visitor::read(&plain, false, origin, key, policy) else {
        return None;
    };
    let keyed = [
        ORIGIN,
        ACCESS_CONTROL_REQUEST_METHOD,
        ACCESS_CONTROL_REQUEST_HEADERS,
    ]
    .iter()
    .filter(|name| plain.headers.contains_key(*name))
    .all(|name| visitor.keys(name));
    keyed.then(|| (plain, Box::new(visitor.into_preflight())))
}

/// Writes the names in `Access-Control-Request-Headers` in lower case, each once, in
/// order. A field that is not a list of names stays as it came.
fn normalise_requested_fields(headers: &mut HeaderMap) {
    let names: Result<BTreeSet<String>, _> =
        field_members(headers, &ACCESS_CONTROL_REQUEST_HEADERS)
            .map(|member| HeaderName::from_bytes(member).map(|name| name.as_str().to_owned()))
            .collect();
    let Ok(names) = names else { return };
    headers.remove(ACCESS_CONTROL_REQUEST_HEADERS);
    let names: Vec<String> = names.into_iter().collect();
    if !names.is_empty()
        && let Ok(names) = HeaderValue::try_from(names.join(","))
    {
        let _full = headers.try_insert(ACCESS_CONTROL_REQUEST_HEADERS, names);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::config::Config;
    use crate::question::Outgoing;
    use crate::question::policy::{Cookies, Credentials, Pattern, Unknown};
    use crate::semantics::LoopId;

    const ASKED: [(&str, &str); 3] = [
        ("origin", "https://app.example"),
        ("access-control-request-method", "PUT"),
        ("access-control-request-headers", "X-B, x-a"),
    ];

    fn options(fields: &[(&str, &str)]) -> request::Parts {
        let mut request = Request::options("/items?b=2&a=1");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn policy() -> RequestPolicy {
        Config::parse("").unwrap().request
    }

    fn read(parts: &request::Parts, policy: &RequestPolicy) -> Option<Visitor> {
        let origin = Origin::parse("http://origin").unwrap();
        let (plain, visitor) = preflight(parts, &origin, &KeyPolicy::default(), policy)?;
        assert!(plain.headers.len() <= parts.headers.len());
        Some(*visitor)
    }

    /// The request that the origin gets.
    fn sent(visitor: &Visitor) -> request::Parts {
        let outgoing = Outgoing {
            user_agent: &HeaderValue::from_static("leeward"),
            via: Some("leeward"),
            loop_id: LoopId::EXAMPLE,
        };
        // An entry's validators have no place in it.
        let entry = [(
            HeaderName::from_static("etag"),
            HeaderValue::from_static("\"a\""),
        )];
        let entry: HeaderMap = entry.into_iter().collect();
        visitor
            .question(&[])
            .fill(Some(&entry), outgoing)
            .into_parts()
    }

    fn with(more: &[(&'static str, &'static str)]) -> request::Parts {
        options(&[&ASKED[..], more].concat())
    }

    #[test]
    fn the_origin_gets_what_is_asked_and_nothing_else_of_the_visitor() {
        let plain = read(&with(&[]), &policy()).unwrap();
        let request = sent(&plain);
        assert_eq!(request.method, Method::OPTIONS);
        assert_eq!(request.uri, "http://origin/items?b=2&a=1");
        let names: Vec<_> = request.headers.keys().map(HeaderName::as_str).collect();
        let expected = [
            "accept",
            "access-control-request-headers",
            "access-control-request-method",
            "origin",
            "user-agent",
            "x-forwarded-proto",
            "via",
            "cdn-loop",
        ];
        assert_eq!(names, expected);
        assert_eq!(request.headers[ACCESS_CONTROL_REQUEST_HEADERS], "x-a,x-b");
        for more in [
            ("cookie", "session=1"),
            ("authorization", "Bearer 1"),
            ("user-agent", "Mozilla"),
            ("accept", "text/html"),
            ("accept-encoding", "br"),
            ("accept-language", "de"),
            ("referer", "https://app.example/"),
            ("x-tenant", "7"),
            ("cache-control", "no-cache"),
            ("if-none-match", "\"a\""),
            ("x-forwarded-for", "192.0.2.1"),
        ] {
            let keyed_by_client = RequestPolicy {
                cookies: Cookies::Key(vec!["session".to_owned()]),
                credentials: Credentials::Key,
                ..policy()
            };
            for policy in [policy(), keyed_by_client] {
                let visitor = read(&with(&[more]), &policy).unwrap();
                assert!(!visitor.has_credentials());
                let (ours, theirs) = (sent(&visitor), sent(&plain));
                assert_eq!(
                    (ours.uri, ours.headers),
                    (theirs.uri, theirs.headers),
                    "{more:?}"
                );
                assert_eq!(
                    visitor.question(&[]).selector(),
                    plain.question(&[]).selector()
                );
                assert_eq!(visitor.key(), plain.key());
            }
        }
    }

    #[test]
    fn what_a_preflight_asks_selects_its_answer() {
        let selector = |fields: &[(&str, &str)]| {
            let visitor = read(&options(fields), &policy()).unwrap();
            visitor.question(&[]).selector()
        };
        let [origin, method, fields] = ASKED;
        let same = selector(&ASKED);
        for (other, equal) in [
            ([origin, method, (fields.0, "x-a,x-b")], true),
            ([origin, method, (fields.0, "X-B , X-A,, x-a")], true),
            ([origin, method, (fields.0, "x-a")], false),
            // As it came: it is not a list of names.
            ([origin, method, (fields.0, "x-a, x b")], false),
            (
                [(origin.0, "https://app.example:8443"), method, fields],
                false,
            ),
            ([(origin.0, "null"), method, fields], false),
            ([origin, (method.0, "DELETE"), fields], false),
        ] {
            assert_eq!(selector(&other) == same, equal, "{other:?}");
        }
        let private = ("access-control-request-private-network", "true");
        assert_ne!(selector(&[origin, method, fields, private]), same);
        let secure = ("x-forwarded-proto", "https");
        assert_ne!(selector(&[origin, method, fields, secure]), same);
        assert_ne!(selector(&[origin, method]), same);
        assert_eq!(
            selector(&[origin, method]),
            selector(&[origin, method, (fields.0, "")])
        );
    }

    #[test]
    fn another_request_is_no_preflight() {
        let [origin, method, fields] = ASKED;
        for other in [
            options(&[]),
            options(&[origin, fields]),
            options(&[method, fields]),
            with(&[("max-forwards", "3")]),
            with(&[("x-http-method-override", "PUT")]),
        ] {
            assert!(read(&other, &policy()).is_none(), "{other:?}");
        }
        let mut get = with(&[]);
        get.method = Method::GET;
        assert!(read(&get, &policy()).is_none());
        let mut star = with(&[]);
        star.uri = http::Uri::from_static("*");
        assert!(read(&star, &policy()).is_none());
    }

    #[test]
    fn settings_that_keep_the_origin_out_of_the_question_make_none() {
        for policy in [
            RequestPolicy {
                unknown: Unknown::Forward,
                ..policy()
            },
            RequestPolicy {
                drop: vec![Pattern::new("origin")],
                ..policy()
            },
            RequestPolicy {
                forward: vec![Pattern::new("access-control-*")],
                ..policy()
            },
            RequestPolicy {
                key_fields: 1,
                ..policy()
            },
        ] {
            assert!(read(&with(&[]), &policy).is_none(), "{policy:?}");
        }
    }

    #[test]
    fn preflights_of_a_url_have_a_key_of_their_own() {
        let get = {
            let origin = Origin::parse("http://origin").unwrap();
            crate::question::key_of(
                &origin,
                "http",
                None,
                "/items?b=2&a=1",
                &KeyPolicy::default(),
            )
        };
        let visitor = read(&with(&[]), &policy()).unwrap();
        assert_eq!(visitor.key(), preflight_key(&get));
        assert_ne!(visitor.key(), get);
    }
}
