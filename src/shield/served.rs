//! What became of a request, in one word.
//!
//! `Cache-Status`, the log and counters are made from [`Served`], so they cannot
//! disagree.

use crate::budget::HaltedBy;
use crate::question;
use crate::semantics::cdn_loop::LOOP;
use crate::semantics::{CacheStatus, Forward};
use http::StatusCode;

/// The detail of an unsafe request of which nothing was sent, beside the cause.
const NOT_SENT: &str = "not-sent";

/// Why a stale entry was served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stale {
    /// A refresh runs behind the answer.
    WhileRevalidating,
    /// The origin failed, or may not be asked yet.
    OnError,
    /// The origin takes longer than `origin.soft_timeout`.
    SoftTimeout,
    /// The origin failed to answer a request that was passed.
    Fallback,
}

impl Stale {
    fn token(self) -> &'static str {
        match self {
            Stale::WhileRevalidating => "stale",
            Stale::OnError => "stale-if-error",
            Stale::SoftTimeout => "soft-timeout",
            Stale::Fallback => "fallback",
        }
    }
}

/// Why a GET or HEAD was passed: forwarded with its own fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    /// It asks no question.
    NoQuestion(question::Reason),
    /// It has credentials, and no answer for everyone is stored.
    Credentials,
    /// Answers to its question may not be stored.
    Uncacheable,
    /// It does not accept the coding of the stored answer.
    Encoding,
    /// What is fetched for its question is not published.
    PublishFailing,
    /// It has to be validated for each request, and each gets an answer of its own.
    Validation,
    /// It says `no-store`: preset `strict`.
    RequestNoStore,
    /// It wants a part of what is too long to be stored.
    LongRange,
    /// The origin holds it until it has something to say.
    LongPoll,
    /// A rule says so.
    Rule,
}

impl Passed {
    /// A short name for logs and `Cache-Status` details.
    pub fn token(self) -> &'static str {
        match self {
            Passed::NoQuestion(reason) => reason.token(),
            Passed::Credentials => "credentials",
            Passed::Uncacheable => "uncacheable",
            Passed::Encoding => "encoding",
            Passed::PublishFailing => "publish-failing",
            Passed::Validation => "validation",
            Passed::RequestNoStore => "request-no-store",
            Passed::LongRange => "long-range",
            Passed::LongPoll => "long-poll",
            Passed::Rule => "rule",
        }
    }

    fn forward(self) -> Forward {
        match self {
            Passed::RequestNoStore => Forward::Request,
            Passed::NoQuestion(_)
            | Passed::Credentials
            | Passed::Uncacheable
            | Passed::Encoding
            | Passed::PublishFailing
            | Passed::Validation
            | Passed::LongRange
            | Passed::LongPoll
            | Passed::Rule => Forward::Bypass,
        }
    }
}

/// Why the shield answered by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// Over a limit, or not a request that is served here.
    Refused,
    /// It names a host that is not served here.
    Misdirected,
    /// This shield has sent it.
    Loop,
    /// TRACE or OPTIONS whose last hop this is.
    MaxForwards,
    /// Nothing stored, and the request does not want it fetched.
    OnlyIfCached,
    /// Nothing stored, and the origin may not be asked yet.
    Backoff,
    /// Nothing stored, and the request has waited as long as it may.
    WaitBudget,
    /// Nothing stored, and the origin has as many requests in flight as it may.
    OriginBusy,
    /// Nothing stored, and nothing is sent to the origin for now.
    Halted(HaltedBy),
    /// Nothing stored, and the client has gone before the origin was asked.
    ClientGone,
    /// Nothing stored, and the origin failed.
    OriginFailed,
    /// Nothing stored, and the origin did not answer in time.
    OriginTimeout,
    /// Nothing stored, and the host does not let the component ask the origin.
    OriginDenied,
    /// Nothing stored, and the host does not let the fields of the origin's answer through.
    FieldsRefused,
    /// It authenticates a connection that others use, or was asked to.
    ConnectionAuth,
    /// The same as one of these, and the operator has set a fallback.
    RuleFallback,
}

