//! Single fields: directives, dates, those of one connection, `Via`,
//! `Cache-Status`.
//!
//! Input: `<ttl> <flags> <status>`, header fields, a key, a detail.

use crate::input::{Sections, changed, lines};
use http::{HeaderMap, HeaderValue, Method, Version};
use leeward::semantics::directives::{SECONDS_MAX, Seconds};
use leeward::semantics::response::{LISTED_FIELDS_MAX, Scope, Source};
use leeward::semantics::{
    CacheStatus, Forward, Hop, IgnoreOrigin, RequestDirectives, ResponseDirectives, append_via,
    count_hop, date, is_upgrade, strip_connection_fields,
};
use std::time::Duration;

/// Everything below, for one input.
pub fn check(input: &[u8]) {
    let mut input = Sections::of(input);
    let [ttl, flags, status] = input.numbers();
    let fields = input.fields();
    let key = input.text();
    let detail = input.text();
    response_directives(&fields);
    request_directives(&fields);
    for value in fields.values() {
        a_date(value.as_bytes());
    }
    connection(&fields);
    via(&fields);
    hops(&fields);
    let member = CacheStatus {
        hit: flags & 1 != 0,
        fwd: (flags & 2 != 0).then_some(Forward::Stale),
        fwd_status: (flags & 4 != 0).then_some(status as u16),
        ttl: (flags & 8 != 0).then_some((ttl as i64).wrapping_sub((flags & 16) as i64)),
        stored: flags & 32 != 0,
        collapsed: flags & 64 != 0,
        key: (flags & 128 != 0).then_some(key),
        detail: (flags & 256 != 0).then_some(detail),
    };
    cache_status(&fields, &member);
}

fn response_directives(fields: &HeaderMap) {
    let said = ResponseDirectives::parse(fields);
    assert!(said.listed_fields().count() <= 2 * LISTED_FIELDS_MAX);
    for number in [
        said.max_age,
        said.s_maxage,
        said.stale_while_revalidate,
        said.stale_if_error,
    ] {
        if let Some(Seconds::Valid(seconds)) = number {
            assert!(seconds <= SECONDS_MAX);
        }
    }
    let nothing = said.clone().without(IgnoreOrigin {
        private: true,
        no_cache: true,
        no_store: true,
        must_revalidate: true,
        set_cookie: true,
    });
    assert_eq!(nothing.private, Scope::Nothing);
    assert!(!nothing.no_store && nothing.listed_fields().next().is_none());

    // RFC 9213 section 2.2: a targeted field that counts is all that counts.
    let mut targeted_alone = fields.clone();
    targeted_alone.remove("cache-control");
    let mut untargeted = fields.clone();
    untargeted.remove("cdn-cache-control");
    match said.source {
        Source::Targeted => assert_eq!(ResponseDirectives::parse(&targeted_alone), said),
        // One that is not valid can forbid, and permits nothing.
        Source::Untargeted => {
            let plain = ResponseDirectives::parse(&untargeted);
            assert!(said.no_store || !plain.no_store);
            assert!(said.must_revalidate || !plain.must_revalidate);
            assert!(said.private == Scope::Everything || said.private == plain.private);
            assert!(said.no_cache == Scope::Everything || said.no_cache == plain.no_cache);
            let granted = |said: &ResponseDirectives| (said.public, said.must_understand);
            assert_eq!(granted(&said), granted(&plain));
        }
    }

    // RFC 9111 section 5.2: case means nothing, in names and in lists of fields.
    let said = ResponseDirectives::parse(&untargeted);
    let upper = changed(&untargeted, <[u8]>::to_ascii_uppercase);
    assert_eq!(ResponseDirectives::parse(&upper), said);

    // RFC 9110 section 5.3: several lines are one list.
    let values = lines(&untargeted, "cache-control");
    let quoted = |value: &&HeaderValue| value.as_bytes().contains(&b'"');
    if !values.is_empty() && !values.iter().any(quoted) {
        let joined = values
            .iter()
            .map(|value| value.as_bytes())
            .collect::<Vec<_>>()
            .join(&b" ,\t, "[..]);
        let mut one_line = HeaderMap::new();
        if let Ok(joined) = HeaderValue::from_bytes(&joined) {
            one_line.insert("cache-control", joined);
            assert_eq!(ResponseDirectives::parse(&one_line), said);
        }
    }

    // What restricts cannot be taken back by anything before it.
    let mut restricted = untargeted;
    restricted.append(
        "cache-control",
        HeaderValue::from_static("no-store, private, no-cache, must-revalidate"),
    );
    let said = ResponseDirectives::parse(&restricted);
    assert!(said.no_store && said.must_revalidate);
    assert_eq!(
        (said.private, said.no_cache),
        (Scope::Everything, Scope::Everything)
    );
}

