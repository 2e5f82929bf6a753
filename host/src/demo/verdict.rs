//! Whether the shield held.

use indicatif::HumanCount;

use super::figures::Figures;

/// Why it did not hold under hot keys, one sentence each; none if it held: every
/// visitor was answered, the origin never crashed, and it never saw two requests for
/// one key at the same time.
pub(super) fn faults(shielded: &Figures) -> Vec<String> {
    let mut faults = faults_of_both(shielded);
    if shielded.refused > 0 {
        faults.push(format!(
            "{} of {} requests were refused.",
            HumanCount(shielded.refused),
            HumanCount(shielded.requests)
        ));
    }
    if shielded.key_in_flight_max > 1 {
        faults.push(format!(
            "{} requests for one key were at the origin at once.",
            shielded.key_in_flight_max
        ));
    }
    faults
}

/// Why it did not hold under cold keys, one sentence each; none if it held: the origin
/// never crashed and never saw more than `budget` requests at once, some visitors were
/// answered, and all others were told when to come back.
pub(super) fn cold_faults(shielded: &Figures, budget: u32) -> Vec<String> {
    let mut faults = faults_of_both(shielded);
    if shielded.refused > 0 && shielded.refused == shielded.requests {
        faults.push("All requests were refused.".to_owned());
    }
    if shielded.origin_in_flight_max > u64::from(budget) {
        faults.push(format!(
            "{} requests were at the origin at once, with a budget of {budget}.",
            shielded.origin_in_flight_max
        ));
    }
    faults
        .iter()
        .map(|fault| format!("Cold keys: {fault}"))
        .collect()
}

/// Why it did not hold when everything was purged, one sentence each; none if it held: every
/// visitor was answered, and the origin was asked again, within its budget.
pub(super) fn purge_faults(after: &Figures, budget: u32) -> Vec<String> {
    let mut faults = faults(after);
    if after.origin_in_flight_max > u64::from(budget) {
        faults.push(format!(
            "{} requests were at the origin at once, with a budget of {budget}.",
            after.origin_in_flight_max
        ));
    }
    if after.origin_requests == 0 {
        faults.push("No page was fetched again, so nothing was purged.".to_owned());
    }
    faults
        .iter()
        .map(|fault| format!("Everything purged: {fault}"))
        .collect()
}

