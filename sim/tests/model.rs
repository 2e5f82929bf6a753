//! The cell protocol holds in every state that the quick explorations reach,
//! and does not hold without any of its measures.

use leeward::cell::transition::Purge;
use leeward_sim::model::explore::{Extent, configurations, explore, protocol, without};
use leeward_sim::model::settings::{Behaviour, Detail, Purges, Safeguard, Settings};
use leeward_sim::model::state::State;
use leeward_sim::model::world::World;
use stateright::Model;
use std::collections::HashSet;

#[test]
#[cfg_attr(debug_assertions, ignore = "too slow unless optimised")]
fn all_properties_hold_in_every_state() {
    for settings in configurations(Extent::Quick) {
        let report = explore(settings, None, 2);
        println!("{settings:?}: {} states", report.states);
        if let Some((name, trace)) = &report.violation {
            println!("{name} does not hold:\n{trace}");
        }
        assert!(report.violation.is_none(), "violated with {settings:?}");
        assert!(report.states > 10_000, "nothing explored: {settings:?}");
    }
}

/// The folding leaves nothing out and makes nothing up: what can be reached
/// without it, folded afterwards, is what can be reached with it.
fn folds_soundly(folded: Settings) {
    let full = Settings {
        detail: Detail::Full,
        ..folded
    };
    let mut unfolded = reachable(full);
    let count = unfolded.len();
    unfolded = unfolded
        .into_iter()
        .map(|mut state| {
            state.normalise(&folded);
            state
        })
        .collect();
    let expected = reachable(folded);
    println!("{folded:?}: {count} states, folded {}", expected.len());
    let missed = unfolded.difference(&expected).next();
    assert!(missed.is_none(), "left out: {missed:?}");
    let made_up = expected.difference(&unfolded).next();
    assert!(made_up.is_none(), "made up: {made_up:?}");
}

#[test]
#[cfg_attr(debug_assertions, ignore = "too slow unless optimised")]
fn folding_where_replies_get_lost_changes_nothing() {
    folds_soundly(protocol(1, Behaviour::LostReply, Purges::None));
    folds_soundly(protocol(1, Behaviour::UpsertLostReply, Purges::None));
}

#[test]
#[ignore = "takes minutes"]
fn folding_under_purges_changes_nothing() {
    let hard = Purges::Only(Purge::Hard);
    folds_soundly(protocol(1, Behaviour::LostReply, hard));
}

#[test]
#[ignore = "takes minutes"]
fn folding_of_two_nodes_changes_nothing() {
    folds_soundly(Settings {
        crashes: false,
        late: false,
        failures: false,
        ..protocol(2, Behaviour::LostReply, Purges::None)
    });
}

fn reachable(settings: Settings) -> HashSet<State> {
    let world = World::new(settings, None);
    let mut next = world.init_states();
    let mut found: HashSet<State> = next.iter().copied().collect();
    let mut actions = Vec::new();
    while let Some(state) = next.pop() {
        world.actions(&state, &mut actions);
        let reached = actions
            .drain(..)
            .filter_map(|action| world.next_state(&state, action));
        next.extend(reached.filter(|state| found.insert(*state)));
    }
    found
}

/// Takes a measure away, and expects the violation that follows.
fn bites(safeguard: Safeguard) {
    let (settings, violated) = without(safeguard);
    let report = explore(settings, Some(violated), 1);
    let trace = report.violation.map(|(_, trace)| trace);
    println!(
        "without {safeguard:?}, {violated}:\n{}",
        trace.as_deref().unwrap_or("holds")
    );
    assert!(
        trace.is_some(),
        "{safeguard:?} is not needed for {violated}"
    );
}

macro_rules! bites {
    ($($name:ident => $safeguard:ident,)*) => {$(
        #[test]
        #[cfg_attr(debug_assertions, ignore = "too slow unless optimised")]
        fn $name() {
            bites(Safeguard::$safeguard);
        }
    )*};
}

bites! {
    without_the_guard_two_create => Guard,
    without_the_second_bucket_two_create_across_an_edge => SecondBucket,
    without_the_clock_check_a_late_creator_overwrites => ClockCheck,
    with_unbounded_stalls_an_upserting_store_loses_a_lease => BoundedStall,
    without_read_back_a_lying_store_keeps_all_waiting => ReadBack,
    without_fencing_an_older_result_replaces_a_newer => Fencing,
    without_revocation_what_was_purged_comes_back => Revocation,
    without_the_skew_margin_two_hold_a_lease => SkewMargin,
    without_nonces_two_take_the_same_write_for_theirs => Nonce,
    when_renewals_may_shorten_a_lease_two_hold_one => RenewalGrows,
    when_a_purge_reports_what_it_could_not_do_it_is_not_done => PurgeReport,
}
