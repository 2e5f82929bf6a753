//! What the origin's answer does to a cell, as a pure function.
//!
//! The tables of this page are the contract: an answer that may be stored
//! replaces the entry; an answer that speaks of a failure, or of one request,
//! leaves a usable entry alone; an answer that may not be stored is not believed
//! at once.

use crate::cell::Doubt;
use crate::semantics::{Kept, Preset, Reason, Storability, is_transient};
use crate::time::Time;
use http::StatusCode;
use std::time::Duration;

/// An answer of the origin to a fill, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// What HTTP's rules say about storing it.
    pub(super) storability: Storability,
    /// How long the origin asks to be left alone; not capped yet.
    pub(super) retry_after: Option<Duration>,
    /// A rule says that the answer is a failure.
    pub(super) is_failure: bool,
    /// It redirects to the question that it answers.
    pub(super) leads_to_itself: bool,
    /// A monitor watches its path: it sees each answer of the origin.
    pub(super) is_monitored: bool,
}

/// The entry at hand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Present {
    /// It may be used if the origin fails.
    pub(super) usable: bool,
    /// An unsafe request has touched it since it was stored.
    pub(super) invalidated: bool,
    /// Refreshes before this one brought answers that may not be stored.
    pub(super) doubt: Option<Doubt>,
}

/// What an answer does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Effect {
    /// It is stored.
    Store(Kept),
    /// The refresh has failed. The entry stays; without one the answer goes to
    /// the visitor, and is shared for a moment where that is allowed.
    Fail {
        /// How long the origin asks to be left alone.
        retry_after: Option<Duration>,
        /// What is shared where no entry is usable.
        brief: Option<Kept>,
    },
    /// It may not be stored, but the entry stays for now: not believed at once.
    Doubt(Reason),
    /// It may not be stored: later requests are passed.
    Pass(Reason),
    /// It may not be stored, which says nothing about later answers.
    Nothing(Reason),
}

/// Decides what an answer does to a cell.
pub(super) fn effect(answer: Answer, present: Present, preset: Preset, now: Time) -> Effect {
    match preset {
        Preset::Uptime => uptime(answer, present, now),
        Preset::Strict => strict(answer, present),
    }
}

/// Decides what the answer to a preflight does to its cell. Its question has nothing of
/// the visitor in it, so an answer that refuses is believed; a failure leaves a usable
/// entry alone.
pub(super) fn preflight(answer: Answer, present: Present) -> Effect {
    let brief = match answer.storability {
        Storability::Store(kept) | Storability::Brief(kept, _) => kept,
        Storability::DoNotStore(reason) => return Effect::Nothing(reason),
    };
    match answer.is_failure || is_transient(answer.status) {
        true => Effect::Fail {
            retry_after: answer.retry_after,
            brief: (!present.usable).then_some(brief),
        },
        false => Effect::Store(brief),
    }
}

fn uptime(answer: Answer, present: Present, now: Time) -> Effect {
    let Answer {
        status,
        storability,
        retry_after,
        ..
    } = answer;
    let failed = Effect::Fail {
        retry_after,
        brief: match storability {
            Storability::Brief(kept, _) if !present.usable => Some(kept),
            Storability::Brief(..) | Storability::Store(_) | Storability::DoNotStore(_) => None,
        },
    };
    if answer.is_failure || is_transient(status) {
        return match answer.is_monitored && !present.usable {
            true => Effect::Nothing(Reason::Failure),
            false => failed,
        };
    }
    let is_gone = matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE);
    let speaks_of_the_request = status.is_client_error() && !is_gone;
    if present.usable && (speaks_of_the_request || status == StatusCode::PARTIAL_CONTENT) {
        return failed;
    }
    let refusal = match storability {
        _ if answer.leads_to_itself => Reason::SelfRedirect,
        Storability::Store(kept) => return Effect::Store(kept),
        Storability::Brief(kept, _) if is_gone || !present.usable => return Effect::Store(kept),
        Storability::Brief(_, reason) | Storability::DoNotStore(reason) => reason,
    };
    let doubt = Doubt::after(present.doubt, now);
    if present.usable && !present.invalidated && !doubt.is_settled(now) {
        return Effect::Doubt(refusal);
    }
    refused(refusal)
}

