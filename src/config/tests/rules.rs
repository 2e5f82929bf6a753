//! Rules.

use super::refused;
use crate::config::*;
use crate::question::policy::{Cookies, Credentials, FAILURE_BODY_MAX, Unknown};
use crate::semantics::IgnoreOrigin;
use http::StatusCode;

fn parse(text: &str) -> Rc<Config> {
    Rc::new(Config::parse(text).unwrap())
}

fn get(config: &Rc<Config>, path: &str) -> Rc<Config> {
    config.chosen(&Method::GET, path)
}

/// The default TTL for a request, in seconds, by which the tests tell rules.
fn ttl(config: &Rc<Config>, method: &Method, path: &str) -> u64 {
    config.chosen(method, path).policy.default_ttl.as_secs()
}

#[test]
fn the_first_rule_that_matches_wins() {
    let config = parse(
        "[[rule]]\nmatch = { path = \"/a/b\" }\nfreshness.default_ttl = \"1s\"\n\
         [[rule]]\nmatch = { path = \"/a/*\" }\nfreshness.default_ttl = \"2s\"\n\
         [[rule]]\nmatch = { path = \"/*/b\" }\nfreshness.default_ttl = \"3s\"\n\
         [[rule]]\nmatch = { path = \"/x/b\" }\nfreshness.default_ttl = \"4s\"\n",
    );
    for (path, expected) in [
        ("/a/b", 1),
        ("/a/c", 2),
        ("/a/c/b", 2),
        ("/c/b", 3),
        ("/x/b", 3),
        ("/a", 60),
        ("/A/b", 3),
        ("*", 60),
        ("", 60),
    ] {
        assert_eq!(ttl(&config, &Method::GET, path), expected, "{path}");
    }
    // Without a rule the settings are the very same, not a copy.
    assert!(Rc::ptr_eq(&get(&config, "/other"), &config));
}

#[test]
fn a_rule_for_get_is_for_head_too() {
    let config = parse(
        "[[rule]]\nmatch = { path = \"/a\", method = \"GET\" }\nfreshness.default_ttl = \"1s\"\n\
         [[rule]]\nmatch = { path = \"/a\", method = \"PROPFIND\" }\nfreshness.default_ttl = \"2s\"\n\
         [[rule]]\nmatch = { path = \"/a\" }\nfreshness.default_ttl = \"3s\"\n\
         [[rule]]\nmatch = { path = \"/b\", method = \"HEAD\" }\nfreshness.default_ttl = \"4s\"\n",
    );
    for (method, path, expected) in [
        ("GET", "/a", 1),
        ("HEAD", "/a", 1),
        ("PROPFIND", "/a", 2),
        ("POST", "/a", 3),
        ("get", "/a", 3),
        ("HEAD", "/b", 4),
        ("GET", "/b", 60),
    ] {
        let method_value = Method::from_bytes(method.as_bytes()).unwrap();
        assert_eq!(ttl(&config, &method_value, path), expected, "{method}");
    }
}

#[test]
fn case_makes_no_difference_if_paths_are_lowercased() {
    let rule = "[[rule]]\nmatch = { path = \"/Shop/*\" }\nfreshness.default_ttl = \"1s\"\n\
                [health]\npaths = [\"/Up\"]\n";
    let config = parse(&format!("{rule}[key.path]\nlowercase = true"));
    for path in ["/shop/A", "/SHOP/a", "/Shop/"] {
        assert_eq!(ttl(&config, &Method::GET, path), 1, "{path}");
    }
    assert!(!get(&config, "/uP").policy.store_silent);
    let config = parse(rule);
    assert_eq!(ttl(&config, &Method::GET, "/Shop/a"), 1);
    assert_eq!(ttl(&config, &Method::GET, "/shop/a"), 60);
    assert!(get(&config, "/up").policy.store_silent);
}

#[test]
fn patterns_and_paths_meet_in_their_normal_form() {
    let config = parse("[[rule]]\nmatch = { path = \"/%7ejo/*\" }\nfreshness.default_ttl = \"1s\"");
    assert_eq!(ttl(&config, &Method::GET, "/~jo/a"), 1);
}

