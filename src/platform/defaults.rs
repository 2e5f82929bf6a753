//! Options that have other defaults on some platforms.

/// Defaults of the flavour `fermyon-cloud`. The platform ends a request after 30 s, so a
/// visitor's wait for another's fetch and a fetch of its own have to fit into
/// [`WORK_MAX`](super::tasks::WORK_MAX) together.
pub const FERMYON_CLOUD: &[(&str, &str)] = &[
    // While the store fails, instances cannot count what the others do, and each request
    // has one of its own: nothing would bound what the origin gets.
    ("origin.local_concurrency", "0"),
    ("wait.budget", "\"8s\""),
    ("origin.first_byte_timeout", "\"12s\""),
    ("origin.fill_timeout", "\"16s\""),
    ("origin.pass_timeout", "\"16s\""),
    // The small plans refuse more than 500. A few are left for requests that are made a
    // second time.
    ("origin.max_per_hour", "480"),
    ("limits.body", "10000000"),
    ("limits.store_bytes", "\"800MiB\""),
];

/// Defaults of the flavour `akamai`: the same, but that leases are for a store that shows
/// writes up to [`WRITE_DELAY_MAX`](crate::store::WRITE_DELAY_MAX) late, see
/// [`Timed`](crate::store::Timed), and visitors wait until the lease of an instance that
/// died is over, another has won an election, and its fetch has ended
/// ([`limits::taken_over`](super::limits::taken_over)).
pub const AKAMAI: &[(&str, &str)] = &[
    // While the store fails, instances cannot count what the others do, and each request
    // has one of its own: nothing would bound what the origin gets.
    ("origin.local_concurrency", "0"),
    ("wait.budget", "\"14s\""),
    ("origin.first_byte_timeout", "\"10s\""),
    ("origin.fill_timeout", "\"11s\""),
    ("origin.pass_timeout", "\"11s\""),
    ("lease.duration", "\"8s\""),
    ("lease.clock_skew", "\"1s\""),
];

/// Defaults of the flavours `wasmcloud` and `wasi`: their hosts let 100 fields of a message
/// through, `Host` among those of a request, see
/// [`limits::Limits::fields`](super::limits::Limits::fields).
pub const HUNDRED_FIELDS: &[(&str, &str)] = &[
    ("limits.header_count", "99"),
    ("limits.response_header_count", "100"),
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::config::{Config, OPTIONS};
    use crate::platform::tasks::WORK_MAX;
    use crate::store::WRITE_DELAY_MAX;

    #[test]
    fn the_defaults_of_clouds_fit_into_a_request() {
        for defaults in [FERMYON_CLOUD, AKAMAI] {
            for (name, _) in defaults {
                assert!(OPTIONS.iter().any(|option| option.name == *name), "{name}");
            }
            let config = Config::parse_over(defaults, "").unwrap();
            let (wait, origin) = (config.wait.budget, &config.origin);
            for fetch in [origin.fill_timeout, origin.pass_timeout] {
                assert!(wait + fetch < WORK_MAX);
            }
            assert!(origin.first_byte_timeout <= origin.fill_timeout);
        }
    }

    #[test]
    fn the_leases_of_akamai_are_long_enough_for_its_store() {
        let lease = Config::parse_over(AKAMAI, "").unwrap().lease;
        assert!(lease.duration >= WRITE_DELAY_MAX * 15);
        assert!(lease.clock_skew > WRITE_DELAY_MAX);
    }

    #[test]
    fn what_an_operator_sets_comes_before_the_defaults_of_a_platform() {
        let text = "wait.budget = \"3s\"";
        let config = Config::parse_over(FERMYON_CLOUD, text).unwrap();
        assert_eq!(config.wait.budget.as_secs(), 3);
        assert_eq!(config.origin.fill_timeout.as_secs(), 16);
        // The preset does not undo them.
        let text = "preset = \"strict\"";
        let config = Config::parse_over(FERMYON_CLOUD, text).unwrap();
        assert_eq!(config.wait.budget.as_secs(), 8);
    }
}
