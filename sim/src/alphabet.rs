//! What visitors bring, and on what the origin's content depends: added to a
//! scenario after the rest is drawn, from a generator of its own, so that the
//! rest stays as it was.
//!
//! Nothing is kept apart: each resource meets each kind of request, whatever the
//! resource says about caching.

use crate::executor::{Micros, micros};
use crate::requests::{ODD_FIELD, ODD_REFERER};
use crate::scenario::{
    Brings, Dependence, Depends, Fault, FaultKind, Method, Operations, OriginFault, Reply,
    Resource, Scenario, SetsCookie, Speech, Visit,
};
use std::time::Duration;

/// Chosen so that what is drawn here has nothing to do with what is drawn
/// elsewhere.
const APART: u64 = 0x0915_7104;

/// Visitors with a session of their own. Fewer than visits: people come back.
const PEOPLE: u32 = 6;

/// How many visitors in a hundred are logged in; one is drawn for a scenario.
const LOGGED_IN: [u32; 5] = [0, 15, 30, 60, 100];

/// How many of the other visitors in a hundred bring something special.
const SPECIAL: u32 = 45;

/// One scenario in this number has an origin that refuses at times.
const REFUSALS_ONE_IN: u32 = 2;

/// The same, for what makes slots scarce.
const SCARCITY_APART: u64 = 0x51a7_c0de;

/// The same, for what ends connections.
const CLOSING_APART: u64 = 0xc105_ed00;

/// One scenario in this number whose origin may fail ends connections without an answer.
const CLOSING_ONE_IN: u32 = 3;

/// One scenario in this number has bursts of requests.
const BURSTS_ONE_IN: u32 = 3;

/// One scenario in this number whose origin may fail has one that fails for all.
const OUTAGES_ONE_IN: u32 = 3;

/// Most resources: faults name them by bits.
const RESOURCES_MAX: usize = 28;

/// Time between two of the visits that look whether all is well.
const TAIL_EVERY: Micros = 700_000;

/// Accept as browsers, applications and nobody send it.
const ACCEPT: [&str; 5] = [
    "*/*",
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8",
    "application/json",
    "image/avif,image/webp,image/*,*/*;q=0.8",
    "application/x-made-up",
];

const ACCEPT_ENCODING: [&str; 5] = [
    "gzip",
    "br, gzip",
    "gzip;q=0.8, br;q=1.0, zstd",
    "x-made-up",
    "identity",
];

const UNKNOWN: [(&str, &str); 9] = [
    ("x-tenant", "a"),
    ("x-tenant", "b"),
    ("x-requested-with", "XMLHttpRequest"),
    ("x-forwarded-host", "evil.example"),
    ("x-original-url", "/admin"),
    ("x-forwarded-proto", "https"),
    ("x-api-version", "2"),
    ("origin", "https://other.example"),
    (ODD_FIELD, "1"),
];

const DROPPED: [(&str, &str); 8] = [
    ("user-agent", "browser"),
    ("user-agent", "robot"),
    ("referer", "https://search.example/?q=1"),
    ("referer", ODD_REFERER),
    ("x-forwarded-for", "192.0.2.1"),
    ("x-forwarded-for", "192.0.2.2, 198.51.100.7"),
    (
        "traceparent",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ),
    ("x-request-id", "7"),
];

const CACHE_CONTROL: [(&str, &str); 5] = [
    ("cache-control", "no-store"),
    ("cache-control", "no-cache"),
    ("cache-control", "max-age=0"),
    ("cache-control", "only-if-cached"),
    ("pragma", "no-cache"),
];

const CONDITIONS: [(&str, &str); 7] = [
    ("range", "bytes=0-9"),
    ("range", "bytes=5-"),
    ("range", "bytes=999999-"),
    ("range", "items=0-1"),
    ("if-match", "\"nothing\""),
    ("if-none-match", "\"nothing\""),
    ("if-unmodified-since", "Thu, 01 Jan 1970 00:00:00 GMT"),
];

const OVERRIDES: [(&str, &str); 3] = [
    ("x-http-method-override", "DELETE"),
    ("x-http-method", "PUT"),
    ("x-method-override", "PATCH"),
];