#[test]
fn a_rule_can_set_all_that_it_may() {
    let config = parse(
        "[[rule]]\nmatch = { path = \"/api/*\" }\nttl = \"5s\"\n\
         ignore_origin = [\"private\", \"set-cookie\"]\ncookies = { key = [\"lang\", \"a\", \"lang\"] }\n\
         credentials = \"key\"\nfailure = { status = [404, 503], body_contains = \"oops\" }\n\
         fallback = { status = 200, content_type = \"text/html; charset=utf-8\", body = \
         \"<p>Soon</p>\" }\n\
         request.unknown = \"forward\"\n",
    );
    let rule = get(&config, "/api/x");
    assert_eq!(rule.policy.ttl, Some(Duration::from_secs(5)));
    assert_eq!(
        rule.policy.ignore_origin,
        IgnoreOrigin {
            private: true,
            set_cookie: true,
            ..IgnoreOrigin::default()
        }
    );
    let names = ["a", "lang"].map(str::to_owned).to_vec();
    assert_eq!(rule.request.cookies, Cookies::Key(names));
    assert_eq!(rule.request.credentials, Credentials::Key);
    assert_eq!(rule.request.unknown, Unknown::Forward);
    assert_eq!(rule.failure.statuses, [404, 503]);
    assert_eq!(rule.failure.body_contains.as_deref(), Some("oops"));
    let fallback = rule.fallback.as_ref().unwrap();
    assert_eq!(
        (fallback.status, &fallback.content_type, &fallback.body[..]),
        (
            StatusCode::OK,
            &HeaderValue::from_static("text/html; charset=utf-8"),
            &b"<p>Soon</p>"[..]
        )
    );
    assert_eq!(rule.rules, []);
    assert_eq!(rule.health, []);
    let all = parse(
        "[[rule]]\nmatch.path = \"/*\"\nttl = \"0s\"\nignore_origin = [\"private\", \
                     \"no-cache\", \"no-store\", \"must-revalidate\", \"set-cookie\"]",
    );
    assert_eq!(
        get(&all, "/").policy.ignore_origin,
        IgnoreOrigin {
            private: true,
            no_cache: true,
            no_store: true,
            must_revalidate: true,
            set_cookie: true,
        }
    );
}

/// The windows outside rules do not apply to a stated lifetime of zero; those of a rule do.
#[test]
fn a_rule_says_which_stale_windows_it_has_set() {
    let config = parse(
        "[freshness]\nstale_while_revalidate = \"2h\"\nstale_if_error = \"2h\"\n\
         [[rule]]\nmatch.path = \"/none\"\ncookies = \"ignore\"\n\
         [[rule]]\nmatch.path = \"/one\"\nfreshness.stale_if_error = \"2h\"\n\
         [[rule]]\nmatch.path = \"/both\"\nfreshness = { stale_while_revalidate = \"1h\", \
         stale_if_error = \"1h\" }\n",
    );
    for (path, expected) in [
        ("/", (false, false)),
        ("/none", (false, false)),
        ("/one", (false, true)),
        ("/both", (true, true)),
    ] {
        let ruled = get(&config, path).policy.ruled_windows;
        let found = (ruled.stale_while_revalidate, ruled.stale_if_error);
        assert_eq!(found, expected, "{path}");
    }
}

/// All but what a rule sets is as outside rules, and what a rule sets is so in
/// that rule alone.
#[test]
fn what_a_rule_sets_is_set_in_no_other() {
    let outside =
        "cookies = \"ignore\"\n[origin]\nuser_agent = \"a\"\n[request]\ndrop = [\"x-a\"]\n";
    let config = parse(&format!(
        "{outside}[[rule]]\nmatch.path = \"/one\"\norigin.user_agent = \"b\"\nfreshness = {{ \
         error_ttl = \"2s\" }}\n[[rule]]\nmatch.path = \"/two\"\ncookies = \"pass\"\nrequest.drop \
         = []\n"
    ));
    let alone = parse(outside);
    let mut expected = (*alone).clone();
    expected.health.clear();
    let two = {
        let mut two = expected.clone();
        two.request.cookies = Cookies::Pass;
        two.request.drop.clear();
        two
    };
    expected.origin.user_agent = HeaderValue::from_static("b");
    expected.policy.error_ttl = Duration::from_secs(2);
    assert_eq!(*get(&config, "/one"), expected);
    assert_eq!(*get(&config, "/two"), two);
    let elsewhere = get(&config, "/three");
    assert_eq!(elsewhere.origin, alone.origin);
    assert_eq!(elsewhere.request, alone.request);
    assert_eq!(elsewhere.policy, alone.policy);
}

