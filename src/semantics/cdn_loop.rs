//! `CDN-Loop` (RFC 8586): a shield recognises its own requests when they come back to it.
//!
//! `Via` has a name that all shields share, operators turn it off for IIS, and a chain of two
//! shields is no loop. So each shield marks its requests with an identity of its own.

use super::fields::{CACHE_STATUS, append};
use super::line::{latin1, members};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use sha2::{Digest, Sha256};
use std::fmt;

/// `CDN-Loop` (RFC 8586 section 2).
pub const CDN_LOOP: HeaderName = HeaderName::from_static("cdn-loop");

/// The detail in `Cache-Status` of the answer to a request that has come back.
pub const LOOP: &str = "loop";

/// The pseudonym of all shields (RFC 8586 section 2, `cdn-id`).
const PSEUDONYM: &str = "leeward";

/// How many hexadecimal digits an identity has.
const ID_DIGITS: usize = 16;

/// Most shields before this one whose identities are sent on. A chain of more that leads back
/// to itself is not recognised.
const SHIELDS_MAX: usize = 8;

/// What a shield is called in `CDN-Loop`: the same on all of its nodes, and different for two
/// shields of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoopId(u64);

impl LoopId {
    /// One for tests.
    #[cfg(test)]
    pub const EXAMPLE: LoopId = LoopId(0x0011_2233_4455_66aa);

    /// The identity of the shield of `origin`, a base URL. `name` tells shields of the same
    /// origin apart (`origin.loop_id`).
    pub fn new(origin: &str, name: &HeaderValue) -> Self {
        let mut hash = Sha256::new();
        hash.update(name.as_bytes());
        // A field's value has no line break.
        hash.update(b"\n");
        hash.update(origin.to_ascii_lowercase().as_bytes());
        let first = hash.finalize().into_iter().take(8);
        LoopId(first.fold(0, |id, byte| (id << 8) | u64::from(byte)))
    }

    /// Adds it to a request (RFC 8586 section 2).
    pub fn append_to(self, request: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::try_from(member(&self.to_string())) {
            append(request, CDN_LOOP, value);
        }
    }

    /// Whether the shield has sent this request itself. The identity counts wherever it stands
    /// in the field: others join lines, and what stands before it may have a quotation mark
    /// that is never closed.
    pub fn is_in(self, request: &HeaderMap) -> bool {
        let id = self.to_string();
        request.get_all(CDN_LOOP).iter().any(|line| {
            let mut windows = line.as_bytes().windows(id.len());
            windows.any(|window| window.eq_ignore_ascii_case(id.as_bytes()))
        })
    }
}

impl fmt::Display for LoopId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

fn member(id: &str) -> String {
    format!("{PSEUDONYM}; id={id}")
}

/// The shields that a request has come through, as a value of `CDN-Loop` in one form; the last
/// [`SHIELDS_MAX`] of them. `None` if there are none.
pub fn shields(request: &HeaderMap) -> Option<HeaderValue> {
    let lines = request.get_all(CDN_LOOP).iter();
    let ids: Vec<String> = lines
        .flat_map(|line| members(line.as_bytes()))
        .filter_map(id_of)
        .collect();
    let last = ids.get(ids.len().saturating_sub(SHIELDS_MAX)..)?;
    let members: Vec<String> = last.iter().map(|id| member(id)).collect();
    match members.is_empty() {
        true => None,
        false => HeaderValue::try_from(members.join(", ")).ok(),
    }
}

/// The identity in a member of the list, if it is a shield's.
fn id_of(member: &[u8]) -> Option<String> {
    let text = latin1(member).to_ascii_lowercase();
    let (name, parameter) = text.split_once(';')?;
    let (key, value) = parameter.split_once('=')?;
    if name.trim() != PSEUDONYM || key.trim() != "id" {
        return None;
    }
    let id = value.trim().trim_matches('"');
    let is_id = id.len() == ID_DIGITS && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_id.then(|| id.to_owned())
}

