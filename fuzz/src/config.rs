//! What an operator writes: settings as TOML, and the origin's address.
//!
//! Input: the settings; its first section is read as an address too.

use crate::input::Sections;
use leeward::config::{Config, Origin};
use std::time::Duration;

/// Everything below, for one input.
pub fn check(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    settings(&text);
    address(&Sections::of(input).text());
}

fn settings(text: &str) {
    match Config::parse(text) {
        Ok(config) => {
            assert!(config.policy.jitter_per_mille < 1_000);
            assert!(config.lease.duration >= config.lease.clock_skew * 4);
            assert!(config.lease.guard_bucket() > Duration::ZERO);
            assert!(config.origin.retry.first <= config.origin.retry.max);
            assert!(config.origin.first_byte_timeout > Duration::ZERO);
            assert!(config.limits.url >= 64 && config.limits.header_count >= 8);
            // What says nothing changes nothing.
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