#[test]
fn a_rule_has_the_defaults_of_preset_strict() {
    let config = parse(
        "preset = \"strict\"\n[[rule]]\nmatch.path = \"/a\"\n[[rule]]\nmatch.path = \"/b\"\n\
         freshness.default_ttl = \"5s\"\nrequest.unknown = \"key\"\n",
    );
    let a = get(&config, "/a");
    assert_eq!(a.policy.default_ttl, Duration::ZERO);
    assert_eq!(a.request.unknown, Unknown::Forward);
    let b = get(&config, "/b");
    assert_eq!(b.policy.default_ttl, Duration::from_secs(5));
    assert_eq!(b.request.unknown, Unknown::Key);
}

#[test]
fn each_option_can_be_set_in_a_rule_or_is_refused_there() {
    for option in OPTIONS {
        let text = format!(
            "[[rule]]\nmatch.path = \"/a\"\n{} = {}",
            option.name, option.default
        );
        if option.per_rule {
            Config::parse(&text).unwrap();
        } else {
            assert_eq!(
                refused(&text),
                format!(
                    "config:3:1: rule.{}: cannot differ between rules; set it once, outside rules",
                    option.name
                )
                .replace(
                    "3:1",
                    &format!("3:{}", option.name.rfind('.').map_or(1, |dot| dot + 2))
                )
            );
        }
    }
    for (section, per_rule) in [
        ("freshness.", true),
        ("request.", true),
        ("response.", true),
        ("origin.retry.", true),
        ("origin.connect_timeout", true),
        ("origin.max_", false),
        ("origin.local_", false),
        ("origin.breaker.", false),
        ("key.query.", true),
        ("key.path.", false),
        ("key.hosts", false),
        ("wait.", true),
        ("preset", false),
        ("lease.", false),
        ("limits.", false),
        ("health.", false),
    ] {
        let mut options = OPTIONS
            .iter()
            .filter(|option| option.name.starts_with(section))
            .peekable();
        assert!(options.peek().is_some(), "{section}");
        assert!(
            options.all(|option| option.per_rule == per_rule),
            "{section}"
        );
    }
}

#[test]
fn health_paths_are_not_stored_without_freshness() {
    let config = parse("");
    for path in ["/health", "/healthz", "/livez", "/readyz", "/ping"] {
        for method in [Method::GET, Method::POST] {
            let health = config.chosen(&method, path);
            assert!(!health.policy.store_silent, "{path}");
            assert_eq!(health.rules, []);
            assert_eq!(health.health, []);
        }
    }
    for path in ["/", "/health/", "/Health", "/a/health"] {
        assert!(get(&config, path).policy.store_silent, "{path}");
    }
    let off = parse("health.paths = []");
    assert!(Rc::ptr_eq(&get(&off, "/health"), &off));
    let other = parse("health.paths = [\"/status/*\"]");
    assert!(get(&other, "/health").policy.store_silent);
    assert!(!get(&other, "/status/db").policy.store_silent);
}

#[test]
fn a_fallback_is_for_all_paths_but_those_of_rules_that_say_otherwise() {
    let config = parse(
        "fallback = { status = 503, content_type = \"text/html\", body = \"Soon\" }\n\
         [[rule]]\nmatch.path = \"/own\"\nfallback = { status = 200, content_type = \
         \"text/plain\", body = \"ok\" }\n\
         [[rule]]\nmatch.path = \"/none\"\nfallback = false\n\
         [[rule]]\nmatch.path = \"/other\"\ncookies = \"ignore\"\n\
         [[rule]]\nmatch.path = \"/readyz\"\n",
    );
    for (path, expected) in [
        ("/", Some("Soon")),
        ("/own", Some("ok")),
        ("/none", None),
        ("/other", Some("Soon")),
        // A monitor has to see that the origin fails, unless a rule says so.
        ("/healthz", None),
        ("/readyz", Some("Soon")),
    ] {
        let chosen = get(&config, path);
        let body = chosen.fallback.as_ref().map(|fallback| &fallback.body[..]);
        assert_eq!(body, expected.map(str::as_bytes), "{path}");
    }
    assert_eq!(get(&parse("fallback = false"), "/").fallback, None);
}

