//! What a 304 does to an entry (RFC 9111 sections 3.2 and 4.3.4), and a 200 to HEAD (section 4.3.5).

use super::conditional::date_field;
use super::etag::{EntityTag, entity_tag};
use super::fields::{append, is_of_one_connection, single, strip_connection_fields};
use super::line::trim;
use super::policy::Preset;
use http::header::{
    AGE, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_SECURITY_POLICY,
    CONTENT_SECURITY_POLICY_REPORT_ONLY, CONTENT_TYPE, DATE, ETAG, LAST_MODIFIED, TRAILER,
};
use http::{HeaderMap, HeaderName};

/// Fields that describe the stored bytes: a message without those bytes does
/// not change them (RFC 9111 section 3.2).
const OF_THE_BODY: [HeaderName; 7] = [
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_RANGE,
    // Names the bytes that it came with. The one in a 304 may differ in strength, or be that
    // of another coding: servers that compress change the tag of a 200 and not of a 304.
    ETAG,
    TRAILER,
    // RFC 9530 section 2 and RFC 1864: digests of the content, which a 304 has not.
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("content-md5"),
];

/// Policies that may name a nonce, which stands in the content as well.
const POLICIES: [HeaderName; 2] = [CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY_REPORT_ONLY];

/// How a policy begins to name a nonce (CSP3 section 2.3.1).
const NONCE: &[u8] = b"'nonce-";

/// Fields of the moment: the entry's do not outlive it. The new message has its
/// own, or is taken as made when it was received.
const OF_THE_MOMENT: [HeaderName; 2] = [AGE, DATE];

/// The entry's fields after a 304 (RFC 9111 section 3.2): all lines of each
/// field that it carries replace the entry's, the others stay. The body stays.
///
/// What belongs to the stored content stays the entry's: its coding and its range, and its
/// type, but for a 304 in preset `strict` that names the same type with other parameters. In
/// `uptime` so does a policy with a nonce: the 304's nonce is not in the stored content, and
/// a browser would run none of its scripts.
///
/// The caller decides again about the result, with the times of the validation:
/// `storability` gives its freshness, or says to drop it, and
/// `remove_private_fields` what of it may be kept.
pub fn freshen(entry_headers: &HeaderMap, not_modified: &HeaderMap, preset: Preset) -> HeaderMap {
    let mut new = not_modified.clone();
    strip_connection_fields(&mut new);
    for name in OF_THE_BODY {
        new.remove(name);
    }
    let uptime = preset == Preset::Uptime;
    if uptime || media_type(&new) != media_type(entry_headers) {
        new.remove(CONTENT_TYPE);
    }
    for name in POLICIES.iter().filter(|_| uptime) {
        if names_nonce(&new, name) || names_nonce(entry_headers, name) {
            new.remove(name);
        }
    }
    let mut merged = HeaderMap::new();
    for (name, value) in entry_headers {
        let replaced = new.contains_key(name) || OF_THE_MOMENT.contains(name);
        if !replaced && !is_of_one_connection(name) {
            append(&mut merged, name.clone(), value.clone());
        }
    }
    for (name, value) in &new {
        append(&mut merged, name.clone(), value.clone());
    }
    merged
}

/// The media type in lower case, without parameters; none where it is not one line.
fn media_type(headers: &HeaderMap) -> Option<Vec<u8>> {
    let value = single(headers, &CONTENT_TYPE)?.as_bytes();
    let name = value.split(|byte| *byte == b';').next().unwrap_or_default();
    Some(trim(name).to_ascii_lowercase())
}

/// Whether one of the lines of a policy names a nonce.
fn names_nonce(headers: &HeaderMap, name: &HeaderName) -> bool {
    headers.get_all(name).iter().any(|line| {
        let mut windows = line.as_bytes().windows(NONCE.len());
        windows.any(|window| window.eq_ignore_ascii_case(NONCE))
    })
}

/// Whether a 304 confirms the entry whose validators were sent
/// ([`add_validators`](super::add_validators)). If not, fetch again without conditions.
///
/// One entity tag was sent at most, and the origin has compared it weakly (RFC 9110 section
/// 13.1.2): a 304 with a tag that is weakly equal is about it. nginx answers `W/"x"` with
/// `"x"`, and the other way round. RFC 9111 section 4.3.4 wants strong tags to be strongly
/// equal, which is for a cache that has several responses to choose from.
///
/// Where only a date was sent, a 304 that does not contradict it confirms it, whatever tag it
/// has. A 304 without validators confirms any entry: it can mean no other.
pub fn confirms(entry_headers: &HeaderMap, not_modified: &HeaderMap) -> bool {
    match (entity_tag(entry_headers), entity_tag(not_modified)) {
        (Some(sent), Some(named)) => sent.weakly_equals(named),
        (None, Some(_)) if !not_modified.contains_key(LAST_MODIFIED) => {
            date_field(entry_headers, &LAST_MODIFIED).is_some()
        }
        (None, _) | (_, None) => same_modification(entry_headers, not_modified),
    }
}