/// Adds to a scenario what visitors bring, and what the origin makes of it.
pub(crate) fn enrich(scenario: &mut Scenario) {
    let mut rng = fastrand::Rng::with_seed(scenario.seed ^ APART);
    let rng = &mut rng;
    for resource in &mut scenario.resources {
        resource.enrich(rng);
    }
    let logged_in = *rng.choice(&LOGGED_IN).unwrap_or(&0);
    for visit in scenario.visits.iter_mut().filter(|visit| !visit.tail) {
        visit.brings = brings(rng, logged_in, visit.method);
    }
    for fault in &mut scenario.faults {
        if let FaultKind::Store { operations, .. } = &mut fault.kind {
            *operations = match rng.u32(..10) {
                0..=1 => Operations::Reads,
                2..=4 => Operations::Writes,
                _ => Operations::Both,
            };
        }
    }
    refusals(rng, scenario);
}

/// An hour has a bounded number of requests in one scenario of this many.
const RATES_ONE_IN: u32 = 10;

/// More requests at once than the origin's budget has slots, and an origin that fails
/// for all.
pub(crate) fn make_scarce(scenario: &mut Scenario) {
    let mut rng = fastrand::Rng::with_seed(scenario.seed ^ SCARCITY_APART);
    let rng = &mut rng;
    if rng.u32(..BURSTS_ONE_IN) == 0 {
        for _ in 0..rng.usize(1..=2) {
            burst(rng, scenario);
        }
    }
    if scenario.origin_may_fail() && rng.u32(..OUTAGES_ONE_IN) == 0 {
        outage(rng, scenario);
    }
    if rng.u32(..RATES_ONE_IN) == 0 {
        scenario.settings.per_hour = *pick(rng, &[16, 40, 80, 480]);
    }
}

/// An origin that ends connections without an answer, as one does that has kept them for as
/// long as it likes.
pub(crate) fn close_connections(scenario: &mut Scenario) {
    let mut rng = fastrand::Rng::with_seed(scenario.seed ^ CLOSING_APART);
    if !scenario.origin_may_fail() || rng.u32(..CLOSING_ONE_IN) != 0 {
        return;
    }
    let from = rng.u64(..scenario.healed);
    let to = from.saturating_add(rng.u64(1_000_000..15_000_000));
    scenario.faults.push(Fault {
        from,
        to: to.min(scenario.healed),
        kind: FaultKind::Origin {
            keys: rng.u32(1..16),
            how: OriginFault::Closes,
        },
    });
}

/// Visits that all need a slot, at once.
fn burst(rng: &mut fastrand::Rng, scenario: &mut Scenario) {
    let Some(sample) = scenario.visits.first().cloned() else {
        return;
    };
    let slots = scenario.settings.slots as usize;
    let at = rng.u64(..scenario.healed);
    let old = scenario.resources.len();
    let kinds = *pick(rng, &[1, 2, 4, 7]);
    for number in 0..rng.usize(slots..=slots * 3) {
        let mut visit = Visit {
            at: at + rng.u64(..60_000),
            key: rng.usize(..old),
            node: rng.usize(..64),
            method: Method::Get,
            brings: Brings::nothing(),
            conditional: false,
            leaves: None,
            ..sample.clone()
        };
        match (kinds, number % 3) {
            // A key that nobody has asked for.
            (1, _) | (7, 0) => {
                if scenario.resources.len() < RESOURCES_MAX {
                    let mut resource = scenario.resources[visit.key].clone();
                    let slowest = *pick(rng, &[300, 800, 1_500]);
                    resource.latency.1 = Duration::from_millis(slowest);
                    scenario.resources.push(resource);
                }
                visit.key =
                    rng.usize(old.min(scenario.resources.len() - 1)..scenario.resources.len());
            }
            // What no question can be made of.
            (2, _) | (7, 1) => visit.brings.content = true,
            _ => visit.method = Method::Post,
        }
        scenario.visits.push(visit);
    }
}

/// The origin fails, whatever it is asked.
fn outage(rng: &mut fastrand::Rng, scenario: &mut Scenario) {
    let before = scenario.recovery();
    let from = rng.u64(..scenario.healed);
    scenario.faults.push(Fault {
        from,
        to: from
            .saturating_add(rng.u64(1_000_000..8_000_000))
            .min(scenario.healed),
        kind: FaultKind::Origin {
            keys: u32::MAX,
            how: *pick(
                rng,
                &[
                    OriginFault::Refuses,
                    OriginFault::Errors,
                    OriginFault::Hangs,
                    OriginFault::Flaps,
                    OriginFault::TooMany,
                ],
            ),
        },
    });
    lengthen(scenario, before);
}