#[test]
fn a_wrong_fallback_for_all_paths_is_refused_with_its_place_and_a_remedy() {
    for (text, expected) in [
        (
            "fallback = \"{}\"",
            "config:1:12: fallback: is a table, not a text; write for instance { status = 200, \
             content_type = \"application/json\", body = \"{}\" }",
        ),
        (
            "fallback = true",
            "config:1:12: fallback: is a table, not a boolean; write for instance { status = 200, \
             content_type = \"application/json\", body = \"{}\" }",
        ),
        (
            "[fallback]\nstatus = 302\ncontent_type = \"a/b\"\nbody = \"\"",
            "config:2:10: fallback.status: write 200, 203, or an error's status from 400 to 599 but \
             not 401, 407 or 416",
        ),
        (
            "fallbak = false",
            "config:1:1: fallbak: there is no such setting; did you mean fallback?",
        ),
    ] {
        assert_eq!(refused(text), expected, "{text}");
    }
}

#[test]
fn a_rule_says_what_visitors_are_told_or_has_what_is_said_outside() {
    let config = parse(
        "browser_ttl = \"5m\"\n[[rule]]\nmatch.path = \"/short\"\nbrowser_ttl = \"0s\"\n\
         [[rule]]\nmatch.path = \"/origin\"\nbrowser_ttl = \"origin\"\n\
         [[rule]]\nmatch.path = \"/passed\"\npass = true\n\
         [[rule]]\nmatch.path = \"/other\"\n",
    );
    for (path, expected) in [
        ("/", BrowserTtl::Seconds(300)),
        ("/short", BrowserTtl::Seconds(0)),
        ("/origin", BrowserTtl::Origin),
        ("/other", BrowserTtl::Seconds(300)),
    ] {
        assert_eq!(get(&config, path).browser_ttl, expected, "{path}");
    }
    assert_eq!(parse("").browser_ttl, BrowserTtl::Origin);
    // What applies at once to what is stored costs no second decision about it.
    let mark = |path| get(&config, path).policy.mark();
    assert_eq!(mark("/short"), mark("/origin"));
}

#[test]
fn a_rule_takes_precedence_over_health_paths() {
    let config =
        parse("[[rule]]\nmatch = { path = \"/*\", method = \"GET\" }\nwait.budget = \"1s\"");
    let chosen = get(&config, "/health");
    assert!(chosen.policy.store_silent);
    assert_eq!(chosen.wait.budget, Duration::from_secs(1));
    let post = config.chosen(&Method::POST, "/health");
    assert!(!post.policy.store_silent);
    assert_eq!(post.wait.budget, Duration::from_secs(10));
}