fn request_directives(fields: &HeaderMap) {
    let wanted = RequestDirectives::parse(fields);
    let longest = Duration::from_secs(u64::from(SECONDS_MAX));
    for limit in [wanted.max_age, wanted.min_fresh, wanted.stale_if_error] {
        assert!(limit.is_none_or(|limit| limit <= longest));
    }
    let upper = changed(fields, <[u8]>::to_ascii_uppercase);
    assert_eq!(RequestDirectives::parse(&upper), wanted);
    if fields.contains_key("cache-control") {
        // RFC 9111 section 5.4: Pragma then says nothing.
        let mut without_pragma = fields.clone();
        without_pragma.remove("pragma");
        assert_eq!(RequestDirectives::parse(&without_pragma), wanted);
    }
}

fn a_date(value: &[u8]) {
    let Some(time) = date::parse(value) else {
        return;
    };
    assert_eq!(time.as_unix_millis() % 1_000, 0);
    // The leap second at the end of the year 9999 has no date of its own.
    if time.as_unix_millis() < 253_402_300_800_000 {
        assert_eq!(date::parse(date::format(time).as_bytes()), Some(time));
    }
    for spelled in [value.to_ascii_lowercase(), value.to_ascii_uppercase()] {
        assert_eq!(date::parse(&spelled), Some(time));
    }
    for more in [&b"x"[..], b", ", b" GMT", b"0"] {
        assert_eq!(date::parse(&[value, more].concat()), None);
    }
}

fn connection(fields: &HeaderMap) {
    let _ = is_upgrade(&Method::GET, fields);
    let mut kept = fields.clone();
    strip_connection_fields(&mut kept);
    for name in ["connection", "keep-alive", "te", "transfer-encoding"] {
        assert!(!kept.contains_key(name));
    }
    for name in kept.keys() {
        assert_eq!(
            lines(&kept, name.as_str()),
            lines(fields, name.as_str()),
            "{name}"
        );
    }
    // What decides about storing, lengths and senders cannot be hidden.
    for name in ["cache-control", "vary", "set-cookie", "content-length"] {
        assert_eq!(kept.contains_key(name), fields.contains_key(name), "{name}");
    }
    let once = kept.clone();
    strip_connection_fields(&mut kept);
    assert_eq!(kept, once);
}

fn hops(fields: &HeaderMap) {
    let mut sent = fields.clone();
    if count_hop(&Method::TRACE, &mut sent) == Hop::Answer {
        assert_eq!(sent, *fields);
    }
    let mut sent = fields.clone();
    assert_eq!(count_hop(&Method::GET, &mut sent), Hop::Forward);
    assert_eq!(sent, *fields);
}

fn via(fields: &HeaderMap) {
    let mut passed = fields.clone();
    append_via(&mut passed, Version::HTTP_11, "leeward");
    let (before, after) = (lines(fields, "via"), lines(&passed, "via"));
    assert!(after.starts_with(&before) && after.len() == before.len() + 1);
}

fn cache_status(fields: &HeaderMap, member: &CacheStatus) {
    let mut answered = fields.clone();
    member.append_to(&mut answered);
    let (before, after) = (
        lines(fields, "cache-status"),
        lines(&answered, "cache-status"),
    );
    assert!(after.starts_with(&before) && after.len() == before.len() + 1);
    let Some(line) = after.last() else { return };
    let list = sfv::Parser::new(line.as_bytes()).parse::<sfv::List>();
    let Ok([sfv::ListEntry::Item(item)]) = list.as_deref() else {
        assert_eq!(*line, "", "not a list of one");
        return;
    };
    assert_eq!(item.params.contains_key("hit"), member.hit);
    // RFC 9211 section 2.2: a hit did not go forward.
    assert!(!(member.hit && item.params.contains_key("fwd")));
    assert_eq!(item.params.contains_key("ttl"), member.ttl.is_some());
    assert_eq!(item.params.contains_key("key"), member.key.is_some());
    assert_eq!(item.params.contains_key("detail"), member.detail.is_some());
}
