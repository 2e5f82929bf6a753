#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod rules;

use super::*;
use crate::question::policy::{Cookies, Credentials, Unknown, any_matches};
use proptest::prelude::*;

/// Why `text` is refused.
fn refused(text: &str) -> String {
    Config::parse(text).unwrap_err().to_string()
}

#[test]
fn nothing_means_the_defaults() {
    for text in ["", "\n", "# nothing\n"] {
        let config = Config::parse(text).unwrap();
        assert_eq!(config.policy.preset, Preset::Uptime);
        assert_eq!(config.policy.default_ttl, Duration::from_secs(60));
        assert_eq!(config.policy.jitter_per_mille, 100);
        assert_eq!(config.origin.retry.max, Duration::from_secs(60));
        assert_eq!(config.lease.duration, Duration::from_secs(5));
        assert_eq!(config.limits.inline, 262_144);
        assert!(!config.key.sort);
        assert!(!config.key.lowercase);
        assert_eq!(config.key.hosts, [""; 0]);
        assert_eq!(config.policy.error_ttl, Duration::from_secs(1));
        assert_eq!(config.policy.error_ttl_max, Duration::from_secs(60));
        assert!(config.policy.store_silent);
        assert_eq!(config.origin.retry_after_max, Duration::from_secs(600));
        let user_agent = concat!("leeward/", env!("CARGO_PKG_VERSION"));
        assert_eq!(config.origin.user_agent, user_agent);
        assert!(config.origin.via);
        assert_eq!(config.request.unknown, Unknown::Key);
        assert_eq!(config.request.cookies, Cookies::Pass);
        assert_eq!(config.request.credentials, Credentials::Pass);
        assert_eq!(
            (config.request.key_fields, config.request.key_bytes),
            (16, 4_096)
        );
        assert_eq!(config.limits.response_header_count, 256);
        assert_eq!(config.limits.response_header_bytes, 65_536);
        assert_eq!(config.rules, []);
        assert_eq!(config.health.len(), 5);
    }
    // The defaults of `Policy`, which the HTTP rules are tested with, are these.
    assert_eq!(
        Config::parse("").unwrap().policy,
        Policy::of(Preset::Uptime)
    );
    let strict = Config::parse("preset = \"strict\"").unwrap();
    assert_eq!(strict.policy, Policy::of(Preset::Strict));
}

#[test]
fn cookies_that_identify_a_session_are_not_ignored() {
    let ignored = Config::parse("").unwrap().request.ignored_cookies;
    for (name, expected) in [
        ("_ga", true),
        ("_ga_ABC123", true),
        ("ai_session", true),
        ("OptanonConsent", true),
        ("borlabs-cookie", true),
        ("ARRAffinity", true),
        ("AMCVS_1", true),
        ("TS01abc", true),
        ("ASP.NET_SessionId", false),
        (".AspNetCore.Antiforgery", false),
        (".ASPXAUTH", false),
        ("JSESSIONID", false),
        ("PHPSESSID", false),
        ("lang", false),
        ("cart", false),
        ("optanonconsent", false),
    ] {
        assert_eq!(any_matches(&ignored, name), expected, "{name}");
    }
    let own = Config::parse("request.cookies.ignore = [\"a\"]").unwrap();
    assert_eq!(own.request.ignored_cookies, [Pattern::new("a")]);
}

#[test]
fn strict_forwards_unknown_fields_unless_it_is_set() {
    for (text, unknown) in [
        ("preset = \"strict\"", Unknown::Forward),
        (
            "preset = \"strict\"\nrequest.unknown = \"key\"",
            Unknown::Key,
        ),
        ("preset = \"uptime\"", Unknown::Key),
        ("request.unknown = \"forward\"", Unknown::Forward),
    ] {
        let config = Config::parse(text).unwrap();
        assert_eq!(config.request.unknown, unknown, "{text}");
    }
}

#[test]
fn lists_are_read_in_their_normal_form() {
    let config = Config::parse(
        "[key]\nhosts = [\"WWW.Example.com:443\", \"www.example.com\", \"a:8080\"]\n[request]\ndrop = \
         [\"X-Device-Id\", \"X-App-*\"]\nforward = [\"X-Trace\"]\n[response]\ndrop = [\"X-Powered-By\"]\n",
    )
    .unwrap();
    assert_eq!(config.key.hosts, ["www.example.com", "a:8080"]);
    let patterns = ["x-device-id", "x-app-*"].map(Pattern::new);
    assert_eq!(config.request.drop, patterns);
    assert_eq!(config.request.forward, [Pattern::new("x-trace")]);
    assert_eq!(config.response.drop, [Pattern::new("x-powered-by")]);
}