impl Own {
    /// Whether the origin was asked and did not answer as it should.
    pub(super) fn is_of_the_origin(self) -> bool {
        matches!(self, Own::OriginFailed | Own::OriginTimeout)
    }

    pub(super) fn token(self) -> &'static str {
        match self {
            Own::Refused => "refused",
            Own::Misdirected => "misdirected",
            Own::Loop => LOOP,
            Own::MaxForwards => "max-forwards",
            Own::OnlyIfCached => "only-if-cached",
            Own::Backoff => "backoff",
            Own::WaitBudget => "wait-budget",
            Own::OriginBusy => "origin-busy",
            Own::Halted(by) => by.token(),
            Own::ClientGone => "client-gone",
            Own::OriginFailed => "origin-failed",
            Own::OriginTimeout => "origin-timeout",
            Own::OriginDenied => "origin-denied",
            Own::FieldsRefused => "fields-refused",
            Own::ConnectionAuth => "connection-auth",
            Own::RuleFallback => "rule-fallback",
        }
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// Answered with an entry.
    Entry {
        /// What remains of its lifetime, in seconds; negative when stale.
        ttl: i64,
        /// `None` where it is fresh.
        stale: Option<Stale>,
        /// The request waited for another's fetch.
        collapsed: bool,
    },
    /// Answered with what this request had fetched for the cell.
    Fetched {
        /// Why the cell could not answer.
        why: Forward,
        /// The origin's status.
        status: StatusCode,
        /// Why the answer is not stored for later requests; none where it is.
        not_stored: Option<&'static str>,
    },
    /// Forwarded with its own fields.
    Passed {
        /// Why.
        why: Passed,
        /// The origin's status.
        status: StatusCode,
    },
    /// Forwarded because of its method.
    Forwarded {
        /// The origin's status.
        status: StatusCode,
        /// Whether the answer is stored for later requests.
        stored: bool,
    },
    /// Answered by the shield itself.
    Own {
        /// Why.
        why: Own,
        /// Why the request would have gone to the origin.
        forward: Option<Forward>,
        /// The request waited for another's fetch.
        collapsed: bool,
        /// It has an unsafe method, and the origin has received nothing of it.
        not_sent: bool,
    },
}

impl Served {
    /// An answer of the shield to a request that did not need the origin.
    pub fn own(why: Own) -> Self {
        Served::Own {
            why,
            forward: None,
            collapsed: false,
            not_sent: false,
        }
    }

    /// The member of `Cache-Status` that says so (RFC 9211).
    pub fn cache_status(self, store_fails: bool) -> CacheStatus {
        let mut status = match self {
            Served::Entry {
                ttl,
                stale,
                collapsed,
            } => CacheStatus {
                hit: !collapsed,
                fwd: collapsed.then_some(Forward::UriMiss),
                collapsed,
                ttl: Some(ttl),
                detail: stale.map(|stale| stale.token().to_owned()),
                ..CacheStatus::default()
            },
            Served::Fetched {
                why,
                status,
                not_stored,
            } => CacheStatus {
                fwd: Some(why),
                fwd_status: Some(status.as_u16()),
                stored: not_stored.is_none(),
                detail: not_stored.map(str::to_owned),
                ..CacheStatus::default()
            },
            Served::Passed { why, status } => CacheStatus {
                fwd: Some(why.forward()),
                fwd_status: Some(status.as_u16()),
                detail: Some(why.token().to_owned()),
                ..CacheStatus::default()
            },
            Served::Forwarded { status, stored } => CacheStatus {
                fwd: Some(Forward::Method),
                fwd_status: Some(status.as_u16()),
                stored,
                ..CacheStatus::default()
            },
            Served::Own {
                why,
                forward,
                collapsed,
                not_sent,
            } => CacheStatus {
                fwd: forward,
                collapsed,
                detail: Some(match not_sent {
                    true => format!("{}, {NOT_SENT}", why.token()),
                    false => why.token().to_owned(),
                }),
                ..CacheStatus::default()
            },
        };
        if store_fails {
            status.detail = Some(match status.detail {
                Some(detail) => format!("{detail}, store-unavailable"),
                None => "store-unavailable".to_owned(),
            });
        }
        status
    }
}
