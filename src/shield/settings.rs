//! The settings of now: what they make of a response that was stored under others.
//!
//! An entry keeps the origin's own words. After a rule was corrected, what may not be stored
//! under it is not served any more, on every node that has the new settings, and what it
//! says of lifetimes and visitors holds for what is stored already.

use super::Shield;
use crate::cell::Entry;
use crate::cells::Located;
use crate::config::Config;
use crate::question::Question;
use crate::question::target::path_of;
use crate::semantics::{Asked, Freshness, Kept, Policy, Preset, Storability, storability};
use crate::world::Platform;
use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderValue};

impl<P: Platform> Shield<P> {
    /// Has an entry that was stored under other settings count as these say.
    pub(super) fn apply_settings(&self, located: &mut Located, config: &Config) {
        let now = self.platform.now();
        let question = &located.question;
        let softened_by_key = located.loaded.key_purges.softened;
        let Some(cell) = located.loaded.cell.as_mut() else {
            return;
        };
        let Some(entry) = cell.entry.as_mut() else {
            return;
        };
        if !is_under_others(entry, question, &config.policy) {
            return;
        }
        match decided_now(entry, question, &config.policy) {
            Some(kept) => {
                let softened = softened_by_key.max(cell.marks.softened);
                entry.audience = kept.audience;
                entry.freshness = Freshness {
                    alone: entry.freshness.alone,
                    ..kept.freshness
                };
                // What a purge, or a clock that was ahead, has ended stays so.
                if let Some(moment) = softened
                    && self.cells.predates(entry.request_time, &[softened])
                {
                    entry.freshness.end_at(moment.min(now));
                }
                if entry.freshness.response_time > now {
                    entry.freshness.end_at(now);
                }
            }
            None => cell.drop_entry(now),
        }
    }
}

/// Whether an entry was stored under other settings, and what is kept of it is enough to
/// decide again. Preset `strict` decides by the request, which is not kept.
fn is_under_others(entry: &Entry, question: &Question, policy: &Policy) -> bool {
    let is_known = !entry.under.is_unknown() && entry.under.policy != policy.mark();
    is_known && policy.preset == Preset::Uptime && !question.is_preflight()
}

/// What the settings make of an entry; none if it may not be stored.
fn decided_now(entry: &Entry, question: &Question, policy: &Policy) -> Option<Kept> {
    let mut headers = entry.headers.clone();
    if entry.under.withholds_cookie {
        // Its value does not matter.
        let withheld = HeaderValue::from_static("withheld=");
        headers.try_insert(SET_COOKIE, withheld).ok()?;
    }
    let asked = Asked {
        headers: &HeaderMap::new(),
        path: path_of(question.target()),
        keyed_by_client: question.is_keyed_by_client(),
    };
    let sent = entry.request_time;
    let came = entry.freshness.response_time;
    match storability(asked, entry.status, &headers, sent, came, policy) {
        Storability::Store(kept) | Storability::Brief(kept, _) => Some(kept),
        Storability::DoNotStore(_) => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::panic,
        clippy::unwrap_used,
        reason = "a test fails by panicking"
    )]

    use super::*;
    use crate::cell::{Body, Nonce, StoredUnder};
    use crate::config::Config;
    use crate::question::{Origin, Read, Visitor};
    use crate::semantics::{Audience, IgnoreOrigin};
    use crate::time::Time;
    use bytes::Bytes;
    use http::{Request, StatusCode};
    use std::time::Duration;

    fn question() -> Question {
        let (parts, ()) = Request::get("/page").body(()).unwrap().into_parts();
        let origin = Origin::parse("http://origin.test").unwrap();
        let config = Config::default();
        match Visitor::read(&parts, false, &origin, &config.key, &config.request) {
            Read::Question(visitor) => visitor.question(&[]),
            read => panic!("{read:?}"),
        }
    }

    /// What was stored under `policy`.
    fn stored(policy: &Policy, cache_control: &str, withholds_cookie: bool) -> Entry {
        let mut headers = HeaderMap::new();
        headers.insert(
            "cache-control",
            HeaderValue::from_str(cache_control).unwrap(),
        );
        let now = Time::from_unix_millis(1_000_000);
        let asked = Asked {
            headers: &HeaderMap::new(),
            path: "/page",
            keyed_by_client: false,
        };
        let found = storability(asked, StatusCode::OK, &headers, now, now, policy);
        let Storability::Store(kept) = found else {
            panic!("{found:?}");
        };
        Entry {
            status: StatusCode::OK,
            headers,
            request_time: now,
            fetch_millis: 0,
            freshness: kept.freshness,
            lease: Nonce::new(1),
            invalidated: false,
            audience: kept.audience,
            under: StoredUnder {
                policy: policy.mark(),
                withholds_cookie,
            },
            body: Body::Inline(Bytes::new()),
        }
    }

    fn rule(ttl: u64) -> Policy {
        Policy {
            ttl: Some(Duration::from_secs(ttl)),
            ignore_origin: IgnoreOrigin {
                private: true,
                no_store: true,
                set_cookie: true,
                ..IgnoreOrigin::default()
            },
            ..Policy::of(Preset::Uptime)
        }
    }

    /// A page with one visitor's token was a hit for a day after the rule was removed.
    #[test]
    fn what_a_wrong_rule_has_stored_is_not_served_once_the_rule_is_corrected() {
        let question = question();
        let plain = Policy::of(Preset::Uptime);
        for (cache_control, withholds_cookie) in
            [("private", false), ("no-store", false), ("max-stale", true)]
        {
            let entry = stored(&rule(86_400), cache_control, withholds_cookie);
            assert!(!is_under_others(&entry, &question, &rule(86_400)));
            assert!(is_under_others(&entry, &question, &plain));
            let now = decided_now(&entry, &question, &plain);
            assert_eq!(now, None, "{cache_control}");
        }
    }

    #[test]
    fn a_rule_that_is_changed_says_how_long_and_for_whom_at_once() {
        let question = question();
        let plain = Policy::of(Preset::Uptime);
        let entry = stored(&plain, "max-age=60", false);
        assert_eq!(entry.audience, Audience::Everyone);
        let longer = decided_now(&entry, &question, &rule(600)).unwrap();
        assert_eq!(longer.freshness.lifetime_ms, 600_000);
        let back = decided_now(&entry, &question, &plain).unwrap();
        assert_eq!(back.freshness, entry.freshness);
    }

    #[test]
    fn what_older_versions_have_stored_is_left_as_it_is() {
        let question = question();
        let mut entry = stored(&rule(60), "private", false);
        entry.under = StoredUnder::default();
        let plain = Policy::of(Preset::Uptime);
        assert!(!is_under_others(&entry, &question, &plain));
    }
}
