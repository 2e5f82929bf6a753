//! The cell protocol holds in every state that the quick explorations reach,
//! and does not hold without any of its measures.

use leeward_sim::model::explore::{Extent, configurations, explore, without};
use leeward_sim::model::settings::Safeguard;

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
