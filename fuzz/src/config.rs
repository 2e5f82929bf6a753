//! What an operator writes: settings as TOML, a pattern of paths, and the
//! origin's address.
//!
//! Input: the settings. Its first section is also read as an address, its
//! second and third as a pattern and a path.

use crate::input::Sections;
use http::Method;
use leeward::config::{Config, Origin, PathPattern, RULES_MAX};
use leeward::question::policy::Cookies;
use std::rc::Rc;
use std::time::Duration;

/// Everything below, for one input.
pub fn check(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    settings(&text);
    let mut sections = Sections::of(input);
    address(&sections.text());
    pattern(&sections.text(), &sections.text());
}

fn settings(text: &str) {
    match Config::parse(text) {
        Ok(config) => {
            assert!(config.rules.len() <= RULES_MAX);
            valid(&config);
            let health = config.health.iter().map(|rule| &*rule.config);
            assert!(health.clone().all(|config| !config.policy.store_silent));
            for inner in health.chain(config.rules.iter().map(|rule| &*rule.config)) {
                valid(inner);
                assert!(inner.rules.is_empty() && inner.health.is_empty());
                // No rule sets these.
                assert_eq!(inner.policy.preset, config.policy.preset);
                assert_eq!(inner.lease, config.lease);
                assert_eq!(inner.limits, config.limits);
                assert_eq!(inner.key.hosts, config.key.hosts);
            }
            choice(config.clone());
            // A comment changes nothing.
            assert_eq!(Config::parse(&format!("# a comment\n{text}\n")), Ok(config));
        }
        Err(error) => {
            let said = error.to_string();
            assert!(!said.is_empty());
            let last = text.lines().count() + 1;
            for line in said.lines() {
                assert!(line.starts_with("config:"), "{line:?}");
                let place = line.split(':').nth(1).and_then(|line| line.parse().ok());
                assert!(place.is_none_or(|place: usize| (1..=last).contains(&place)));
            }
        }
    }
}

/// What holds for the settings of all requests and of each rule.
fn valid(config: &Config) {
    assert!(config.policy.jitter_per_mille < 1_000);
    assert!(config.lease.duration >= config.lease.clock_skew * 4);
    assert!(config.lease.guard_bucket() > Duration::ZERO);
    assert!(config.origin.retry.first <= config.origin.retry.max);
    assert!(config.origin.first_byte_timeout > Duration::ZERO);
    assert!(!config.origin.user_agent.is_empty());
    assert!(config.limits.url >= 64 && config.limits.header_count >= 8);
    assert!(config.policy.ttl.is_none() || config.policy.ignore_origin.private);
    assert!(!matches!(&config.request.cookies, Cookies::Key(names) if names.is_empty()));
    for pattern in &config.request.forward {
        assert!(!pattern.matches("cookie") && !pattern.matches("authorization"));
        let dropped = &config.request.drop;
        assert!(!dropped.iter().any(|dropped| dropped.overlaps(pattern)));
    }
}

/// Which rule is chosen for the pattern of each rule, read as a path.
fn choice(config: Config) {
    let config = Rc::new(config);
    for (index, rule) in config.rules.iter().enumerate() {
        let path = rule.matches.path.as_str();
        let method = rule.matches.method.as_ref().unwrap_or(&Method::POST);
        assert!(rule.matches.matches(method, path));
        let earlier = config.rules.iter().take(index);
        let first = earlier
            .clone()
            .find(|earlier| earlier.matches.matches(method, path))
            .unwrap_or(rule);
        assert!(Rc::ptr_eq(&config.chosen(method, path), &first.config));
        // A rule that never applies is refused.
        assert!(
            earlier
                .filter(|earlier| earlier.matches.path == rule.matches.path)
                .all(|earlier| earlier.matches.method.is_some())
        );
    }
}

fn pattern(text: &str, path: &str) {
    match PathPattern::parse(text) {
        Ok(pattern) => {
            assert!(pattern.matches(pattern.as_str()));
            // A star stands for anything.
            let filled = pattern.as_str().replace('*', path);
            assert!(pattern.matches(&filled), "{text:?} {filled:?}");
            if !text.contains('*') {
                assert_eq!(pattern.matches(path), path == pattern.as_str());
            }
        }
        Err(message) => assert!(message.contains("write")),
    }
}

fn address(text: &str) {
    match Origin::parse(text) {
        Ok(origin) => {
            assert!(!origin.prefix.ends_with('/'));
            assert!(origin.prefix.is_empty() || origin.prefix.starts_with('/'));
            assert_eq!(Origin::parse(&origin.to_string()), Ok(origin));
        }
        Err(error) => assert!(error.to_string().starts_with("origin: ")),
    }
}