#[test]
fn every_option_can_be_set_to_its_default() {
    let defaults = Config::parse("").unwrap();
    for option in OPTIONS {
        // `Config` is made from these; a default that is refused would show here.
        let text = format!("{} = {}", option.name, option.default);
        assert_eq!(Config::parse(&text).unwrap(), defaults, "{text}");
    }
}

#[test]
fn strict_has_no_default_ttl_unless_it_is_set() {
    for (text, ttl) in [
        ("preset = \"strict\"", 0),
        ("preset = \"strict\"\nfreshness.default_ttl = \"5s\"", 5),
        ("preset = \"uptime\"", 60),
    ] {
        let config = Config::parse(text).unwrap();
        assert_eq!(
            config.policy.default_ttl,
            Duration::from_secs(ttl),
            "{text}"
        );
    }
}

#[test]
fn settings_can_be_written_in_all_of_tomls_ways() {
    let config = Config::parse(
        "preset = \"strict\"\nlease.duration = \"2s\"\n[freshness]\njitter = 0.25\n[origin]\n\
         retry = { first = \"200ms\", max = \"1s\" }\n[key.query]\nignore = [\"x\"]\nsort = true\n",
    )
    .unwrap();
    assert_eq!(config.policy.preset, Preset::Strict);
    assert_eq!(config.lease.duration, Duration::from_secs(2));
    assert_eq!(config.policy.jitter_per_mille, 250);
    assert_eq!(config.origin.retry.first, Duration::from_millis(200));
    assert_eq!(config.key.ignore, [Pattern::new("x")]);
    assert!(config.key.sort);
}

