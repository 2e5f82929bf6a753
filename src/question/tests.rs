#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use super::policy::{Cookies, Credentials, KeyPolicy, Pattern, RequestPolicy, Unknown};
use super::*;
use crate::question::Origin;
use crate::semantics::LoopId;
use http::{HeaderMap, HeaderName, HeaderValue, Request, request};
use proptest::prelude::*;

static USER_AGENT: HeaderValue = HeaderValue::from_static("leeward");

const OUTGOING: Outgoing<'static> = Outgoing {
    user_agent: &USER_AGENT,
    via: Some("leeward"),
    loop_id: LoopId::EXAMPLE,
};

fn origin() -> Origin {
    Origin::parse("http://origin.example:8080/app").unwrap()
}

fn policy() -> RequestPolicy {
    RequestPolicy {
        ignored_cookies: vec![Pattern::new("_ga*")],
        key_fields: 4,
        key_bytes: 200,
        ..RequestPolicy::default()
    }
}

fn key_policy() -> KeyPolicy {
    KeyPolicy {
        ignore: vec![Pattern::new("utm_*")],
        sort: true,
        ..KeyPolicy::default()
    }
}

fn parts(target: &str, fields: &[(&str, &str)]) -> request::Parts {
    let mut request = Request::get(target).body(()).unwrap();
    for (name, value) in fields {
        request.headers_mut().append(
            HeaderName::try_from(*name).unwrap(),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
    request.into_parts().0
}

fn read_with(parts: &request::Parts, policy: &RequestPolicy) -> Read {
    Visitor::read(parts, false, &origin(), &key_policy(), policy)
}

fn visitor(target: &str, fields: &[(&str, &str)]) -> Visitor {
    match read_with(&parts(target, fields), &policy()) {
        Read::Question(visitor) => *visitor,
        other => panic!("{target} {fields:?}: {other:?}"),
    }
}

fn names(names: &[&'static str]) -> Vec<HeaderName> {
    names.iter().copied().map(HeaderName::from_static).collect()
}

/// The fields of a fill as sorted lines.
fn lines(fill: Fill) -> Vec<String> {
    let parts = fill.into_parts();
    let mut lines: Vec<String> = parts
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
        .collect();
    lines.sort();
    lines.insert(0, format!("{} {}", parts.method, parts.uri));
    lines
}

#[test]
fn a_fill_has_the_question_and_nothing_else_of_the_visitor() {
    let visitor = visitor(
        "/a?utm_source=%3Cscript%3E&b=2&a=%31",
        &[
            ("accept", "text/html,application/xml;q=0.9,*/*;q=0.8"),
            ("accept-encoding", "gzip, deflate, br, zstd"),
            ("accept-language", "de"),
            ("cookie", "session=1"),
            ("authorization", "Bearer x"),
            ("user-agent", "evil"),
            ("referer", "http://forum.example/"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-proto", "https"),
            ("x-tenant", " a ,b"),
            ("content-length", "5"),
            ("content-type", "text/plain"),
            ("expect", "100-continue"),
            ("if-none-match", "\"1\""),
            ("range", "bytes=0-1"),
            ("cache-control", "no-cache"),
            ("sec-fetch-mode", "navigate"),
            ("traceparent", "00-1-1-00"),
            ("connection", "x-tenant"),
        ],
    );
    assert!(visitor.has_credentials());
    let expected = [
        "GET http://origin.example:8080/app/a?a=1&b=2",
        "accept-encoding: br, gzip",
        "accept: text/html, */*;q=0.1",
        "cdn-loop: leeward; id=00112233445566aa",
        "user-agent: leeward",
        "via: 1.1 leeward",
        "x-forwarded-proto: https",
        "x-tenant: a,b",
    ];
    assert_eq!(lines(visitor.question(&[]).fill(None, OUTGOING)), expected);
    // What an answer's `Vary` names is sent from then on.
    let selected = visitor.question(&names(&["accept-language", "referer", "dnt"]));
    let filled = lines(selected.fill(None, OUTGOING));
    assert!(filled.contains(&"accept-language: de".to_owned()));
    assert!(filled.contains(&"referer: http://forum.example/".to_owned()));
    assert_eq!(filled.len(), expected.len() + 2);
}

/// Each shield fetches with a request of its own: a loop through two of them is recognised
/// only if the second says that it was asked by the first.
#[test]
fn a_question_that_came_through_another_shield_says_so() {
    let through = |value: &str| visitor("/", &[("cdn-loop", value)]).question(&[]);
    let plain = visitor("/", &[]).question(&[]);
    let sent = |question: &Question| {
        let filled = question.fill(None, OUTGOING).into_parts().headers;
        let values = filled.get_all("cdn-loop").iter();
        let values: Vec<_> = values.map(|value| value.to_str().unwrap()).collect();
        values.join(", ")
    };
    let own = "leeward; id=00112233445566aa";
    let other = "leeward; id=ffeeddccbbaa9988";
    assert_eq!(sent(&plain), own);
    let chained = through(&format!("cdn.example; n=1, {other}"));
    assert_eq!(sent(&chained), format!("{other}, {own}"));
    assert_ne!(chained.selector(), plain.selector());
    assert_eq!(chained, through(&other.to_uppercase()));
    // What others write there does not shape a question.
    assert_eq!(through("cdn.example; n=1, leeward"), plain);
}

#[test]
fn validators_are_the_entrys() {
    let mut entry = HeaderMap::new();
    entry.insert("etag", HeaderValue::from_static("\"e\""));
    let question = visitor("/", &[("if-none-match", "\"mine\"")]).question(&[]);
    let filled = lines(question.fill(Some(&entry), OUTGOING));
    assert!(
        filled.contains(&"if-none-match: \"e\"".to_owned()),
        "{filled:?}"
    );
    assert_eq!(
        filled.iter().filter(|line| line.starts_with("if-")).count(),
        1
    );
}

#[test]
fn what_tells_questions_apart() {
    let plain = visitor("/", &[]);
    let selector = |fields: &[(&str, &str)]| visitor("/", fields).question(&[]).selector();
    for (fields, same) in [
        (&[("accept", "*/*")][..], true),
        (&[("user-agent", "x")], true),
        (&[("cookie", "session=1")], true),
        (&[("authorization", "Basic x")], true),
        // Classes of codings share a cell until an answer is encoded.
        (&[("accept-encoding", "gzip")], true),
        (&[("accept-language", "de")], true),
        (&[("accept", "text/html")], false),
        (&[("x-forwarded-proto", "https")], false),
        (&[("x-forwarded-proto", "wss")], true),
        (&[("x-forwarded-host", "evil.example")], false),
        (&[("x-original-url", "/admin")], false),
        (&[("x-api-key", "a")], false),
        (&[("origin", "https://app.example")], false),
    ] {
        let equal = selector(fields) == plain.question(&[]).selector();
        assert_eq!(equal, same, "{fields:?}");
    }
    for (target, same) in [
        ("/?utm_x=1", true),
        ("/%", false),
        ("/a", false),
        ("/?a", false),
    ] {
        assert_eq!(visitor(target, &[]).key() == plain.key(), same, "{target}");
    }
}

#[test]
fn a_question_knows_its_selector_under_fields_that_it_did_not_send() {
    let vary = names(&["accept-encoding", "accept-language"]);
    let german = visitor(
        "/",
        &[("accept-language", "de"), ("accept-encoding", "gzip")],
    );
    let silent = visitor("/", &[("accept-encoding", "gzip")]);
    // The first answer was asked for without the field: it is for visitors
    // without it.
    let asked = german.question(&[]);
    assert_eq!(
        asked.under(&vary).selector(),
        silent.question(&vary).selector()
    );
    assert_ne!(
        asked.under(&vary).selector(),
        german.question(&vary).selector()
    );
    let known = german.question(&vary);
    assert_eq!(known.under(&vary).selector(), known.selector());
}

/// `image/webp` and `image/avif` were one answer, as were versions of an API.
#[test]
fn where_an_answer_varies_on_accept_the_whole_value_selects_and_is_sent() {
    let vary = names(&["accept"]);
    let of = |accept: &str| visitor("/", &[("accept", accept)]);
    let sent = |visitor: &Visitor| {
        let lines = lines(visitor.question(&vary).fill(None, OUTGOING));
        let line = lines.into_iter().find(|line| line.starts_with("accept: "));
        line.unwrap_or_default()
    };
    let values = [
        "image/webp",
        "image/avif",
        "image/*",
        "application/json",
        "application/json;odata=verbose",
        "application/json;v=1.0",
        "application/json;v=2.0",
        "text/html,application/xml;q=0.9,*/*;q=0.8",
        "*/*",
    ];
    for (index, value) in values.iter().enumerate() {
        assert_eq!(sent(&of(value)), format!("accept: {value}"));
        for other in &values[..index] {
            assert_ne!(
                of(value).question(&vary).selector(),
                of(other).question(&vary).selector(),
                "{value} {other}"
            );
        }
    }
    // White space around commas is not part of a list.
    assert_eq!(sent(&of("a/b , c/d")), "accept: a/b,c/d");
    // A visitor without the field sends none, and is asked apart from `*/*`.
    let silent = visitor("/", &[]);
    assert_eq!(sent(&silent), "");
    assert_ne!(
        silent.question(&vary).selector(),
        of("*/*").question(&vary).selector()
    );
    // The first answer was asked for with the class: it is for visitors with that value.
    for (asked, same, expected) in [
        ("application/json;v=1.0", "application/json", true),
        ("application/json;v=1.0", "application/json;v=1.0", false),
        ("image/webp", "image/*", true),
        ("image/webp", "image/webp", false),
        ("text/html,*/*;q=0.8", "text/html, */*;q=0.1", true),
        ("nonsense", "*/*", true),
    ] {
        let first = of(asked).question(&[]);
        assert_eq!(
            first.is_asked_by(&of(same), &vary),
            expected,
            "{asked} {same}"
        );
        let known = first.under(&vary);
        let equal = known.selector() == of(same).question(&vary).selector();
        assert_eq!(equal, expected, "{asked} {same}");
        if equal {
            let of_same = of(same).question(&vary).fill(None, OUTGOING);
            assert_eq!(lines(known.fill(None, OUTGOING)), lines(of_same));
        }
    }
}

#[test]
fn some_requests_ask_no_question() {
    for (fields, reason) in [
        (
            &[("x-http-method-override", "DELETE")][..],
            Reason::MethodOverride,
        ),
        (&[("x-method-override", "PUT")], Reason::MethodOverride),
        (&[("if-match", "\"1\"")], Reason::Precondition),
        (&[("if-unmodified-since", "x")], Reason::Precondition),
        (&[("range", "items=0-1")], Reason::RangeUnit),
        (
            &[
                ("x-a", "1"),
                ("x-b", "1"),
                ("x-c", "1"),
                ("x-d", "1"),
                ("x-e", "1"),
            ],
            Reason::TooManyFields,
        ),
    ] {
        let read = read_with(&parts("/", fields), &policy());
        assert!(
            matches!(read, Read::Pass(why) if why == reason),
            "{fields:?}: {read:?}"
        );
    }
    let long = "x".repeat(201);
    let read = read_with(&parts("/", &[("x-a", &long)]), &policy());
    assert!(matches!(read, Read::Pass(Reason::TooManyFields)));
    let read = Visitor::read(&parts("/", &[]), true, &origin(), &key_policy(), &policy());
    assert!(matches!(read, Read::Pass(Reason::Content)));
    for range in ["bytes=0-1", "BYTES=0-1", "bytes", ""] {
        assert!(matches!(
            read_with(&parts("/", &[("range", range)]), &policy()),
            Read::Question(_)
        ));
    }
}

#[test]
fn hosts_are_served_and_keyed_where_they_are_configured() {
    let key = KeyPolicy {
        hosts: vec!["a.example".into(), "b.example".into()],
        ..KeyPolicy::default()
    };
    let read = |host: &str| {
        Visitor::read(
            &parts("/", &[("host", host)]),
            false,
            &origin(),
            &key,
            &policy(),
        )
    };
    let key_of_host = |host: &str| match read(host) {
        Read::Question(visitor) => visitor.key().to_owned(),
        other => panic!("{host}: {other:?}"),
    };
    assert_eq!(key_of_host("a.example"), key_of_host("A.example:80"));
    assert_ne!(key_of_host("a.example"), key_of_host("b.example"));
    assert!(matches!(read("evil.example"), Read::Misdirected));
    assert!(matches!(read(""), Read::Misdirected));
    let Read::Question(visitor) = read("b.example") else {
        panic!("b.example is served");
    };
    let filled = lines(visitor.question(&[]).fill(None, OUTGOING));
    assert!(filled.contains(&"x-forwarded-host: b.example".to_owned()));
}

#[test]
fn origins_have_keys_of_their_own() {
    let other = Origin::parse("http://origin.example:8081/app").unwrap();
    let key = |origin: &Origin| key_of(origin, "http", None, "/a", &key_policy());
    assert_ne!(key(&origin()), key(&other));
    assert_eq!(key(&origin()), visitor("/a", &[("host", "any")]).key());
}

#[test]
fn a_rule_keys_credentials_by_a_hash_and_sends_them() {
    let policy = RequestPolicy {
        credentials: Credentials::Key,
        cookies: Cookies::Key(vec!["lang".into()]),
        ..policy()
    };
    let question = |token: &str, cookie: &str| {
        let parts = parts("/", &[("authorization", token), ("cookie", cookie)]);
        match read_with(&parts, &policy) {
            Read::Question(visitor) if !visitor.has_credentials() => visitor.question(&[]),
            other => panic!("{other:?}"),
        }
    };
    let one = question("Bearer secret", "lang=de; session=1");
    assert!(one.is_keyed_by_client());
    assert!(!one.selector().contains("secret"), "{}", one.selector());
    assert_eq!(one, question("Bearer secret", "session=2; lang=de"));
    assert_ne!(
        one.selector(),
        question("Bearer other", "lang=de").selector()
    );
    assert_ne!(
        one.selector(),
        question("Bearer secret", "lang=en").selector()
    );
    let filled = lines(one.fill(None, OUTGOING));
    assert!(filled.contains(&"cookie: lang=de".to_owned()), "{filled:?}");
    assert!(filled.contains(&"authorization: Bearer secret".to_owned()));
}

#[test]
fn strict_forwards_what_it_does_not_key_but_not_behind_an_answer() {
    let policy = RequestPolicy {
        unknown: Unknown::Forward,
        ..policy()
    };
    let strict = |fields: &[(&str, &str)]| match read_with(&parts("/", fields), &policy) {
        Read::Question(visitor) => *visitor,
        other => panic!("{other:?}"),
    };
    let fields = [
        ("accept", "a/b;c=d"),
        ("x-foo", "1"),
        ("cookie", "a=b"),
        ("x-original-url", "/x"),
    ];
    let question = strict(&fields).question(&[]);
    assert!(question.sends_credentials());
    let filled = lines(question.fill(None, OUTGOING));
    for line in [
        "accept: a/b;c=d",
        "x-foo: 1",
        "cookie: a=b",
        "x-original-url: /x",
    ] {
        assert!(filled.contains(&line.to_owned()), "{line}: {filled:?}");
    }
    let plain = strict(&[("x-original-url", "/x")]).question(&[]);
    assert_eq!(question.selector(), plain.selector());
    assert_ne!(question.selector(), strict(&[]).question(&[]).selector());
    assert_eq!(question.behind(), plain);
    // A selecting field is keyed, and sent behind an answer too.
    let selected = strict(&fields).question(&names(&["x-foo"]));
    assert_ne!(
        selected.selector(),
        strict(&[]).question(&names(&["x-foo"])).selector()
    );
    let filled = lines(selected.behind().fill(None, OUTGOING));
    assert!(filled.contains(&"x-foo: 1".to_owned()), "{filled:?}");
}

#[test]
fn a_dropped_field_reaches_the_origin_in_no_fill() {
    for unknown in [Unknown::Key, Unknown::Forward] {
        let policy = RequestPolicy {
            unknown,
            drop: vec![Pattern::new("x-foo*"), Pattern::new("user-agent")],
            ..policy()
        };
        let fields = [("x-foo-1", "1"), ("user-agent", "Odd")];
        let question = |fields: &[(&str, &str)]| match read_with(&parts("/", fields), &policy) {
            Read::Question(visitor) => visitor.question(&names(&["x-foo-1", "user-agent"])),
            other => panic!("{other:?}"),
        };
        assert_eq!(question(&fields).selector(), question(&[]).selector());
        for line in lines(question(&fields).fill(None, OUTGOING)) {
            assert!(!line.contains("x-foo") && !line.contains("Odd"), "{line}");
        }
    }
}

#[test]
fn passed_requests_keep_their_fields_and_gain_the_visitors_address() {
    let mut request = parts(
        "/a?utm_x=1",
        &[
            ("host", "www.example"),
            ("cookie", "session=1"),
            ("x-forwarded-for", "10.1.1.1"),
            ("x-forwarded-proto", "gopher"),
            ("content-length", "5"),
            ("content-type", "text/plain"),
            ("connection", "close"),
        ],
    );
    let address = Some("192.0.2.7".parse().unwrap());
    let sent = pass::forwarded(&request, false, address, &origin(), OUTGOING).unwrap();
    assert_eq!(sent.uri, "http://origin.example:8080/app/a?utm_x=1");
    let text = |name: &str| {
        sent.headers
            .get(name)
            .map(|value| value.to_str().unwrap().to_owned())
    };
    assert_eq!(text("cookie").as_deref(), Some("session=1"));
    assert_eq!(
        text("x-forwarded-for").as_deref(),
        Some("10.1.1.1, 192.0.2.7")
    );
    assert_eq!(text("x-forwarded-proto").as_deref(), Some("http"));
    assert_eq!(text("x-forwarded-host").as_deref(), Some("www.example"));
    for gone in ["content-length", "content-type", "connection", "host"] {
        assert_eq!(text(gone), None, "{gone}");
    }
    request.headers.remove("connection");
    let sent = pass::forwarded(&request, true, None, &origin(), OUTGOING).unwrap();
    assert_eq!(sent.headers.get("content-length").unwrap(), "5");
}

#[test]
fn a_redirect_to_its_own_question_is_recognised() {
    let key = key_policy();
    let leads = |target: &str, fields: &[(&str, &str)], location: &str| {
        let mut headers = HeaderMap::new();
        headers.insert("location", HeaderValue::from_str(location).unwrap());
        let question = visitor(target, fields).question(&[]);
        location::leads_to_itself(&headers, &question, &key)
    };
    for (target, location, expected) in [
        ("/page", "/page", true),
        ("/page", "/page?utm_source=x", true),
        ("/page", "/page#top", true),
        ("/page?b=1&a=2", "/page?a=2&b=1", true),
        ("/~joe/", "/%7Ejoe/", true),
        ("/page", "http://www.example/page", true),
        ("/page", "//www.example/page", true),
        ("/page", "https://www.example/page", false),
        ("/page", "/page/", false),
        ("/a/page", "page", true),
        ("/a/page", "other", false),
        ("/page", "", true),
        ("/page", "mailto:a@b", false),
    ] {
        assert_eq!(
            leads(target, &[], location),
            expected,
            "{target} {location}"
        );
    }
    let https = [("x-forwarded-proto", "https")];
    assert!(leads("/page", &https, "https://www.example/page"));
    assert!(!leads("/page", &https, "http://www.example/page"));
}

fn arbitrary_request() -> impl Strategy<Value = request::Parts> {
    let field = prop_oneof![
        (
            "(accept|accept-encoding|accept-language)",
            "(text/html|application/json|\\*/\\*|gzip|br|de|en)(;q=0\\.[0-9])?(, ?(gzip|\\*/\\*|fr))?"
        ),
        (
            "(cookie|authorization|x-api-key|x-tenant|origin|x-requested-with)",
            "[a-b]=?[0-1]"
        ),
        (
            "(user-agent|referer|x-forwarded-for|dnt|sec-gpc|traceparent|via|cdn-loop)",
            "[a-b]"
        ),
        (
            "(x-forwarded-proto|x-forwarded-host|x-original-url|forwarded)",
            "(https|http|/a|b)"
        ),
        (
            "(content-length|content-type|expect|if-none-match|range|cache-control)",
            "[0-1]"
        ),
    ];
    let target = "/[ab]?(\\?(utm_x=[ab]&)?(b=[12])?(&a=%[36]1)?)?";
    (target, proptest::collection::vec(field, 0..6)).prop_map(|(target, fields)| {
        let fields: Vec<(&str, &str)> = fields
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        parts(&target, &fields)
    })
}

fn arbitrary_vary() -> impl Strategy<Value = Vec<HeaderName>> {
    proptest::sample::subsequence(
        names(&[
            "accept",
            "accept-encoding",
            "accept-language",
            "referer",
            "user-agent",
        ]),
        0..=5,
    )
}

fn arbitrary_policy() -> impl Strategy<Value = RequestPolicy> {
    (0..3_u8, 0..3_u8, any::<bool>()).prop_map(|(credentials, cookies, strict)| RequestPolicy {
        credentials: match credentials {
            0 => Credentials::Pass,
            1 => Credentials::Key,
            _ => Credentials::Ignore,
        },
        cookies: match cookies {
            0 => Cookies::Pass,
            1 => Cookies::Ignore,
            _ => Cookies::Key(vec!["a".into()]),
        },
        unknown: match strict {
            true => Unknown::Forward,
            false => Unknown::Key,
        },
        ..policy()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// The rule of this module.
    #[test]
    fn equal_questions_have_equal_fills(
        a in arbitrary_request(),
        b in arbitrary_request(),
        vary in arbitrary_vary(),
        policy in arbitrary_policy(),
    ) {
        if let (Read::Question(a), Read::Question(b)) = (read_with(&a, &policy), read_with(&b, &policy)) {
            let (a, b) = (a.question(&vary), b.question(&vary));
            if a == b {
                prop_assert_eq!(lines(a.fill(None, OUTGOING)), lines(b.fill(None, OUTGOING)));
            }
        }
    }

    /// Visitors that share a cell would have caused the same request: the key,
    /// the selector and the class of codings leave nothing else to choose. In
    /// preset `strict` that holds behind an answer.
    #[test]
    fn a_cell_names_its_fill(
        a in arbitrary_request(),
        b in arbitrary_request(),
        vary in arbitrary_vary(),
        policy in arbitrary_policy(),
    ) {
        if let (Read::Question(a), Read::Question(b)) = (read_with(&a, &policy), read_with(&b, &policy)) {
            let (one, other) = (a.question(&vary).behind(), b.question(&vary).behind());
            if a.key() == b.key() && one.selector() == other.selector() {
                let without_codings = |question: &Question| {
                    let mut lines = lines(question.fill(None, OUTGOING));
                    lines.retain(|line| !line.starts_with("accept-encoding"));
                    lines
                };
                prop_assert_eq!(without_codings(&one), without_codings(&other));
            }
        }
    }
}

#[test]
fn host_and_target_are_read_back_from_a_key() {
    let hosts = KeyPolicy {
        hosts: vec!["shop.example".to_owned()],
        ..key_policy()
    };
    for (policy, host) in [(key_policy(), None), (hosts, Some("shop.example"))] {
        let origin = Origin::parse("http://10.0.0.5:8080/app").unwrap();
        let key = key_of(
            &origin,
            "http",
            Some("Shop.example:80"),
            "/%61?b:c",
            &policy,
        );
        for key in [
            key.clone(),
            preflight::preflight_key(&key),
            format!("{key}\nvary accept"),
        ] {
            assert_eq!(parts_of_key(&key), Some((host, "/a?b:c")), "{key:?}");
        }
    }
    for other in ["", "\nsweeper", "a", "3:ab", "1:a-", "1:ab2:cc", "1:ä-"] {
        assert_eq!(parts_of_key(other), None, "{other:?}");
    }
}

#[test]
fn selectors_are_told_in_words() {
    for (selector, words) in [
        ("http3:*/*", Some("http, accept: */*")),
        ("https9:text/html", Some("https, accept: text/html")),
        (
            "http3:*/*+16:x-requested-with1:a~15:accept-language2:de~3:dnt-",
            Some("http, accept: */*, x-requested-with: a, accept-language: de, without dnt"),
        ),
        (
            "http+9:x-api-key5:s3cr3",
            Some("http, x-api-key: not shown"),
        ),
        (
            "http#13:authorization4:abcd",
            Some("http, authorization of one client"),
        ),
        ("http~15:accept-encoding8:identity~", None),
        ("preflight", None),
        ("http~9:x", None),
    ] {
        assert_eq!(selector_in_words(selector).as_deref(), words, "{selector}");
    }
}
