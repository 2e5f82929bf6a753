//! Small scenarios, each named for a fault that a seed has found.

use super::*;
use crate::scenario::{Breadth, PurgeCall, Visit};
use crate::world::Report;

const MILLI: Micros = 1_000;

/// A page that is stored for a second, and takes this long.
fn page(takes: u64) -> Resource {
    let takes = Duration::from_millis(takes);
    Resource {
        speech: Speech::MaxAge,
        max_age: 1,
        stale_while_revalidate: Some(0),
        stale_if_error: Some(0),
        validator: false,
        changes: Duration::ZERO,
        size: 100,
        parts: 1,
        vary: &[],
        depends: Depends::default(),
        sets_cookie: SetsCookie::default(),
        reply: Reply::default(),
        public: false,
        widens: None,
        latency: (takes, takes),
    }
}

/// A visit of a key through a node, by the time in milliseconds.
fn visit(at: u64, key: usize, node: usize) -> Visit {
    Visit {
        at: at * MILLI,
        key,
        node,
        method: Method::Get,
        language: None,
        device: None,
        brings: Brings::default(),
        conditional: false,
        leaves: None,
        tail: false,
    }
}

/// A world on an exact store where nothing goes wrong but what a test adds: three nodes, four
/// slots, leases of two seconds, and visitors that wait three seconds.
fn calm(seed: u64, resources: Vec<Resource>, visits: Vec<Visit>) -> Scenario {
    let mut scenario = Scenario::plain(seed);
    scenario.store = StoreKind::Exact;
    scenario.write_delay = Duration::ZERO;
    scenario.visible_within = Duration::ZERO;
    scenario.offsets = vec![0; 3];
    scenario.faults.clear();
    scenario.purges.clear();
    scenario.resources = resources;
    scenario.visits = visits;
    scenario.settings.strict = false;
    scenario.settings.lease = Duration::from_secs(2);
    scenario.settings.skew = Duration::ZERO;
    scenario.settings.budget = Duration::from_secs(3);
    scenario.settings.first_byte = Duration::from_secs(10);
    scenario.settings.soft = Duration::from_millis(500);
    scenario.settings.stale_while_revalidate = 0;
    scenario.settings.stale_if_error = 0;
    scenario.settings.slots = 4;
    scenario.settings.local_slots = 1;
    scenario.settings.pass = Duration::from_secs(30);
    scenario.settings.per_hour = 0;
    scenario.healed = 0;
    scenario.end = 40_000 * MILLI;
    scenario
}

/// Plays a scenario in which nothing is broken, and every visitor gets an answer of the
/// origin's.
fn play_well(scenario: &Scenario) -> Report {
    let report = play(scenario, true, &[]).unwrap();
    let lines = report.lines.join("\n");
    assert_eq!(report.violation, None, "{lines}");
    assert_eq!(report.coverage.of(Kind::Error), 0, "{lines}");
    report
}

/// All slots were taken until the stale page of a visitor was of no use any more. The visitor
/// got no answer, and waited for a refresh behind the answer all the same: that brought what
/// was not for it, and the origin was asked again on its behalf (H1).
#[test]
fn a_visitor_that_a_stale_page_serves_no_longer_asks_once() {
    for seed in 0..10 {
        let mut stale = page(10);
        stale.stale_if_error = Some(1);
        let slow = || page(1_500);
        let pages = vec![stale, slow(), slow(), slow(), slow()];
        let mut visits = vec![visit(0, 0, 0)];
        visits.extend((1..pages.len()).map(|key| visit(1_200, key, 1)));
        visits.push(visit(1_650, 0, 0));
        let expected = visits.len() as u64;
        let mut scenario = calm(seed, pages, visits);
        scenario.faults = vec![Fault {
            from: 1_000 * MILLI,
            to: scenario.end,
            kind: FaultKind::Origin {
                keys: 1,
                how: OriginFault::Redirects,
            },
        }];
        let report = play_well(&scenario);
        assert_eq!(report.coverage.of(Kind::Asked), expected);
    }
}

/// On a store without a swap, the answer to a visitor's question named a selecting field. The
/// visitor waited until it was stored for visitors without that field, which took the rest of
/// its time, and got an error.
#[test]
fn a_page_that_turns_out_to_vary_on_a_slow_store_is_no_error() {
    for seed in 0..10 {
        let mut varies = page(1_000);
        varies.vary = &["accept-language"];
        let mut visits = vec![visit(0, 0, 0)];
        visits[0].language = Some("en");
        let mut scenario = calm(seed, vec![varies], visits);
        scenario.store = StoreKind::Eventual;
        scenario.write_delay = Duration::from_millis(300);
        scenario.visible_within = Duration::from_millis(250);
        scenario.settings.lease = Duration::from_secs(5);
        scenario.settings.skew = Duration::from_millis(400);
        play_well(&scenario);
    }
}

/// Each fetch that a visitor waited for was purged before it was published, and at the end
/// of its time the visitor got an error. Nobody had asked the origin on its behalf.
#[test]
fn a_visitor_whose_page_is_purged_while_others_fetch_it_is_no_error() {
    for seed in 0..10 {
        let visits = vec![visit(0, 0, 0), visit(100, 0, 1), visit(100, 0, 2)];
        let mut scenario = calm(seed, vec![page(2_000)], visits);
        scenario.purges = [1_000, 2_700]
            .map(|at| PurgeCall {
                at: at * MILLI,
                key: 0,
                node: 0,
                how: Purge::Hard,
                breadth: Breadth::Key,
            })
            .to_vec();
        play_well(&scenario);
    }
}