/// Whether a 200 to HEAD is about the same content as the entry, as far as its validators
/// say (RFC 9111 section 4.3.5).
pub fn matches(entry_headers: &HeaderMap, not_modified: &HeaderMap) -> bool {
    match (entity_tag(entry_headers), entity_tag(not_modified)) {
        (Some(entry), Some(EntityTag::Strong(new))) => {
            entry.strongly_equals(EntityTag::Strong(new))
        }
        (Some(entry), Some(new)) => entry.weakly_equals(new),
        (None, _) | (_, None) => same_modification(entry_headers, not_modified),
    }
}

/// Whether the 304's `Last-Modified` does not contradict the entry's.
fn same_modification(entry_headers: &HeaderMap, not_modified: &HeaderMap) -> bool {
    if !not_modified.contains_key(LAST_MODIFIED) {
        return !not_modified.contains_key(ETAG);
    }
    match (
        date_field(entry_headers, &LAST_MODIFIED),
        date_field(not_modified, &LAST_MODIFIED),
    ) {
        (Some(entry), Some(new)) => entry == new,
        (None, _) | (_, None) => false,
    }
}

/// What a 200 to HEAD says about an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadUpdate {
    /// Validators and length agree: [`freshen`] the entry with its fields.
    Freshen,
    /// They do not: the entry is stale, as if invalidated.
    Outdated,
    /// Nothing disagrees, but no validator agrees either: it may be about other
    /// content, so the entry is left alone.
    Unknown,
}