#[test]
fn what_is_wrong_is_said_with_its_place_and_a_remedy() {
    for (text, expected) in [
        (
            "[freshness]\ndefault_ttl = \"60\"",
            "config:2:15: freshness.default_ttl: \"60\" has no unit; write for instance \"60s\"",
        ),
        (
            "[freshness]\ndefault_tll = \"60s\"",
            "config:2:1: freshness.default_tll: there is no such setting; did you mean \
             freshness.default_ttl?",
        ),
        (
            "presets = 1",
            "config:1:1: presets: there is no such setting; did you mean preset?",
        ),
        (
            "preset = \"x\"",
            "config:1:10: preset: write \"uptime\" or \"strict\"",
        ),
        (
            "lease = 5",
            "config:1:9: lease: is a table of settings, not an integer; write for instance \
             lease.duration = \"5s\"",
        ),
        (
            "limits.url = -1",
            "config:1:14: limits.url: write a whole number from 64 to 65536",
        ),
        (
            "freshness.jitter = 1.5",
            "config:1:20: freshness.jitter: write a number from 0 to 0.999, for instance 0.1",
        ),
        (
            "wait.budget = 10",
            "config:1:15: wait.budget: is a duration, not an integer; write text with a unit, for \
             instance \"1s\"",
        ),
        (
            "lease.duration = \"1h\"",
            "config:1:18: lease.duration: \"1h\" is out of bounds; write a duration from 100ms to \
             1m",
        ),
        (
            "key.query.ignore = \"a\"",
            "config:1:20: key.query.ignore: write a list of texts, for instance \
             [\"utm_*\", \"gclid\"]",
        ),
        (
            "lease.duration = \"1s\"",
            "config:1:18: lease.duration: a lease of 1s is too short for a clock skew of 500ms: its \
             holder would have no time to work; write at least four times lease.clock_skew as \
             lease.duration",
        ),
        (
            "origin.retry = { first = \"5m\" }",
            "config:1:26: origin.retry.first: the first pause, 5m, is longer than the longest, 1m; \
             write at least 5m as origin.retry.max, or a shorter origin.retry.first",
        ),
        (
            "[origin]\nfill_timeout = \"10s\"",
            "config:2:16: origin.fill_timeout: a whole fetch would have 10s, but its head alone has \
             15s; write at least 15s as origin.fill_timeout, or a shorter origin.first_byte_timeout",
        ),
        (
            "[origin]\nfirst_byte_timeout = \"5m\"",
            "config:2:22: origin.first_byte_timeout: a whole fetch would have 1m, but its head alone \
             has 5m; write at least 5m as origin.fill_timeout, or a shorter \
             origin.first_byte_timeout",
        ),
        (
            "[origin]\npass_timeout = \"1s\"",
            "config:2:16: origin.pass_timeout: a forwarded request would have 1s to its answer, but \
             connecting alone has 3s; write at least 3s as origin.pass_timeout, or a shorter \
             origin.connect_timeout",
        ),
        (
            "cookies = \"none\"",
            "config:1:11: cookies: write \"pass\", \"ignore\" or { key = [\"lang\"] }",
        ),
        (
            "cookies = { key = [] }",
            "config:1:19: cookies: an empty list keys no cookie; write cookies = \"ignore\" to \
             drop all of them",
        ),
        (
            "cookies = { key = [\"a\"], keys = 1 }",
            "config:1:26: cookies: write \"pass\", \"ignore\" or { key = [\"lang\"] }",
        ),
        (
            "cookies = {}",
            "config:1:11: cookies: write \"pass\", \"ignore\" or { key = [\"lang\"] }",
        ),
        (
            "cookies = { key = \"a\" }",
            "config:1:19: cookies: write a list of texts, for instance [\"lang\"]",
        ),
        (
            "cookies = { key = [\"a\", \"b*\"] }",
            "config:1:25: cookies: \"b*\" has a *, but cookies are keyed by their whole name; write \
             each name",
        ),
        (
            "cookies = { key = [\"bm_x\"] }",
            "config:1:11: cookies: \"bm_x\" is keyed, but request.cookies.ignore removes it; write \
             a request.cookies.ignore without it, or remove it from cookies",
        ),
        (
            "credentials = true",
            "config:1:15: credentials: write \"pass\", \"key\" or \"ignore\"",
        ),
        (
            "freshness.error_ttl = \"11m\"",
            "config:1:23: freshness.error_ttl: \"11m\" is out of bounds; write a duration from 0s \
             to 10m",
        ),
        (
            "origin.user_agent = \"a\\nb\"",
            "config:1:21: origin.user_agent: \"a\\nb\" cannot be sent as the value of a field; \
             write ASCII letters, for instance \"leeward/<version>\"",
        ),
        (
            "origin.user_agent = \"\"",
            "config:1:21: origin.user_agent: write a text, for instance \"leeward/<version>\"",
        ),
        (
            "origin.user_agent = \" a\"",
            "config:1:21: origin.user_agent: \" a\" has space at its beginning or end; write \"a\"",
        ),
        (
            "key.hosts = [\"a\", \"https://b/\"]",
            "config:1:19: key.hosts: \"https://b/\" has a scheme; write the host alone, \"b\"",
        ),
        (
            "key.hosts = [\"*.example.com\"]",
            "config:1:14: key.hosts: \"*.example.com\" has a *, but hosts are compared whole; write \
             each host that is served, for instance \"www.example.com\"",
        ),
        (
            "key.hosts = \"a\"",
            "config:1:13: key.hosts: write a list of texts, for instance [\"www.example.com\", \
             \"localhost:8080\"]",
        ),
        (
            "request.unknown = \"drop\"",
            "config:1:19: request.unknown: write \"key\" or \"forward\"",
        ),
        (
            "request.drop = [\"x y\"]",
            "config:1:17: request.drop: \"x y\" is not the name of a field; write for instance \
             \"x-device-id\" or \"x-app-*\"",
        ),
        (
            "request.drop = [\"Cookie\"]",
            "config:1:17: request.drop: \"Cookie\" cannot be listed: cookies have a setting of \
             their own; remove it, and write cookies = \"ignore\"",
        ),
        (
            "request.forward = [\"x-a\", \"Host\"]",
            "config:1:27: request.forward: \"Host\" cannot be listed: it decides which page is \
             meant; remove it, and list the hosts in key.hosts",
        ),
        (
            "request.forward = [\"x-a\"]\nrequest.drop = [\"X-A\"]",
            "config:1:19: request.forward: \"x-a\" is in request.drop and in request.forward; \
             remove it from one of them",
        ),
        (
            "request.forward = [1]",
            "config:1:20: request.forward: write a list of texts, for instance [\"x-device-id\", \
             \"x-app-*\"]",
        ),
        (
            "request.cookies.ignore = [\"*_id\"]",
            "config:1:27: request.cookies.ignore: \"*_id\" has a * before its end; write for \
             instance \"*\"",
        ),
        (
            "response.drop = [\"etag\"]",
            "config:1:18: response.drop: \"etag\" cannot be listed: a stored response is chosen, \
             validated and kept by it; remove it",
        ),
        (
            "health.paths = [\"health\"]",
            "config:1:17: health.paths: \"health\" does not begin with a slash, as every path does; \
             write \"/health\"",
        ),
        (
            "limits.response_header_count = 1",
            "config:1:32: limits.response_header_count: write a whole number from 8 to 4096",
        ),
        (
            "zzz = 1",
            "config:1:1: zzz: there is no such setting; known are rule, fallback, preset, cookies, \
             credentials, browser_ttl, freshness.*, origin.*, lease.*, admin.*, warm.*, wait.*, key.*, request.*, \
             response.*, limits.*, health.*",
        ),
        (
            "key.zzz = 1",
            "config:1:5: key.zzz: there is no such setting; known are key.query.*, key.path.*, \
             key.hosts",
        ),
        (
            "via = false",
            "config:1:1: via: there is no such setting; did you mean origin.via?",
        ),
    ] {
        let expected = expected.replace("<version>", env!("CARGO_PKG_VERSION"));
        assert_eq!(refused(text), expected, "{text}");
    }
}