#[test]
fn a_wrong_rule_is_refused_with_its_place_and_a_remedy() {
    let beginning = "[[rule]]\nmatch = { path = \"/a\" }\n";
    for (text, expected) in [
        (
            "ttl = \"5s\"",
            "config:3:7: rule.ttl: a private answer would still not be stored; add \"private\" to \
             ignore_origin, or leave ttl out and set freshness.default_ttl, which concerns silent \
             answers",
        ),
        (
            "ttl = \"5s\"\nignore_origin = [\"no-store\"]",
            "config:3:7: rule.ttl: a private answer would still not be stored; add \"private\" to \
             ignore_origin, or leave ttl out and set freshness.default_ttl, which concerns silent \
             answers",
        ),
        (
            "ttl = \"366d\"\nignore_origin = [\"private\"]",
            "config:3:7: rule.ttl: \"366d\" is out of bounds; write a duration from 0s to 365d",
        ),
        (
            "ttl = 5",
            "config:3:7: rule.ttl: is a duration, not an integer; write text with a unit, for \
             instance \"1s\"",
        ),
        (
            "tll = \"5s\"",
            "config:3:1: rule.tll: there is no such setting; did you mean ttl?",
        ),
        (
            "default_ttl = \"5s\"",
            "config:3:1: rule.default_ttl: there is no such setting; did you mean \
             freshness.default_ttl?",
        ),
        (
            "freshness = { default_tll = \"5s\" }",
            "config:3:15: rule.freshness.default_tll: there is no such setting; did you mean \
             freshness.default_ttl?",
        ),
        (
            "freshness = \"5s\"",
            "config:3:13: rule.freshness: is a table of settings, not a text; write for instance \
             freshness.default_ttl = \"60s\"",
        ),
        (
            "key.query.zzz = 1",
            "config:3:11: rule.key.query.zzz: there is no such setting; known are \
             key.query.ignore, key.query.sort",
        ),
        (
            "lease.zzz = 1",
            "config:3:7: rule.lease.zzz: cannot differ between rules; set it once, outside rules",
        ),
        (
            "preset = \"strict\"",
            "config:3:1: rule.preset: cannot differ between rules; set it once, outside rules",
        ),
        (
            "limits = { body = 5 }",
            "config:3:12: rule.limits.body: cannot differ between rules; set it once, outside rules",
        ),
        (
            "rule = []",
            "config:3:1: rule.rule: a rule has no rules of its own; write another [[rule]]",
        ),
        (
            "tags = [\"a\", \"b c\"]",
            "config:3:14: rule.tags: \"b c\" is not a tag; write 1 to 1024 characters without \
             spaces and commas",
        ),
        (
            "tags = \"a\"",
            "config:3:8: rule.tags: is a list, not a text; write for instance [\"quotes\"]",
        ),
        (
            "invalidates = [\"a\"]",
            "config:3:16: rule.invalidates: a prefix begins with a slash, or with http:// or \
             https:// and a host; write for instance \"/products/\"",
        ),
        (
            "fallback = \"{}\"",
            "config:3:12: rule.fallback: is a table, not a text; write for instance { \
             status = 200, content_type = \"application/json\", body = \"{}\" }",
        ),
        (
            "fallback = { status = 200, content_type = \"a/b\" }",
            "config:3:12: rule.fallback: has no body; write for instance { \
             status = 200, content_type = \"application/json\", body = \"{}\" }",
        ),
        (
            "fallback = { status = 204, content_type = \"a/b\", body = \"\" }",
            "config:3:23: rule.fallback.status: write 200, 203, or an error's status from 400 to \
             599 but not 401, 407 or 416",
        ),
        (
            "fallback = { status = 200, content_type = \"json\", body = \"{}\" }",
            "config:3:43: rule.fallback.content_type: write a media type, for instance \
             \"application/json\" or \"text/html; charset=utf-8\"",
        ),
        (
            "fallback = { status = 200, content_type = \"a/b\\nc: d\", body = \"{}\" }",
            "config:3:43: rule.fallback.content_type: write a media type, for instance \
             \"application/json\" or \"text/html; charset=utf-8\"",
        ),
        (
            "fallback = { status = 200, content_type = \"a/b\", body = 1 }",
            "config:3:57: rule.fallback.body: write the content as a text, for instance \"{}\"",
        ),
        (
            "fallback = { status = 200, type = \"a/b\" }",
            "config:3:28: rule.fallback.type: there is no such setting; known are \
             fallback.status, fallback.content_type, fallback.body",
        ),
        (
            "ignore_origin = \"private\"",
            "config:3:17: rule.ignore_origin: write a list of texts, for instance [\"private\", \
             \"no-cache\"]",
        ),
        (
            "ignore_origin = [\"private\", \"nocache\"]",
            "config:3:29: rule.ignore_origin: \"nocache\" is unknown; write \"private\", \
             \"no-cache\", \"no-store\", \"must-revalidate\" or \"set-cookie\"",
        ),
        (
            "cookies = { key = [] }",
            "config:3:19: rule.cookies: an empty list keys no cookie; write cookies = \"ignore\" to \
             drop all of them",
        ),
        (
            "credentials = \"none\"",
            "config:3:15: rule.credentials: write \"pass\", \"key\" or \"ignore\"",
        ),
        (
            "failure = {}",
            "config:3:11: rule.failure: has neither status nor body_contains; write for instance { \
             status = [404] }, or { body_contains = \"\\\"errors\\\":\" }",
        ),
        (
            "failure = { status = [] }",
            "config:3:11: rule.failure: has neither status nor body_contains; write for instance { \
             status = [404] }, or { body_contains = \"\\\"errors\\\":\" }",
        ),
        (
            "failure = { status = [404, 99] }",
            "config:3:28: rule.failure.status: write a list of statuses from 200 to 599, for \
             instance [404, 503]",
        ),
        (
            "failure = { status = 404 }",
            "config:3:22: rule.failure.status: write a list of statuses from 200 to 599, for \
             instance [404, 503]",
        ),
        (
            "failure = { body_contains = \"\" }",
            "config:3:29: rule.failure.body_contains: write a text that every failure has near its \
             beginning, for instance \"\\\"errors\\\":\"",
        ),
        (
            "failure = { statuses = [404] }",
            "config:3:13: rule.failure.statuses: there is no such setting; did you mean \
             failure.status?",
        ),
        (
            "failure = 404",
            "config:3:11: rule.failure: is a table, not an integer; write for instance { status = \
             [404] }",
        ),
        (
            "origin.retry.first = \"5m\"",
            "config:3:22: rule.origin.retry.first: the first pause, 5m, is longer than the longest, \
             1m; write at least 5m as origin.retry.max, or a shorter origin.retry.first",
        ),
        (
            "pass = true\nttl = \"5s\"",
            "config:3:8: rule.pass: nothing is stored for requests that are passed; remove pass or \
             ttl",
        ),
        (
            "pass = true\nttl = \"5s\"\nignore_origin = [\"private\"]",
            "config:3:8: rule.pass: nothing is stored for requests that are passed; remove pass or \
             ttl",
        ),
        (
            "pass = true\nbrowser_ttl = \"1m\"",
            "config:3:8: rule.pass: answers that are passed are handed on as the origin made them; \
             remove pass or browser_ttl",
        ),
        (
            "browser_ttl = 60",
            "config:3:15: rule.browser_ttl: is a duration, not an integer; write text with a unit, \
             for instance \"1m\", or \"origin\"",
        ),
        (
            "browser_ttl = \"1500ms\"",
            "config:3:15: rule.browser_ttl: \"1500ms\" cannot be told to browsers; write whole \
             seconds, at most 365d",
        ),
        (
            "browser_ttl = \"366d\"",
            "config:3:15: rule.browser_ttl: \"366d\" cannot be told to browsers; write whole \
             seconds, at most 365d",
        ),
        (
            "freshness.browser_ttl = \"1m\"",
            "config:3:11: rule.freshness.browser_ttl: there is no such setting; did you mean \
             browser_ttl?",
        ),
        ("pass = 1", "config:3:8: rule.pass: write true or false"),
        (
            "invalidate = \"soft\"",
            "config:3:14: rule.invalidate: write true, false or \"refresh\"",
        ),
        (
            "cookies.key = [\"_gid\"]",
            "config:3:1: rule.cookies: \"_gid\" is keyed, but request.cookies.ignore removes it; \
             write a request.cookies.ignore without it, or remove it from cookies",
        ),
    ] {
        let text = format!("{beginning}{text}");
        assert_eq!(refused(&text), expected, "{text}");
    }
}