/// RFC 9111: an answer replaces what is stored, or removes it. Only a server
/// error leaves a usable entry alone (section 4.3.3).
fn strict(answer: Answer, present: Present) -> Effect {
    let unasked_part = answer.status == StatusCode::PARTIAL_CONTENT;
    if present.usable && (answer.status.is_server_error() || unasked_part) {
        return Effect::Fail {
            retry_after: answer.retry_after,
            brief: None,
        };
    }
    match answer.storability {
        _ if answer.leads_to_itself => refused(Reason::SelfRedirect),
        Storability::Store(kept) | Storability::Brief(kept, _) => Effect::Store(kept),
        Storability::DoNotStore(_) if answer.status.is_server_error() => {
            Effect::Nothing(Reason::Failure)
        }
        Storability::DoNotStore(reason) => refused(reason),
    }
}

/// Whether later requests for the question probably meet the same reason.
fn refused(reason: Reason) -> Effect {
    match reason.marks_pass() {
        true => Effect::Pass(reason),
        false => Effect::Nothing(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::semantics::{Audience, Freshness};

    fn at(seconds: u64) -> Time {
        Time::from_unix_millis(1_000_000 + seconds * 1_000)
    }

    const KEPT: Kept = Kept {
        freshness: Freshness {
            lifetime_ms: 1_000,
            initial_age_ms: 0,
            response_time: Time::from_unix_millis(1_000_000),
            stale_while_revalidate_ms: 0,
            stale_if_error_ms: 0,
            must_revalidate: false,
            no_cache: false,
            immutable: false,
            alone: 0,
            each_use: false,
        },
        audience: Audience::Everyone,
    };
    const STORE: Storability = Storability::Store(KEPT);
    const BRIEF: Storability = Storability::Brief(KEPT, Reason::NoFreshness);
    const PRIVATE: Storability = Storability::DoNotStore(Reason::Private);

    #[test]
    fn what_the_answer_to_a_preflight_does() {
        for (status, storability, is_failure, with, without) in [
            (204, STORE, false, "store", "store"),
            (200, STORE, true, "fail", "fail, share"),
            (302, BRIEF, false, "store", "store"),
            (403, BRIEF, false, "store", "store"),
            (405, BRIEF, false, "store", "store"),
            (429, BRIEF, false, "fail", "fail, share"),
            (503, BRIEF, false, "fail", "fail, share"),
        ] {
            for (usable, expected) in [(true, with), (false, without)] {
                let answer = Answer {
                    status: StatusCode::from_u16(status).unwrap_or_default(),
                    storability,
                    retry_after: None,
                    is_failure,
                    leads_to_itself: false,
                    is_monitored: false,
                };
                let present = Present {
                    usable,
                    invalidated: false,
                    doubt: None,
                };
                assert_eq!(named(preflight(answer, present)), expected, "{status}");
            }
        }
    }

    fn word(status: u16, storability: Storability, usable: bool, preset: Preset) -> &'static str {
        let answer = Answer {
            status: StatusCode::from_u16(status).unwrap_or_default(),
            storability,
            retry_after: None,
            is_failure: false,
            leads_to_itself: false,
            is_monitored: false,
        };
        let present = Present {
            usable,
            invalidated: false,
            doubt: None,
        };
        named(effect(answer, present, preset, at(0)))
    }

    fn named(effect: Effect) -> &'static str {
        match effect {
            Effect::Store(_) => "store",
            Effect::Fail { brief: None, .. } => "fail",
            Effect::Fail { brief: Some(_), .. } => "fail, share",
            Effect::Doubt(_) => "doubt",
            Effect::Pass(_) => "pass",
            Effect::Nothing(_) => "nothing",
        }
    }

    #[test]
    fn what_an_answer_does() {
        // Status, storability; with a usable entry, and without.
        for (status, storability, with, without) in [
            (200, STORE, "store", "store"),
            (200, BRIEF, "doubt", "store"),
            (200, PRIVATE, "doubt", "pass"),
            (
                206,
                Storability::DoNotStore(Reason::Partial),
                "fail",
                "pass",
            ),
            (301, STORE, "store", "store"),
            (302, BRIEF, "doubt", "store"),
            (302, PRIVATE, "doubt", "pass"),
            (404, STORE, "store", "store"),
            (404, BRIEF, "store", "store"),
            (404, PRIVATE, "doubt", "pass"),
            (410, BRIEF, "store", "store"),
            (400, BRIEF, "fail", "store"),
            (400, STORE, "fail", "store"),
            (401, BRIEF, "fail", "store"),
            (403, PRIVATE, "fail", "pass"),
            (405, STORE, "fail", "store"),
            (408, BRIEF, "fail", "fail, share"),
            (417, BRIEF, "fail", "store"),
            (425, BRIEF, "fail", "fail, share"),
            (429, BRIEF, "fail", "fail, share"),
            (500, BRIEF, "fail", "fail, share"),
            (503, PRIVATE, "fail", "fail"),
        ] {
            assert_eq!(
                word(status, storability, true, Preset::Uptime),
                with,
                "{status}"
            );
            assert_eq!(
                word(status, storability, false, Preset::Uptime),
                without,
                "{status}"
            );
        }
        for (status, storability, with, without) in [
            (200, PRIVATE, "pass", "pass"),
            (403, PRIVATE, "pass", "pass"),
            (404, STORE, "store", "store"),
            (500, STORE, "fail", "store"),
            (
                500,
                Storability::DoNotStore(Reason::NoFreshness),
                "fail",
                "nothing",
            ),
        ] {
            assert_eq!(
                word(status, storability, true, Preset::Strict),
                with,
                "{status}"
            );
            assert_eq!(
                word(status, storability, false, Preset::Strict),
                without,
                "{status}"
            );
        }
    }

    #[test]
    fn three_in_a_row_over_ten_seconds_are_believed() {
        let answer = Answer {
            status: StatusCode::FOUND,
            storability: PRIVATE,
            retry_after: None,
            is_failure: false,
            leads_to_itself: false,
            is_monitored: false,
        };
        let doubt = |times, since| {
            Some(Doubt {
                times,
                since: at(since),
            })
        };
        for (doubt, now, expected) in [
            (None, 0, Effect::Doubt(Reason::Private)),
            (doubt(1, 0), 30, Effect::Doubt(Reason::Private)),
            (doubt(2, 0), 9, Effect::Doubt(Reason::Private)),
            (doubt(2, 0), 10, Effect::Pass(Reason::Private)),
            (doubt(7, 5), 10, Effect::Doubt(Reason::Private)),
        ] {
            let present = Present {
                usable: true,
                invalidated: false,
                doubt,
            };
            assert_eq!(
                effect(answer, present, Preset::Uptime, at(now)),
                expected,
                "{now}"
            );
        }
        // What an unsafe request has changed is believed at once.
        let present = Present {
            usable: true,
            invalidated: true,
            doubt: None,
        };
        let at_once = effect(answer, present, Preset::Uptime, at(0));
        assert_eq!(at_once, Effect::Pass(Reason::Private));
    }

    #[test]
    fn a_redirect_to_its_own_question_is_never_stored() {
        for (usable, expected) in [
            (false, Effect::Pass(Reason::SelfRedirect)),
            (true, Effect::Doubt(Reason::SelfRedirect)),
        ] {
            let answer = Answer {
                status: StatusCode::MOVED_PERMANENTLY,
                storability: STORE,
                retry_after: None,
                is_failure: false,
                leads_to_itself: true,
                is_monitored: false,
            };
            let present = Present {
                usable,
                invalidated: false,
                doubt: None,
            };
            assert_eq!(effect(answer, present, Preset::Uptime, at(0)), expected);
            assert_eq!(
                effect(answer, present, Preset::Strict, at(0)),
                Effect::Pass(Reason::SelfRedirect)
            );
        }
    }

    #[test]
    fn a_monitor_sees_that_the_origin_is_back_at_once() {
        for (usable, is_monitored, expected) in [
            (false, true, Effect::Nothing(Reason::Failure)),
            (
                false,
                false,
                Effect::Fail {
                    retry_after: None,
                    brief: Some(KEPT),
                },
            ),
            (
                true,
                true,
                Effect::Fail {
                    retry_after: None,
                    brief: None,
                },
            ),
        ] {
            let answer = Answer {
                status: StatusCode::SERVICE_UNAVAILABLE,
                storability: BRIEF,
                retry_after: None,
                is_failure: false,
                leads_to_itself: false,
                is_monitored,
            };
            let present = Present {
                usable,
                invalidated: false,
                doubt: None,
            };
            assert_eq!(effect(answer, present, Preset::Uptime, at(0)), expected);
        }
    }

    #[test]
    fn a_rule_can_call_any_answer_a_failure() {
        let answer = Answer {
            status: StatusCode::OK,
            storability: STORE,
            retry_after: Some(Duration::from_secs(7)),
            is_failure: true,
            leads_to_itself: false,
            is_monitored: false,
        };
        let present = Present {
            usable: false,
            invalidated: false,
            doubt: None,
        };
        assert_eq!(
            effect(answer, present, Preset::Uptime, at(0)),
            Effect::Fail {
                retry_after: Some(Duration::from_secs(7)),
                brief: None
            }
        );
    }
}
