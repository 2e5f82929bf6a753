//! Makes a failing scenario smaller: leaves out faults, purges, visits
//! and what they bring while it still breaks the same promise.

use crate::scenario::Scenario;
use crate::world::play;

/// Most plays for one shrinking.
const PLAYS_MAX: usize = 1_500;

/// The smallest scenario found that still breaks `promise`.
pub(crate) fn shrink(scenario: &Scenario, promise: &str, ignored: &[String]) -> Scenario {
    let mut best = scenario.clone();
    let mut plays = 0;
    let fails = |candidate: &Scenario, plays: &mut usize| {
        *plays += 1;
        play(candidate, false, ignored).is_ok_and(|report| {
            report
                .violation
                .is_some_and(|violation| violation.promise == promise)
        })
    };
    loop {
        let size = |of: &Scenario| {
            let brought = of.visits.iter().map(|visit| visit.brings.size());
            (
                of.faults.len(),
                of.purges.len(),
                of.visits.len(),
                brought.sum::<usize>(),
            )
        };
        let before = size(&best);
        let mut fault = 0;
        while fault < best.faults.len() && plays < PLAYS_MAX {
            let mut candidate = best.clone();
            candidate.faults.remove(fault);
            if fails(&candidate, &mut plays) {
                best = candidate;
            } else {
                fault += 1;
            }
        }
        let mut purge = 0;
        while purge < best.purges.len() && plays < PLAYS_MAX {
            let mut candidate = best.clone();
            candidate.purges.remove(purge);
            if fails(&candidate, &mut plays) {
                best = candidate;
            } else {
                purge += 1;
            }
        }
        let mut chunk = best.visits.len().div_ceil(2).max(1);
        loop {
            let mut at = 0;
            while at < best.visits.len() && plays < PLAYS_MAX {
                let mut candidate = best.clone();
                let to = (at + chunk).min(candidate.visits.len());
                candidate.visits.drain(at..to);
                if fails(&candidate, &mut plays) {
                    best = candidate;
                } else {
                    at += chunk;
                }
            }
            if chunk == 1 || plays >= PLAYS_MAX {
                break;
            }
            chunk = chunk.div_ceil(2);
        }
        for visit in 0..best.visits.len() {
            let mut part = 0;
            while plays < PLAYS_MAX {
                let mut candidate = best.clone();
                let Some(brings) = candidate
                    .visits
                    .get_mut(visit)
                    .map(|visit| &mut visit.brings)
                else {
                    break;
                };
                if !brings.leave_out(part) {
                    break;
                }
                if fails(&candidate, &mut plays) {
                    best = candidate;
                } else {
                    part += 1;
                }
            }
        }
        if plays >= PLAYS_MAX || before == size(&best) {
            return best;
        }
    }
}