#[test]
fn invalidate_is_refused_for_methods_that_change_nothing() {
    for (method, is_refused) in [
        ("GET", true),
        ("HEAD", true),
        ("OPTIONS", true),
        ("POST", false),
        ("PURGE", false),
    ] {
        for value in ["true", "false", "\"refresh\""] {
            let text = format!(
                "[[rule]]\nmatch = {{ path = \"/a\", method = \"{method}\" }}\ninvalidate = {value}"
            );
            let message = "config:3:14: rule.invalidate: requests of this method change nothing; \
                           remove it, or match the method that does, for instance method = \"POST\"";
            match is_refused {
                true => assert_eq!(refused(&text), message, "{text}"),
                false => assert!(Config::parse(&text).is_ok(), "{text}"),
            }
        }
    }
    parse("[[rule]]\nmatch.path = \"/a\"\ninvalidate = false");
    parse(
        "[[rule]]\nmatch.path = \"/a\"\npass = false\nttl = \"5s\"\nignore_origin = [\"private\"]",
    );
}

#[test]
fn a_wrong_match_is_refused_with_its_place_and_a_remedy() {
    for (text, expected) in [
        (
            "[[rule]]\ncookies = \"pass\"",
            "config:1:1: rule: has no match; write for instance match = { path = \"/api/*\" }",
        ),
        (
            "[[rule]]\nmatch = \"/a\"",
            "config:2:9: rule.match: is a table, not a text; write for instance { path = \
             \"/api/*\", method = \"GET\" }",
        ),
        (
            "[[rule]]\nmatch = { method = \"GET\" }",
            "config:2:9: rule.match: has no path; write for instance { path = \"/api/*\" }, or { \
             path = \"/*\" } for every path",
        ),
        (
            "[[rule]]\nmatch = { paths = \"/a\", path = \"/b\" }",
            "config:2:11: rule.match.paths: there is no such setting; did you mean match.path?",
        ),
        (
            "[[rule]]\nmatch = { path = \"/a\", host = \"b\" }",
            "config:2:24: rule.match.host: there is no such setting; known are match.path, \
             match.method",
        ),
        (
            "[[rule]]\nmatch = { path = [\"/a\"] }",
            "config:2:18: rule.match.path: is a text, not a list; write for instance \"/api/*\"",
        ),
        (
            "[[rule]]\nmatch = { path = \"api/*\" }",
            "config:2:18: rule.match.path: \"api/*\" does not begin with a slash, as every path \
             does; write \"/api/*\"",
        ),
        (
            "[[rule]]\nmatch = { path = \"/a?b=c\" }",
            "config:2:18: rule.match.path: \"/a?b=c\" has a query or fragment, but a pattern is \
             compared with the path alone; write \"/a\"",
        ),
        (
            "[[rule]]\nmatch = { path = \"/a\", method = \"get\" }",
            "config:2:33: rule.match.method: \"get\" is not a method; did you mean \"GET\"?",
        ),
        (
            "[[rule]]\nmatch = { path = \"/a\", method = \"POSTT\" }",
            "config:2:33: rule.match.method: \"POSTT\" is not a method; did you mean \"POST\"?",
        ),
        (
            "[[rule]]\nmatch = { path = \"/a\", method = \"A B\" }",
            "config:2:33: rule.match.method: \"A B\" is not a method; write \"GET\", \"HEAD\", \
             \"POST\", \"PUT\", \"PATCH\", \"DELETE\" or \"OPTIONS\"",
        ),
        (
            "[[rule]]\nmatch = { path = \"/a\", method = [\"GET\"] }",
            "config:2:33: rule.match.method: is a text, not a list; write one method, for instance \
             \"GET\", or leave it out for every method",
        ),
        (
            "[rule]\nmatch = { path = \"/a\" }",
            "config:1:1: rule: rules are a list; write [[rule]] above the keys of each, with two \
             brackets",
        ),
        (
            "rule = [5]",
            "config:1:9: rule: is a table of settings, not an integer; write for instance { match \
             = { path = \"/api/*\" }, ttl = \"5s\", ignore_origin = [\"private\"] }",
        ),
        (
            "[[rules]]\nmatch = { path = \"/a\" }",
            "config:1:3: rules: there is no such setting; did you mean rule?",
        ),
        (
            "ttl = \"5s\"",
            "config:1:1: ttl: is a key of a rule; write it in a [[rule]] that has a match",
        ),
    ] {
        assert_eq!(refused(text), expected, "{text}");
    }
}

