#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::semantics::Preset;

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
        assert!(config.key.sort);
    }
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
         retry = { first = \"200ms\", max = \"1s\" }\n[key.query]\nignore = [\"x\"]\nsort = false\n",
    )
    .unwrap();
    assert_eq!(config.policy.preset, Preset::Strict);
    assert_eq!(config.lease.duration, Duration::from_secs(2));
    assert_eq!(config.policy.jitter_per_mille, 250);
    assert_eq!(config.origin.retry.first, Duration::from_millis(200));
    assert_eq!(config.key.ignore, ["x"]);
    assert!(!config.key.sort);
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
            "config:1:9: lease: is a table of settings, not a integer; write for instance \
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
            "config:1:15: wait.budget: is a duration, not a integer; write text with a unit, for \
             instance \"1s\"",
        ),
        (
            "lease.duration = \"1h\"",
            "config:1:18: lease.duration: \"1h\" is out of bounds; write a duration from 100ms to \
             1m",
        ),
        (
            "key.query.ignore = \"a\"",
            "config:1:20: key.query.ignore: write a list of texts, for instance [\"a\", \"b\"]",
        ),
        (
            "lease.duration = \"1s\"",
            "config: lease.duration: 1s is too short for a clock skew of 500ms: a holder would \
             have no time to work; write at least four times lease.clock_skew",
        ),
        (
            "origin.retry = { first = \"5m\" }",
            "config: origin.retry.first: 300s is longer than origin.retry.max, 60s",
        ),
    ] {
        let message = Config::parse(text).unwrap_err().to_string();
        assert_eq!(message, expected, "{text}");
    }
}

#[test]
fn toml_that_is_none_is_said_with_its_place() {
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
}