impl Resource {
    fn enrich(&mut self, rng: &mut fastrand::Rng) {
        let mut depends = |one_in: u32| match rng.u32(..one_in) {
            0..=1 => Dependence::Silently,
            2 => Dependence::ByVary,
            _ => Dependence::No,
        };
        self.depends = Depends {
            credentials: depends(5),
            unknown: depends(8),
            accept: depends(8),
            coding: depends(8),
            agent: false,
        };
        self.depends.agent = rng.u32(..10) == 0;
        self.public = rng.u32(..4) == 0;
        self.sets_cookie = match rng.u32(..16) {
            _ if self.speech == Speech::SetCookie => SetsCookie::Always,
            0 => SetsCookie::OnContent,
            1 => SetsCookie::OnConfirmation,
            2 => SetsCookie::Always,
            _ => SetsCookie::Never,
        };
        self.reply = match rng.u32(..12) {
            0 => Reply::Redirect,
            1..=2 => Reply::Canonical,
            3 => Reply::Handshake,
            _ => Reply::Content,
        };
        // Sites say nothing more often than anything else.
        if rng.u32(..4) == 0 {
            self.speech = Speech::Silent;
        }
    }
}

fn brings(rng: &mut fastrand::Rng, logged_in: u32, method: Method) -> Brings {
    let mut brings = Brings::nothing();
    let person = rng.u32(..PEOPLE);
    if rng.u32(..100) < logged_in {
        let session = format!("session={person}");
        brings.fields.push(match rng.u32(..8) {
            0 => ("authorization", format!("Bearer {person}")),
            1 => ("cookie", format!("_ga=GA1.2.3; {session}; theme=dark")),
            2 => ("cookie", format!("=;{person}")),
            _ => ("cookie", session),
        });
    } else if rng.u32(..6) == 0 {
        brings.fields.push(("cookie", "_ga=GA1.2.3".to_owned()));
    }
    if rng.u32(..100) >= SPECIAL {
        return brings;
    }
    for _ in 0..rng.usize(1..=3) {
        let field = match rng.u32(..16) {
            0..=2 => ("accept", *pick(rng, &ACCEPT)),
            3..=4 => ("accept-encoding", *pick(rng, &ACCEPT_ENCODING)),
            5..=7 => *pick(rng, &UNKNOWN),
            8..=9 => *pick(rng, &DROPPED),
            10 => *pick(rng, &CACHE_CONTROL),
            11 => *pick(rng, &CONDITIONS),
            12 => *pick(rng, &OVERRIDES),
            13 => {
                brings.content = matches!(method, Method::Get | Method::Head);
                continue;
            }
            _ => {
                brings.query = Some("utm_source=letter");
                continue;
            }
        };
        if !brings.has(field.0) {
            brings.fields.push((field.0, field.1.to_owned()));
        }
    }
    brings
}

fn pick<'a, T>(rng: &mut fastrand::Rng, from: &'a [T]) -> &'a T {
    &from[rng.usize(..from.len())]
}

/// An origin that refuses some or all for a while.
fn refusals(rng: &mut fastrand::Rng, scenario: &mut Scenario) {
    if !scenario.origin_may_fail() || rng.u32(..REFUSALS_ONE_IN) != 0 {
        return;
    }
    let settled = scenario.recovery();
    let healed = scenario.healed;
    for _ in 0..rng.usize(1..=3) {
        let from = rng.u64(..healed);
        scenario.faults.push(Fault {
            from,
            to: from
                .saturating_add(rng.u64(500_000..15_000_000))
                .min(healed),
            kind: FaultKind::Origin {
                keys: rng.u32(1..16),
                how: *pick(
                    rng,
                    &[
                        OriginFault::Unauthorized,
                        OriginFault::Missing,
                        OriginFault::Forbidden,
                        OriginFault::TooMany,
                        OriginFault::Unavailable,
                        OriginFault::Redirects,
                        OriginFault::Particular,
                        OriginFault::Particular,
                        OriginFault::Trickles,
                        OriginFault::Trickles,
                    ],
                ),
            },
        });
    }
    lengthen(scenario, settled);
}

/// It takes longer until all is well than it did with fewer faults, and has to be looked
/// at as long.
fn lengthen(scenario: &mut Scenario, before: Duration) {
    let longer = micros(scenario.recovery()).saturating_sub(micros(before));
    scenario.end += longer;
    for key in 0..scenario.resources.len() {
        let tail = scenario.visits.iter().rev();
        let Some(mut last) = tail
            .clone()
            .find(|visit| visit.tail && visit.key == key)
            .cloned()
        else {
            continue;
        };
        let until = last.at + longer;
        while last.at < until {
            last.at += TAIL_EVERY;
            scenario.visits.push(last.clone());
        }
    }
}