#[test]
fn pages_to_fetch_at_the_start_are_paths() {
    let urls = Config::parse("warm.urls = [\"/\", \"/a?b=c%20d\"]").unwrap();
    assert_eq!(urls.warm.urls, ["/", "/a?b=c%20d"]);
    for (url, remedy) in [
        ("http://a/b", "the path alone"),
        ("a", "write \"/a\""),
        ("/a#b", "before the #"),
        ("/a b", "%20"),
        ("", "does not begin with /"),
    ] {
        let told = refused(&format!("warm.urls = [{url:?}]"));
        assert!(told.contains(remedy), "{url}: {told}");
    }
}

#[test]
fn a_list_has_a_bound() {
    let hosts = |count| format!("key.hosts = [{}]", "\"a\",".repeat(count));
    assert_eq!(Config::parse(&hosts(LIST_MAX)).unwrap().key.hosts, ["a"]);
    assert_eq!(
        refused(&hosts(LIST_MAX + 1)),
        "config:1:13: key.hosts: has 257 items; write at most 256"
    );
}

#[test]
fn invalid_toml_is_said_with_its_place() {
    let message = Config::parse("preset = \"uptime\"\n[freshness\n")
        .unwrap_err()
        .to_string();
    assert!(message.starts_with("config:2:"), "{message}");
}

#[test]
fn a_line_break_in_a_name_makes_no_line_of_its_own() {
    let message = Config::parse("\"a\\nb\\u001b\" = 1")
        .unwrap_err()
        .to_string();
    assert!(
        message.starts_with("config:1:1: a\\nb\\u{1b}: "),
        "{message}"
    );
    assert_eq!(message.lines().count(), 1);
}

#[test]
fn all_problems_are_said_at_once() {
    let message = Config::parse("a = 1\npreset = 2").unwrap_err().to_string();
    assert_eq!(message.lines().count(), 2, "{message}");
    let both = refused("[[rule]]\nmatch.path = \"/a\"\nb = 1\n[[rule]]\n[freshness]\njitter = 1\n");
    let places: Vec<_> = both
        .lines()
        .filter_map(|line| line.split(": ").next())
        .collect();
    assert_eq!(
        places,
        ["config:3:1", "config:4:1", "config:6:10"],
        "{both}"
    );
}

/// Each example is valid.
#[test]
fn the_examples_of_the_documents_can_be_used() {
    for (text, least) in [
        (include_str!("../../docs/configuration.md"), 4),
        (include_str!("../../docs/coming-from.md"), 5),
        (include_str!("../../docs/security.md"), 1),
    ] {
        let mut examples = 0;
        for part in text.split("```toml\n").skip(1) {
            let (example, _) = part.split_once("```").unwrap();
            let parsed = Config::parse(example).map_err(|error| error.to_string());
            assert_eq!(parsed.err(), None, "{example}");
            examples += 1;
        }
        assert!(examples >= least, "{examples}");
    }
}

/// Text that is often near a configuration.
fn any_text() -> impl Strategy<Value = String> {
    let names = OPTIONS.iter().map(|option| option.name);
    let names: Vec<_> = names
        .chain([
            "match",
            "match.path",
            "ttl",
            "ignore_origin",
            "failure",
            "fallback",
            "fallback.status",
            "rule",
            "cookies.key",
        ])
        .collect();
    let value = prop_oneof![
        Just("[\"private\"]".to_owned()),
        Just("{ path = \"/a\" }".to_owned()),
        Just("\"5s\"".to_owned()),
        Just("[[[[".to_owned()),
        "[0-9]{1,20}",
        "\"[ -~é]{0,10}\"",
        "\\[\"[ -~é]{0,10}\"\\]",
    ];
    let line = prop_oneof![
        3 => (proptest::sample::select(names), value).prop_map(|(name, value)| format!("{name} = {value}\n")),
        1 => Just("[[rule]]\n".to_owned()),
        1 => Just("[[rule]]\nmatch.path = \"/a*\"\n".to_owned()),
    ];
    prop_oneof![
        any::<String>(),
        proptest::collection::vec(line, 0..8).prop_map(|lines| lines.concat()),
    ]
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_at_a_place_in_it(text in any_text(), path in any::<String>()) {
        match Config::parse(&text) {
            Ok(config) => {
                let chosen = Rc::new(config).chosen(&Method::GET, &path);
                prop_assert!(chosen.rules.len() <= RULES_MAX);
            }
            Err(error) => {
                let last = text.matches('\n').count() + 1;
                for line in error.to_string().lines() {
                    let place = line.split(':').nth(1).and_then(|line| line.parse().ok());
                    prop_assert!(place.is_some_and(|place: usize| (1..=last).contains(&place)), "{}", line);
                }
            }
        }
    }
}