fn faults_of_both(shielded: &Figures) -> Vec<String> {
    let mut faults = Vec::new();
    if shielded.requests == 0 {
        faults.push("No request was made, so nothing is known.".to_owned());
    }
    let errors = &shielded.errors;
    if errors.total() > 0 {
        let kinds = [
            (errors.connection, "failed connections"),
            (errors.timeout, "not answered in time"),
            (errors.status, "answered with an error"),
            (errors.content, "answered with the content of another path"),
        ];
        let kinds: Vec<String> = kinds
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, kind)| format!("{kind}: {}", HumanCount(*count)))
            .collect();
        faults.push(format!(
            "{} of {} requests failed ({}).",
            HumanCount(errors.total()),
            HumanCount(shielded.requests),
            kinds.join(", ")
        ));
    }
    if shielded.crashes > 0 {
        let times = if shielded.crashes == 1 {
            "once".to_owned()
        } else {
            format!("{} times", shielded.crashes)
        };
        faults.push(format!(
            "The origin crashed {times}, with up to {} requests in it at once.",
            shielded.origin_in_flight_max
        ));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::tally::Errors;

    fn good() -> Figures {
        Figures {
            requests: 50_000,
            answered: 50_000,
            errors: Errors::default(),
            refused: 0,
            median_ms: Some(2.0),
            p99_ms: Some(9.0),
            origin_requests: 60,
            origin_in_flight_max: 6,
            key_in_flight_max: 1,
            crashes: 0,
            offloaded: Some(0.9988),
        }
    }

    #[test]
    fn a_shield_that_held_has_no_faults() {
        assert_eq!(faults(&good()), Vec::<String>::new());
        assert_eq!(
            faults(&Figures {
                key_in_flight_max: 0,
                ..good()
            }),
            Vec::<String>::new()
        );
    }

    #[test]
    fn every_fault_has_its_sentence() {
        let cases = [
            (
                Figures {
                    requests: 0,
                    ..good()
                },
                "No request was made",
            ),
            (
                Figures {
                    errors: Errors {
                        connection: 1,
                        timeout: 2,
                        status: 0,
                        content: 0,
                    },
                    ..good()
                },
                "3 of 50,000 requests failed (failed connections: 1, not answered in time: 2).",
            ),
            (
                Figures {
                    errors: Errors {
                        status: 1,
                        ..Errors::default()
                    },
                    ..good()
                },
                "answered with an error: 1",
            ),
            (
                Figures {
                    errors: Errors {
                        content: 1,
                        ..Errors::default()
                    },
                    ..good()
                },
                "another path: 1",
            ),
            (
                Figures {
                    crashes: 1,
                    origin_in_flight_max: 9,
                    ..good()
                },
                "crashed once, with up to 9 requests",
            ),
            (
                Figures {
                    crashes: 2,
                    ..good()
                },
                "crashed 2 times",
            ),
            (
                Figures {
                    key_in_flight_max: 2,
                    ..good()
                },
                "2 requests for one key",
            ),
            (
                Figures {
                    refused: 7,
                    ..good()
                },
                "7 of 50,000 requests were refused.",
            ),
        ];
        for (figures, sentence) in cases {
            let faults = faults(&figures);
            assert_eq!(faults.len(), 1, "{faults:?}");
            assert!(
                faults[0].contains(sentence),
                "{faults:?} lacks {sentence:?}"
            );
        }
    }

    #[test]
    fn when_everything_is_purged_pages_are_fetched_again_within_the_budget() {
        assert_eq!(purge_faults(&good(), 6), Vec::<String>::new());
        let untouched = Figures {
            origin_requests: 0,
            ..good()
        };
        let refused = Figures {
            refused: 1,
            ..good()
        };
        for (figures, budget, sentence) in [
            (&good(), 5, "with a budget of 5"),
            (&untouched, 6, "nothing was purged"),
            (&refused, 6, "1 of 50,000 requests were refused."),
        ] {
            let faults = purge_faults(figures, budget);
            assert_eq!(faults.len(), 1, "{faults:?}");
            assert!(faults[0].starts_with("Everything purged: "), "{faults:?}");
            assert!(faults[0].contains(sentence), "{faults:?}");
        }
    }

    #[test]
    fn with_cold_keys_a_refusal_is_no_fault_and_the_budget_is_kept() {
        let cold = Figures {
            refused: 49_999,
            origin_in_flight_max: 8,
            key_in_flight_max: 8,
            ..good()
        };
        assert_eq!(cold_faults(&cold, 8), Vec::<String>::new());
        let error = Errors {
            status: 1,
            ..Errors::default()
        };
        let cases = [
            (
                Figures {
                    requests: 0,
                    refused: 0,
                    ..cold.clone()
                },
                "No request was made",
            ),
            (
                Figures {
                    requests: 49_999,
                    ..cold.clone()
                },
                "All requests were refused.",
            ),
            (
                Figures {
                    errors: error,
                    ..cold.clone()
                },
                "1 of 50,000 requests failed (answered with an error: 1).",
            ),
            (
                Figures {
                    origin_in_flight_max: 9,
                    ..cold.clone()
                },
                "9 requests were at the origin at once, with a budget of 8.",
            ),
            (
                Figures {
                    crashes: 1,
                    ..cold.clone()
                },
                "crashed once, with up to 8 requests",
            ),
        ];
        for (figures, sentence) in cases {
            let faults = cold_faults(&figures, 8);
            assert_eq!(faults.len(), 1, "{faults:?}");
            assert!(
                faults[0].starts_with("Cold keys: ") && faults[0].contains(sentence),
                "{faults:?} lacks {sentence:?}"
            );
        }
    }

    #[test]
    fn all_faults_are_told() {
        let figures = Figures {
            errors: Errors {
                timeout: 1,
                ..Errors::default()
            },
            crashes: 1,
            key_in_flight_max: 3,
            ..good()
        };
        assert_eq!(faults(&figures).len(), 3);
    }
}
