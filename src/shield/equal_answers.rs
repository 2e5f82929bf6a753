//! Notices private answers that are the same for all visitors.
//!
//! Many systems say `private` on each page, also on those that show nothing of their visitor.
//! An instance compares what it forwards to visitors with different cookies or credentials.
//! What is compared is bounded: for each path the first few answers, until two differ.

use std::hash::{DefaultHasher, Hash, Hasher};

/// To how many visitors an answer was the same before the operator is told.
const VISITORS_MIN: usize = 5;

/// Most paths that are compared at once.
const WATCHED_MAX: usize = 64;

/// Longest body that is compared, in bytes.
pub(super) const BODY_MAX: usize = 256 << 10;

/// The answers of an instance.
#[derive(Debug, Default)]
pub(super) struct EqualAnswers {
    /// At most [`WATCHED_MAX`], each where its hash says.
    watched: Vec<Watched>,
}

#[derive(Clone, Debug, Default)]
struct Watched {
    target: u64,
    /// The hash of the body; none before the first.
    body: Option<u64>,
    /// Those who got it, at most [`VISITORS_MIN`].
    visitors: Vec<u64>,
    /// Two answers differed, or the operator was told.
    is_settled: bool,
    /// How many answers with other targets it outlasts.
    credit: usize,
}

/// An answer on its way to a visitor, to be compared when all of it has come.
#[derive(Debug)]
pub(super) struct Comparison {
    target: u64,
    visitor: u64,
    body: DefaultHasher,
    length: usize,
}

impl Comparison {
    /// The comparison with another piece of the body; none if the body is too long.
    pub(super) fn and(mut self, piece: &[u8]) -> Option<Self> {
        self.body.write(piece);
        self.length = self.length.saturating_add(piece.len());
        (self.length <= BODY_MAX).then_some(self)
    }
}

impl EqualAnswers {
    /// Begins to compare an answer for `target`, host, path and query, to the visitor with
    /// these credentials; none where it is known what there is to know.
    pub(super) fn begin(&mut self, target: impl Hash, visitor: impl Hash) -> Option<Comparison> {
        if self.watched.is_empty() {
            self.watched.resize(WATCHED_MAX, Watched::default());
        }
        let (target, visitor) = (hash(target), hash(visitor));
        let watched = self.slot(target)?;
        if watched.target != target {
            if watched.credit > 0 {
                watched.credit -= 1;
                return None;
            }
            *watched = Watched {
                target,
                ..Watched::default()
            };
        }
        watched.credit = watched.visitors.len();
        let is_known = watched.is_settled || watched.visitors.contains(&visitor);
        (!is_known).then(|| Comparison {
            target,
            visitor,
            body: DefaultHasher::new(),
            length: 0,
        })
    }

    /// Notes an answer all of which has come. Returns to how many visitors it was the same,
    /// if the operator is to be told.
    pub(super) fn end(&mut self, comparison: Comparison) -> Option<usize> {
        let body = comparison.body.finish();
        let watched = self.slot(comparison.target)?;
        if watched.target != comparison.target || watched.is_settled {
            return None;
        }
        if *watched.body.get_or_insert(body) != body {
            watched.is_settled = true;
            return None;
        }
        if !watched.visitors.contains(&comparison.visitor) {
            watched.visitors.push(comparison.visitor);
        }
        let visitors = watched.visitors.len();
        if visitors < VISITORS_MIN {
            return None;
        }
        watched.is_settled = true;
        Some(visitors)
    }

    fn slot(&mut self, target: u64) -> Option<&mut Watched> {
        let index = usize::try_from(target % WATCHED_MAX as u64).unwrap_or(0);
        self.watched.get_mut(index)
    }
}

fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sees(answers: &mut EqualAnswers, target: &str, visitor: u32, body: &str) -> Option<usize> {
        let comparison = answers.begin(target, visitor)?;
        answers.end(comparison.and(body.as_bytes())?)
    }

    #[test]
    fn five_visitors_with_the_same_private_answer_are_told_of_once() {
        let mut answers = EqualAnswers::default();
        for visitor in 0..4 {
            assert_eq!(sees(&mut answers, "/a", visitor, "page"), None);
            assert_eq!(sees(&mut answers, "/a", visitor, "page"), None, "again");
        }
        assert_eq!(sees(&mut answers, "/a", 4, "page"), Some(5));
        assert_eq!(sees(&mut answers, "/a", 5, "page"), None);
    }

    #[test]
    fn one_answer_that_differs_ends_it() {
        let mut answers = EqualAnswers::default();
        for visitor in 0..4 {
            sees(&mut answers, "/a", visitor, "page");
        }
        assert_eq!(sees(&mut answers, "/a", 4, "page of 4"), None);
        for visitor in 5..50 {
            assert_eq!(sees(&mut answers, "/a", visitor, "page"), None);
        }
    }

    #[test]
    fn what_is_compared_is_bounded_and_a_flood_of_paths_hides_no_busy_one() {
        let mut answers = EqualAnswers::default();
        let mut told = None;
        for visitor in 0..50 {
            told = told.or(sees(&mut answers, "/busy", visitor, "page"));
            for other in 0..WATCHED_MAX / 2 {
                sees(&mut answers, &format!("/{visitor}/{other}"), 0, "other");
            }
        }
        assert_eq!(told, Some(VISITORS_MIN));
        assert_eq!(answers.watched.len(), WATCHED_MAX);
        let piece = vec![0; BODY_MAX];
        let long = EqualAnswers::default().begin("/long", 1);
        let long = long.and_then(|comparison| comparison.and(&piece));
        assert!(long.is_some_and(|comparison| comparison.and(&piece).is_none()));
    }
}
