//! Which path a client asks for next: of a few paths, the first ones most, or one that
//! nobody has asked for before.

use std::sync::Arc;

use crate::origin::PRIVATE_PATH;

/// A client that asks for cold paths asks for [`PRIVATE_PAGE`] once in this number of answers.
const PRIVATE_EVERY: u32 = 4;

/// The page under [`PRIVATE_PATH`], which no shared cache may store.
const PRIVATE_PAGE: &str = "account";

/// What all clients of a load ask for.
#[derive(Clone, Debug)]
pub(super) enum Pages {
    /// The same paths, the hottest first; at least one.
    Hot(Arc<[String]>),
    /// Each client asks for paths of its own, for each until it is answered, and in
    /// between for [`PRIVATE_PAGE`].
    Cold,
}

impl Pages {
    /// What the client with this number asks for.
    pub(super) fn of(&self, client: u32) -> Wishes {
        match self {
            Pages::Hot(paths) => Wishes::Hot {
                paths: Arc::clone(paths),
                choice: Choice::among(paths.len()),
            },
            Pages::Cold => Wishes::Cold {
                client,
                answered: 0,
            },
        }
    }
}

/// What one client asks for.
#[derive(Clone, Debug)]
pub(super) enum Wishes {
    Hot {
        paths: Arc<[String]>,
        choice: Choice,
    },
    Cold {
        client: u32,
        answered: u32,
    },
}

impl Wishes {
    /// The path of the next request; `draw` is uniform in 0..1.
    pub(super) fn next(&self, draw: f64) -> String {
        match self {
            Wishes::Hot { paths, choice } => paths
                .get(choice.pick(draw))
                .map_or_else(|| "/".to_owned(), String::clone),
            Wishes::Cold { client, answered } => {
                if client.wrapping_add(*answered).is_multiple_of(PRIVATE_EVERY) {
                    format!("{PRIVATE_PATH}{PRIVATE_PAGE}")
                } else {
                    format!("/api/orders/{client}-{answered}")
                }
            }
        }
    }

    /// The last request was answered.
    pub(super) fn answered(&mut self) {
        if let Wishes::Cold { answered, .. } = self {
            *answered += 1;
        }
    }
}

/// Paths by popularity: the n-th is asked for in proportion to 1/n (Zipf).
#[derive(Clone, Debug)]
pub(super) struct Choice {
    /// For each path the share of requests that go to it or one before it.
    cumulative: Vec<f64>,
}

impl Choice {
    /// A choice among `count` paths; at least one.
    pub(super) fn among(count: usize) -> Choice {
        let weights = (1..=count.max(1)).map(|n| 1.0 / n as f64);
        let total: f64 = weights.clone().sum();
        let cumulative = weights
            .scan(0.0, |sum, weight| {
                *sum += weight / total;
                Some(*sum)
            })
            .collect();
        Choice { cumulative }
    }

    /// The index of the path that `draw` falls on; `draw` is uniform in 0..1.
    pub(super) fn pick(&self, draw: f64) -> usize {
        self.cumulative
            .partition_point(|share| *share <= draw)
            .min(self.cumulative.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_the_hottest() {
        // Three paths: 6/11, 3/11 and 2/11.
        let choice = Choice::among(3);
        let cases = [
            (0.0, 0),
            (0.54, 0),
            (0.55, 1),
            (0.81, 1),
            (0.82, 2),
            (0.999, 2),
            (1.0, 2),
        ];
        for (draw, index) in cases {
            assert_eq!(choice.pick(draw), index, "{draw}");
        }
    }

    #[test]
    fn cold_paths_are_asked_for_until_they_are_answered_and_never_again() {
        let (mut one, mut two) = (Pages::Cold.of(0), Pages::Cold.of(1));
        let mut paths = Vec::new();
        for _ in 0..8 {
            for wishes in [&mut one, &mut two] {
                paths.push(wishes.next(0.1));
                assert_eq!(wishes.next(0.9), paths[paths.len() - 1], "not answered yet");
                wishes.answered();
            }
        }
        paths.sort();
        let private = paths
            .iter()
            .filter(|path| path.starts_with(PRIVATE_PATH))
            .count();
        assert_eq!(private, 4, "{paths:?}");
        paths.dedup();
        assert_eq!(paths.len(), 16 - private + 1, "{paths:?}");
    }

    #[test]
    fn one_path_is_always_picked() {
        for count in [0, 1] {
            let choice = Choice::among(count);
            assert_eq!([0.0, 0.5, 1.0].map(|draw| choice.pick(draw)), [0, 0, 0]);
        }
    }
}
