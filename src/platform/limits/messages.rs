//! What a platform lets through of a message, and what it hides.

use super::Limits;
use crate::config::{Config, Contradiction};

/// The settings that this breaks on the platform `name`.
pub(super) fn beyond(config: &Config, name: &str, limits: &Limits) -> Vec<Contradiction> {
    let mut found: Vec<Contradiction> = Vec::new();
    if let Some(most) = limits.fields {
        // `Host` is one of them, and the component does not see it.
        let beside_host = most.saturating_sub(1);
        if config.limits.header_count > beside_host {
            found.push((
                &["limits.header_count"],
                format!(
                    "{name} itself answers 431 to a request with more than {most} fields, `Host` \
                     among them; write at most {beside_host}"
                ),
            ));
        }
        if config.limits.response_header_count > most {
            found.push((
                &["limits.response_header_count"],
                format!(
                    "{name} takes no answer of the origin with more than {most} fields, and the \
                     visitor gets an error; write at most {most}"
                ),
            ));
        }
    }
    if limits.hides_host && !config.key.hosts.is_empty() {
        found.push((
            &["key.hosts"],
            format!(
                "{name} does not tell the component which host a request is for, so every \
                 request would get 421; leave key.hosts out, and have a proxy in front refuse \
                 other hosts, or use another platform"
            ),
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use crate::platform::limits::{Platform, check};

    fn outcome(platform: Platform, text: &str) -> Result<(), String> {
        let checked = check(text, platform, &platform.limits());
        checked.map(drop).map_err(|error| error.to_string())
    }

    /// `wasmtime serve` gives a component of WASI 0.3 neither an authority nor `Host`.
    #[test]
    fn hosts_are_refused_for_a_platform_that_hides_the_host() {
        let text = "[key]\nhosts = [\"shop.example\"]";
        let refused = outcome(Platform::Wasi, text).unwrap_err();
        assert!(refused.contains("config:2:9: key.hosts"), "{refused}");
        assert!(refused.contains("421; leave key.hosts out"), "{refused}");
        assert_eq!(outcome(Platform::Wasi, "key.hosts = []"), Ok(()));
        for other in Platform::ALL {
            if other != Platform::Wasi {
                assert_eq!(outcome(other, text), Ok(()), "{}", other.name());
            }
        }
    }

    #[test]
    fn more_fields_than_a_platform_lets_through_are_refused() {
        for (setting, most) in [
            ("limits.header_count", 99),
            ("limits.response_header_count", 100),
        ] {
            let (fits, beyond) = (
                format!("{setting} = {most}"),
                format!("{setting} = {}", most + 1),
            );
            for platform in [Platform::Wasi, Platform::Wasmcloud] {
                assert_eq!(outcome(platform, &fits), Ok(()));
                let refused = outcome(platform, &beyond).unwrap_err();
                let remedy = format!("write at most {most}");
                assert!(refused.contains(setting), "{refused}");
                assert!(refused.contains(&remedy), "{refused}");
            }
            assert_eq!(outcome(Platform::Spin, &beyond), Ok(()));
        }
    }
}