#[test]
fn a_rule_that_never_applies_is_refused() {
    let rules = |first: &str, second: &str| {
        format!("[[rule]]\nmatch = {{ {first} }}\n[[rule]]\nmatch = {{ {second} }}\n")
    };
    for (first, second) in [
        ("path = \"/a\"", "path = \"/a\""),
        ("path = \"/a\"", "path = \"/a\", method = \"GET\""),
        (
            "path = \"/a\", method = \"PUT\"",
            "path = \"/a\", method = \"PUT\"",
        ),
        (
            "path = \"/a\", method = \"GET\"",
            "path = \"/a\", method = \"HEAD\"",
        ),
        ("path = \"/a/*\"", "path = \"/a/**\""),
        ("path = \"/~a\"", "path = \"/%7ea\""),
    ] {
        assert_eq!(
            refused(&rules(first, second)),
            "config:4:9: rule.match: never applies, because the rule at 2:9 matches the same \
             requests and the first match wins; merge the two rules, or remove one",
            "{first} {second}"
        );
    }
    for (first, second) in [
        ("path = \"/a\", method = \"GET\"", "path = \"/a\""),
        (
            "path = \"/a\", method = \"HEAD\"",
            "path = \"/a\", method = \"GET\"",
        ),
        ("path = \"/a\"", "path = \"/A\""),
        ("path = \"/a/b\"", "path = \"/a/*\""),
    ] {
        Config::parse(&rules(first, second)).unwrap();
    }
    let differ_in_case = rules("path = \"/a\"", "path = \"/A\"");
    let lowercase = format!("{differ_in_case}[key.path]\nlowercase = true");
    assert!(refused(&lowercase).starts_with("config:4:9: rule.match: never applies"));
}

