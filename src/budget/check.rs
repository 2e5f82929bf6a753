//! The check: whether the origin works at all, when several of its pages fail.
//!
//! Any visitor can ask for pages that fail: IIS answers 500 to some markup in a query.
//! Without a check, one visitor with a few such URLs would open the breaker for all
//! others. So the record remembers a page that worked, and before the breaker opens, one
//! request goes to that page. If it works, the failures concern their own pages alone,
//! and for a while no more of them count. If it fails, or its answer does not come in
//! time, the breaker opens.
//!
//! A failure to connect needs no check: it does not depend on the page.

use crate::time::Time;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Most bytes of the path with its query, and of the host, of a page that is remembered.
const KNOWN_GOOD_MAX: usize = 512;

/// How long a check may take, with the wait for a slot.
pub const CHECK_TIME: Duration = Duration::from_secs(5);

/// A page whose answer took at most this long takes the place of a slower one.
const QUICK: Duration = Duration::from_secs(1);

/// How long the answer of a page that is remembered may have taken. A check leaves room for
/// an origin that is busier, and for the wait for a slot.
const SLOWEST: Duration = Duration::from_millis(2_500);

/// For this long after a check that the origin passed, failures of single pages do not
/// count. So there is at most one check in this time.
pub const PASSED_FOR: Duration = Duration::from_secs(5);

/// Media types of answers that the application behind the origin has made, rather than
/// its file system.
const MADE: [&str; 3] = ["text/html", "application/xhtml+xml", "application/json"];

/// A page that worked when it was last asked for, for any visitor.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KnownGood {
    /// Path and query at the origin.
    path: String,
    /// The visitor's host, where it is part of the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    /// Whether the visitor's connection was secure.
    is_secure: bool,
    /// Stands for the path in the breaker.
    target: u32,
    /// Whether the application made it. A style sheet may work while the application
    /// does not.
    is_made: bool,
    /// Whether its answer took longer than [`QUICK`].
    #[serde(default)]
    is_slow: bool,
    /// It has failed since.
    #[serde(default)]
    failed: bool,
}

impl KnownGood {
    /// The rank that no page exceeds.
    const BEST: (bool, bool) = (true, true);

    /// A page that has just worked; `None` if it is too long to be remembered.
    pub fn new(path: &str, host: Option<&str>, is_secure: bool, target: u32) -> Option<Self> {
        let page = KnownGood {
            path: path.to_owned(),
            host: host.map(str::to_owned),
            is_secure,
            target,
            is_made: false,
            is_slow: false,
            failed: false,
        };
        page.is_valid().then_some(page)
    }

    /// The page, after an answer with these fields that took this long; `None` if that is
    /// too slow for a check. Otherwise a visitor could choose a page whose check fails.
    pub fn answered(mut self, headers: &HeaderMap, took: Duration) -> Option<Self> {
        let value = headers.get(CONTENT_TYPE).map(|value| value.to_str());
        let essence = match value {
            Some(Ok(value)) => value.split(';').next().unwrap_or_default().trim(),
            _ => "",
        };
        self.is_made = MADE.iter().any(|made| essence.eq_ignore_ascii_case(made));
        self.is_slow = took > QUICK;
        (took <= SLOWEST).then_some(self)
    }

    /// Whether a check of this page says more about the origin than one of `other`.
    pub fn is_better_than(&self, other: &KnownGood) -> bool {
        self.rank() > other.rank()
    }

    /// The application's answer is worth more than a quick one.
    fn rank(&self) -> (bool, bool) {
        (self.is_made, !self.is_slow)
    }

    fn is_valid(&self) -> bool {
        let length = |text: &str| text.len() <= KNOWN_GOOD_MAX;
        self.path.starts_with('/') && length(&self.path) && self.host.as_deref().is_none_or(length)
    }

    /// Path and query at the origin.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The visitor's host, where it is part of the key.
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// Whether the visitor's connection was secure.
    pub fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// Stands for the path in the breaker.
    pub fn target(&self) -> u32 {
        self.target
    }
}

/// Whether the origin is being checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Check {
    /// It is not.
    #[default]
    None,
    /// An instance is doing it.
    UnderWay {
        /// An instance that has not reported by then has probably died.
        until: Time,
    },
    /// The origin has passed.
    Passed {
        /// Failures of single pages do not count before this.
        until: Time,
    },
}

impl Check {
    /// Whether it began or ended so lately that no other begins at `now`.
    fn counts(self, now: Time) -> bool {
        match self {
            Check::None => false,
            Check::UnderWay { until } | Check::Passed { until } => now < until,
        }
    }

    /// Whether an instance is doing it.
    pub fn is_under_way(self) -> bool {
        matches!(self, Check::UnderWay { .. })
    }

    /// The check without a time that cannot be right. `latest` is the time by the
    /// fastest clock.
    fn bounded(self, latest: Time) -> Self {
        match self {
            Check::UnderWay { until } if until > latest.plus(CHECK_TIME) => Check::None,
            Check::Passed { until } if until > latest.plus(PASSED_FOR) => Check::None,
            check => check,
        }
    }
}

/// What is known about a page that worked, and the check of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Checks {
    /// A page that worked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known_good: Option<KnownGood>,
    /// The check of it.
    pub state: Check,
}

impl Checks {
    /// Whether failures of single pages do not count at `now`.
    pub(super) fn has_passed(&self, now: Time) -> bool {
        matches!(self.state, Check::Passed { .. }) && self.state.counts(now)
    }

    /// Begins a check unless one is under way. Returns `false` if there is no page to
    /// ask for. That its path is among those that failed says nothing: any visitor can add a
    /// query that makes it fail.
    pub(super) fn begin(&mut self, now: Time) -> bool {
        if self.known_good.is_none() {
            return false;
        }
        if !self.state.counts(now) {
            self.state = Check::UnderWay {
                until: now.plus(CHECK_TIME),
            };
        }
        true
    }

    /// The origin has passed.
    pub(super) fn pass(&mut self, now: Time) {
        self.state = Check::Passed {
            until: now.plus(PASSED_FOR),
        };
    }

    /// The check could not be made.
    pub(super) fn give_up(&mut self) {
        self.state = Check::None;
    }

    /// Whether the page that is known is the one of this target: another may have taken its
    /// place while a check was under way.
    pub(super) fn is_known(&self, target: u32) -> bool {
        let known = self.known_good.as_ref();
        known.is_some_and(|page| page.target == target)
    }

    /// The origin has failed the check. Another page takes the place of this one, as soon
    /// as one works.
    pub(super) fn fail(&mut self) {
        self.state = Check::None;
        if let Some(page) = &mut self.known_good {
            page.failed = true;
        }
    }

    /// Whether `page`, which has just worked, is of more use than the page that is known;
    /// without `page`, whether any page could be.
    pub fn prefers(&self, page: Option<&KnownGood>) -> bool {
        let Some(known) = self.known_good.as_ref() else {
            return true;
        };
        let is_better = match page {
            Some(page) => page.is_better_than(known),
            None => known.rank() < KnownGood::BEST,
        };
        known.failed || is_better
    }

    pub(super) fn bounded(mut self, latest: Time) -> Self {
        self.known_good = self.known_good.filter(KnownGood::is_valid);
        self.state = self.state.bounded(latest);
        self
    }
}