/// Whether an answer says that its request has come back to a shield that had sent it: 508
/// (RFC 5842 section 7.2), in a shield's own words.
pub fn is_loop_answer(status: StatusCode, headers: &HeaderMap) -> bool {
    let is_own = |line: &HeaderValue| {
        let detail = [b"detail=".as_slice(), LOOP.as_bytes()].concat();
        let mut windows = line.as_bytes().windows(detail.len());
        windows.any(|window| window == detail)
    };
    status == StatusCode::LOOP_DETECTED && headers.get_all(CACHE_STATUS).iter().any(is_own)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::super::fields::tests::{arbitrary_map, map};
    use super::*;
    use proptest::prelude::*;

    fn id(origin: &str, name: &'static str) -> LoopId {
        LoopId::new(origin, &HeaderValue::from_static(name))
    }

    #[test]
    fn nodes_of_one_shield_have_one_identity_and_shields_in_a_chain_have_others() {
        let own = id("http://10.0.0.5:8080", "leeward");
        for (origin, name, is_same) in [
            ("http://10.0.0.5:8080", "leeward", true),
            ("HTTP://10.0.0.5:8080", "leeward", true),
            ("http://10.0.0.5:8081", "leeward", false),
            ("https://10.0.0.5:8080", "leeward", false),
            ("http://10.0.0.5:8080/app", "leeward", false),
            // The same address in two networks.
            ("http://10.0.0.5:8080", "edge", false),
        ] {
            assert_eq!(id(origin, name) == own, is_same, "{origin} {name}");
        }
    }

    #[test]
    fn a_shield_recognises_its_own_requests_and_no_others() {
        let own = id("http://a", "leeward");
        let mut sent = HeaderMap::new();
        own.append_to(&mut sent);
        let value = sent[CDN_LOOP].to_str().unwrap().to_owned();
        assert_eq!(value, format!("leeward; id={own}"));
        let mut other = HeaderMap::new();
        id("http://b", "leeward").append_to(&mut other);
        let other = other[CDN_LOOP].to_str().unwrap().to_owned();
        for (name, line, expected) in [
            ("cdn-loop", value.clone(), true),
            // Through proxies: joined, quoted, without spaces, in capitals.
            ("cdn-loop", format!("cdn.example; n=1, {value}"), true),
            ("cdn-loop", format!("{value}, {other}, a"), true),
            ("cdn-loop", format!("leeward;id=\"{own}\""), true),
            ("cdn-loop", value.to_uppercase(), true),
            // Begun by a visitor that wants to hide it.
            ("cdn-loop", format!("a=\", {value}"), true),
            // A chain of shields, on purpose.
            ("cdn-loop", other, false),
            ("cdn-loop", "leeward".to_owned(), false),
            ("cdn-loop", String::new(), false),
            ("cdn-loop", "cloudflare; loops=1".to_owned(), false),
            ("via", value, false),
        ] {
            let request = map(&[(name, &line)]);
            assert_eq!(own.is_in(&request), expected, "{name}: {line}");
        }
        let mut twice = map(&[("cdn-loop", "cdn.example")]);
        own.append_to(&mut twice);
        assert!(own.is_in(&twice));
        assert!(!own.is_in(&HeaderMap::new()));
    }

    #[test]
    fn the_shields_before_are_sent_on_in_one_form_and_nothing_else() {
        let (a, b) = ("00112233445566aa", "ffeeddccbbaa9988");
        for (lines, expected) in [
            (&[][..], None),
            (&["cdn.example; n=1, x".to_owned()], None),
            (&["leeward".to_owned(), "leeward; id=1".to_owned()], None),
            (&[format!("leeward; id={a}; more=1")], None),
            (&[format!("x; id={a}")], None),
            (&[member(a)], Some(member(a))),
            (
                &[format!("LEEWARD;ID=\"{}\"", a.to_uppercase())],
                Some(member(a)),
            ),
            (
                &[format!("c, {}", member(a)), member(b)],
                Some(format!("{}, {}", member(a), member(b))),
            ),
            (&vec![member(a); 20], Some(vec![member(a); 8].join(", "))),
        ] {
            let mut request = HeaderMap::new();
            for line in lines {
                request.append(CDN_LOOP, HeaderValue::try_from(line).unwrap());
            }
            let expected = expected.map(|text| HeaderValue::try_from(text).unwrap());
            assert_eq!(shields(&request), expected, "{lines:?}");
        }
    }

    #[test]
    fn only_a_shields_own_508_says_that_a_request_has_come_back() {
        let own = map(&[("cache-status", "leeward;detail=loop")]);
        let chained = map(&[("cache-status", "leeward;detail=loop, leeward;fwd=bypass")]);
        let other = map(&[("cache-status", "leeward;detail=refused")]);
        for (status, headers, expected) in [
            (508, &own, true),
            (508, &chained, true),
            (508, &other, false),
            (508, &HeaderMap::new(), false),
            (502, &own, false),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(
                is_loop_answer(status, headers),
                expected,
                "{status} {headers:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_request_is_read(request in arbitrary_map(), lines in proptest::collection::vec("[ -~]{0,60}", 0..4)) {
            let mut request = request;
            for line in &lines {
                request.append(CDN_LOOP, HeaderValue::try_from(line).unwrap());
            }
            let own = id("http://a", "leeward");
            prop_assert!(!own.is_in(&request));
            // What is sent on is read alike by the next shield.
            if let Some(before) = shields(&request) {
                let next: HeaderMap = [(CDN_LOOP, before.clone())].into_iter().collect();
                prop_assert_eq!(shields(&next), Some(before));
            }
            own.append_to(&mut request);
            prop_assert!(own.is_in(&request));
        }
    }
}