#[test]
fn there_are_bounds_on_rules() {
    let rule = |index| format!("[[rule]]\nmatch.path = \"/{index}\"\n");
    let most: String = (0..RULES_MAX).map(rule).collect();
    assert_eq!(parse(&most).rules.len(), RULES_MAX);
    let more = most + &rule(RULES_MAX);
    assert_eq!(
        refused(&more),
        "config:1:1: rule: there are 257 rules; write at most 256"
    );
    let failure = |length| {
        format!(
            "[[rule]]\nmatch.path = \"/a\"\nfailure.body_contains = \"{}\"",
            "x".repeat(length)
        )
    };
    parse(&failure(FAILURE_BODY_MAX));
    assert_eq!(
        refused(&failure(FAILURE_BODY_MAX + 1)),
        "config:3:25: rule.failure.body_contains: has 4097 bytes, but only the first 4096 bytes of \
         a body are searched; write a shorter text"
    );
    let fallback = |length| {
        let body = "x".repeat(length);
        format!(
            "[[rule]]\nmatch.path = \"/a\"\nfallback = {{ body = \"{body}\", status = 200, \
             content_type = \"a/b\" }}"
        )
    };
    parse(&fallback(FALLBACK_BODY_MAX));
    assert_eq!(
        refused(&fallback(FALLBACK_BODY_MAX + 1)),
        "config:3:21: rule.fallback.body: has 65537 bytes; write at most 65536"
    );
}

/// A list in a rule replaces the list outside rules, but may contradict another.
#[test]
fn a_rule_that_contradicts_a_setting_outside_rules_is_refused_at_the_rule() {
    let text = "[request]\ndrop = [\"x-*\"]\n[[rule]]\nmatch.path = \"/a\"\nrequest.forward = \
                [\"x-app\"]";
    assert_eq!(
        refused(text),
        "config:5:19: rule.request.forward: \"x-app\" in request.forward and \"x-*\" in \
         request.drop stand for the same fields; remove one of them"
    );
    Config::parse(&format!("{text}\nrequest.drop = []")).unwrap();
}

#[test]
fn one_wrong_setting_makes_one_message() {
    for text in [
        "[lease]\nclock_skew = \"5s\"\nduration = 1",
        "[[rule]]\nmatch.path = \"/a\"\nttl = \"5s\"\nignore_origin = [\"privat\"]",
        "[origin]\nretry.max = 1\n[[rule]]\nmatch.path = \"/a\"\norigin.retry.first = \"5m\"",
    ] {
        assert_eq!(refused(text).lines().count(), 1, "{text}");
    }
}

#[test]
fn a_rule_passes_and_says_what_unsafe_requests_do() {
    let config = parse(
        "[[rule]]\nmatch = { path = \"/private/*\" }\npass = true\n\
         [[rule]]\nmatch = { path = \"/form\", method = \"POST\" }\ninvalidate = false\n\
         [[rule]]\nmatch = { path = \"/list\" }\ninvalidate = \"refresh\"\n",
    );
    assert!(get(&config, "/private/a").pass);
    assert!(!get(&config, "/form").pass);
    let invalidate = |path| config.chosen(&Method::POST, path).invalidate;
    assert_eq!(invalidate("/form"), Invalidation::Nothing);
    assert_eq!(invalidate("/list"), Invalidation::Refresh);
    assert_eq!(invalidate("/other"), Invalidation::Invalidate);
}

/// `check` called them valid, and /admin/* was served without its login.
#[test]
fn what_is_valid_and_never_applies_is_warned_of() {
    let warnings = |text: &str| -> Vec<String> {
        let warnings = Config::parse(text).unwrap().warnings;
        warnings.iter().map(ToString::to_string).collect()
    };
    let all = "[[rule]]\nmatch = { path = \"/*\" }\ncookies = \"ignore\"\n";
    let admin = "[[rule]]\nmatch = { path = \"/admin/*\" }\ncookies = \"pass\"\n";
    assert_eq!(
        warnings(&format!("{all}{admin}")),
        [
            "config:5:9: rule.match: never applies, because \"/*\" at 2:9 matches all of its \
             requests and the first match wins; write this rule above that one"
        ]
    );
    assert!(warnings(&format!("{admin}{all}")).is_empty());
    let get = all.replace(" }", ", method = \"GET\" }");
    assert!(warnings(&format!("{get}{admin}")).is_empty());
    let ttl = "[[rule]]\nmatch = { path = \"/a\" }\nttl = \"1m\"\nignore_origin = [\"private\"]\n";
    let found = warnings(ttl);
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("cookies = \"ignore\""), "{found:?}");
    assert!(warnings(&format!("{ttl}cookies = \"pass\"\n")).is_empty());
    assert!(warnings(&format!("cookies = \"ignore\"\n{ttl}")).is_empty());
    let found = warnings(&ttl.replace(" }", ", method = \"POST\" }"));
    assert!(
        found[0].contains("only answers to GET and HEAD"),
        "{found:?}"
    );
}