/// Compares a 200 to HEAD with the entry for GET (RFC 9111 section 4.3.5).
pub fn head_update(entry_headers: &HeaderMap, body_length: u64, head: &HeaderMap) -> HeadUpdate {
    let length_agrees = match single(head, &CONTENT_LENGTH) {
        Some(value) => value.as_bytes() == body_length.to_string().as_bytes(),
        None => !head.contains_key(CONTENT_LENGTH),
    };
    let names_one = head.contains_key(ETAG) || head.contains_key(LAST_MODIFIED);
    match (length_agrees && matches(entry_headers, head), names_one) {
        (true, true) => HeadUpdate::Freshen,
        (true, false) => HeadUpdate::Unknown,
        (false, _) => HeadUpdate::Outdated,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::super::fields::tests::{arbitrary_map, lines, map};
    use super::*;
    use proptest::prelude::*;

    const MODIFIED: &str = "Sun, 09 Sep 2001 01:40:00 GMT";
    const LATER: &str = "Sun, 09 Sep 2001 01:40:01 GMT";

    #[test]
    fn fields_are_replaced_whole_and_the_body_stays() {
        let entry = map(&[
            ("age", "7"),
            ("date", MODIFIED),
            ("cache-control", "max-age=1"),
            ("x", "1"),
            ("x", "2"),
            ("y", "1"),
            ("content-length", "5"),
            ("content-encoding", "gzip"),
            ("content-type", "text/plain"),
            ("etag", "\"a\""),
        ]);
        let not_modified = map(&[
            ("cache-control", "max-age=2"),
            ("cache-control", "public"),
            ("x", "3"),
            ("z", "1"),
            ("z", "2"),
            ("content-length", "0"),
            ("content-encoding", "br"),
            ("content-range", "bytes 0-1/2"),
            ("content-type", "text/html"),
            ("etag", "\"a\""),
            ("transfer-encoding", "chunked"),
            ("connection", "w"),
            ("w", "1"),
            ("keep-alive", "x"),
        ]);
        let expected = map(&[
            ("cache-control", "max-age=2"),
            ("cache-control", "public"),
            ("x", "3"),
            ("y", "1"),
            ("z", "1"),
            ("z", "2"),
            ("content-length", "5"),
            ("content-encoding", "gzip"),
            ("content-type", "text/plain"),
            ("etag", "\"a\""),
        ]);
        for preset in [Preset::Strict, Preset::Uptime] {
            let freshened = freshen(&entry, &not_modified, preset);
            assert_eq!(lines(&freshened), lines(&expected), "{preset:?}");
        }
        // The moment is the new message's.
        let update = map(&[("date", LATER), ("age", "3")]);
        let timed = freshen(&entry, &update, Preset::Uptime);
        assert_eq!(timed.get("date").unwrap(), LATER);
        assert_eq!(timed.get("age").unwrap(), "3");
    }

    /// A 304 of type `text/html` made a style sheet useless, and one with a new nonce kept
    /// the scripts of the stored page from running.
    #[test]
    fn what_belongs_to_the_stored_content_is_not_taken_from_a_304() {
        use Preset::{Strict, Uptime};
        let with = |nonce| format!("script-src 'nonce-{nonce}' 'self'");
        let (old, new) = (with("a"), with("b"));
        let (csp, report) = (
            "content-security-policy",
            "content-security-policy-report-only",
        );
        for (name, entry, update, strict, uptime) in [
            (
                "content-type",
                "text/css",
                "text/html",
                "text/css",
                "text/css",
            ),
            (
                "content-type",
                "text/css",
                "Text/CSS ;charset=utf-8",
                "Text/CSS ;charset=utf-8",
                "text/css",
            ),
            ("content-type", "", "text/html", "", ""),
            ("content-encoding", "", "gzip", "", ""),
            ("content-encoding", "gzip", "br", "gzip", "gzip"),
            ("content-range", "", "bytes 0-1/2", "", ""),
            (csp, &old, &new, &new, &old),
            (report, &old, &new, &new, &old),
            (csp, &old, "default-src 'self'", "default-src 'self'", &old),
            (csp, "", "script-src 'NONCE-b'", "script-src 'NONCE-b'", ""),
            (
                csp,
                "default-src *",
                "default-src 'self'",
                "default-src 'self'",
                "default-src 'self'",
            ),
        ] {
            let fields = |value: &str| match value {
                "" => HeaderMap::new(),
                value => map(&[(name, value)]),
            };
            for (preset, expected) in [(Strict, strict), (Uptime, uptime)] {
                let freshened = freshen(&fields(entry), &fields(update), preset);
                let found = freshened
                    .get(name)
                    .map_or("", |value| value.to_str().unwrap());
                assert_eq!(found, expected, "{preset:?} {name} {entry} {update}");
            }
        }
    }

    /// nginx 1.22 and 1.31 with gzip answer `W/"x"` with `"x"`, or `"x"` with `W/"x"`.
    #[test]
    fn a_304_that_names_the_tag_that_was_sent_confirms_the_entry_whatever_its_strength() {
        const TAG: (&str, &str) = ("etag", "\"a\"");
        const WEAK: (&str, &str) = ("etag", "W/\"a\"");
        const OTHER: (&str, &str) = ("etag", "\"b\"");
        const DATED: (&str, &str) = ("last-modified", MODIFIED);
        const DATED_LATER: (&str, &str) = ("last-modified", LATER);
        for (entry, new, expected) in [
            (&[TAG][..], &[TAG][..], true),
            (&[TAG], &[WEAK], true),
            (&[WEAK], &[TAG], true),
            (&[WEAK], &[WEAK], true),
            (&[TAG], &[OTHER], false),
            (&[WEAK], &[OTHER], false),
            (&[WEAK], &[("etag", "W/\"b\"")], false),
            (&[TAG], &[("etag", "a")], false),
            // The date is not compared where there are tags.
            (&[TAG, DATED], &[WEAK, DATED_LATER], true),
            (&[TAG, DATED], &[OTHER, DATED], false),
            // Only a date was sent.
            (&[DATED], &[TAG], true),
            (&[DATED], &[WEAK], true),
            (&[DATED], &[TAG, DATED], true),
            (&[DATED], &[DATED], true),
            (&[DATED], &[TAG, DATED_LATER], false),
            (&[DATED], &[DATED_LATER], false),
            (&[DATED], &[TAG, ("last-modified", "x")], false),
            // Nothing was sent that it could be about.
            (&[], &[TAG], false),
            (&[("last-modified", "x")], &[TAG], false),
            (&[], &[DATED], false),
            // It names nothing, or nothing that can be read.
            (&[TAG], &[], true),
            (&[DATED], &[], true),
            (&[], &[], true),
            (&[TAG, DATED], &[DATED], true),
            (&[TAG], &[DATED], false),
            (&[TAG], &[TAG, OTHER], false),
            (&[DATED], &[TAG, OTHER], false),
        ] {
            let (entry, new) = (map(entry), map(new));
            assert_eq!(confirms(&entry, &new), expected, "{entry:?} {new:?}");
        }
    }

    #[test]
    fn contradicting_validators_select_nothing() {
        for (entry, new, expected) in [
            (&[("etag", "\"a\"")][..], &[("etag", "\"a\"")][..], true),
            (&[("etag", "\"a\"")][..], &[("etag", "\"b\"")][..], false),
            (&[("etag", "W/\"a\"")][..], &[("etag", "W/\"a\"")][..], true),
            (&[("etag", "\"a\"")][..], &[("etag", "W/\"a\"")][..], true),
            // A strong validator selects by strong comparison alone.
            (&[("etag", "W/\"a\"")][..], &[("etag", "\"a\"")][..], false),
            (&[("etag", "a")][..], &[("etag", "a")][..], true),
            (
                &[("etag", "\"a\""), ("last-modified", MODIFIED)][..],
                &[("etag", "\"a\""), ("last-modified", LATER)][..],
                true,
            ),
            (
                &[("last-modified", MODIFIED)][..],
                &[("last-modified", MODIFIED)][..],
                true,
            ),
            (
                &[("last-modified", MODIFIED)][..],
                &[("last-modified", LATER)][..],
                false,
            ),
            (
                &[("last-modified", MODIFIED)][..],
                &[("last-modified", "x")][..],
                false,
            ),
            (
                &[("etag", "\"a\""), ("last-modified", MODIFIED)][..],
                &[("last-modified", MODIFIED)][..],
                true,
            ),
            (
                &[("etag", "\"a\"")][..],
                &[("last-modified", MODIFIED)][..],
                false,
            ),
            (
                &[("last-modified", MODIFIED)][..],
                &[("etag", "\"a\"")][..],
                false,
            ),
            (
                &[("last-modified", MODIFIED)][..],
                &[("etag", "\"a\""), ("last-modified", MODIFIED)][..],
                true,
            ),
            (
                &[("etag", "\"a\"")][..],
                &[("etag", "\"a\""), ("etag", "\"b\"")][..],
                false,
            ),
            (&[("etag", "\"a\"")][..], &[][..], true),
            (&[][..], &[][..], true),
        ] {
            assert_eq!(
                matches(&map(entry), &map(new)),
                expected,
                "{entry:?} {new:?}"
            );
        }
    }

    #[test]
    fn a_head_freshens_what_it_describes() {
        let entry = map(&[("etag", "\"a\"")]);
        for (head, expected) in [
            (
                &[("etag", "\"a\""), ("content-length", "5")][..],
                HeadUpdate::Freshen,
            ),
            (&[("etag", "\"a\"")][..], HeadUpdate::Freshen),
            (&[][..], HeadUpdate::Unknown),
            (
                &[("etag", "\"a\""), ("content-length", "6")][..],
                HeadUpdate::Outdated,
            ),
            (
                &[("content-length", "5"), ("content-length", "5")][..],
                HeadUpdate::Outdated,
            ),
            (
                &[("etag", "\"b\""), ("content-length", "5")][..],
                HeadUpdate::Outdated,
            ),
        ] {
            assert_eq!(head_update(&entry, 5, &map(head)), expected, "{head:?}");
        }
    }

    proptest! {
        #[test]
        fn what_describes_the_body_never_changes(entry in arbitrary_map(), new in arbitrary_map(), strict in any::<bool>()) {
            let merged = freshen(&entry, &new, if strict { Preset::Strict } else { Preset::Uptime });
            for name in [
                "content-digest",
                "content-encoding",
                "content-length",
                "content-md5",
                "content-range",
                "etag",
                "trailer",
            ] {
                let of = |headers: &HeaderMap| headers.get_all(name).iter().cloned().collect::<Vec<_>>();
                prop_assert_eq!(of(&merged), of(&entry));
            }
            for name in merged.keys() {
                prop_assert!(!is_of_one_connection(name));
            }
            let _ = (confirms(&entry, &new), head_update(&entry, 0, &new));
        }

        #[test]
        fn freshening_with_itself_matches(entry in arbitrary_map()) {
            // Malformed and repeated validators aside.
            let sound = |name| entry.get_all(name).iter().count() <= 1;
            let tag = entity_tag(&entry);
            if sound("etag")
                && tag.is_some() == entry.contains_key("etag")
                && !matches!(tag, Some(EntityTag::Malformed(_)))
                && (tag.is_some() || !entry.contains_key("last-modified"))
            {
                prop_assert!(matches(&entry, &entry) && confirms(&entry, &entry));
            }
        }
    }
}
