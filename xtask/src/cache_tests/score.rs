//! What the tests' results come to.
//!
//! A test counts only if everything that it depends on passed too: it would
//! otherwise pass for a reason that is not its own, such as a cache that stores
//! nothing.

use std::collections::BTreeMap;
use std::fmt;

/// What a test is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// What the specifications demand.
    Required,
    /// What a good cache does besides.
    Optimal,
    /// A question about behaviour, with no right answer.
    Check,
}

impl Kind {
    /// All of them.
    pub(super) const ALL: [Kind; 3] = [Kind::Required, Kind::Optimal, Kind::Check];

    /// The kind of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Its name, in the suite and in the lists.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Kind::Required => "required",
            Kind::Optimal => "optimal",
            Kind::Check => "check",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A test of the suite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Test {
    pub(super) id: String,
    pub(super) kind: Kind,
    /// The tests without which it means nothing.
    pub(super) depends_on: Vec<String>,
}

/// How a test ended by itself: passed, or why not.
pub(super) type Raw = Result<(), String>;

/// The suite's tests, and how each of them ended.
#[derive(Debug)]
pub(super) struct Score<'a> {
    tests: &'a [Test],
    by_id: BTreeMap<&'a str, &'a Test>,
    results: BTreeMap<String, Raw>,
}

impl<'a> Score<'a> {
    /// The score of these results.
    pub(super) fn new(tests: &'a [Test], results: BTreeMap<String, Raw>) -> Self {
        Score {
            tests,
            by_id: tests.iter().map(|test| (test.id.as_str(), test)).collect(),
            results,
        }
    }

    /// Takes the results of tests that ran again: passing once is passing.
    pub(super) fn ran_again(&mut self, results: BTreeMap<String, Raw>) {
        for (id, raw) in results {
            if raw.is_ok() {
                self.results.insert(id, raw);
            }
        }
    }

    /// How a test ended with what it depends on taken into account.
    pub(super) fn outcome(&self, test: &Test) -> Raw {
        self.raw(&test.id)?;
        match self.failing_below(test, &mut Vec::new()) {
            Some(id) => Err(format!("it depends on {id}, which failed")),
            None => Ok(()),
        }
    }

    /// The tests of a kind that passed.
    pub(super) fn passed(&self, kind: Kind) -> usize {
        let of_kind = self.tests.iter().filter(|test| test.kind == kind);
        of_kind.filter(|test| self.outcome(test).is_ok()).count()
    }

    /// The tests of a kind.
    pub(super) fn total(&self, kind: Kind) -> usize {
        self.tests.iter().filter(|test| test.kind == kind).count()
    }

    /// The tests that ought to pass and did not, with the reason, the required
    /// ones first.
    pub(super) fn failing(&self) -> Vec<(&'a Test, String)> {
        let mut failing: Vec<_> = self
            .tests
            .iter()
            .filter(|test| test.kind != Kind::Check)
            .filter_map(|test| Some((test, self.outcome(test).err()?)))
            .collect();
        failing.sort_by_key(|(test, _)| test.kind);
        failing
    }

    /// What keeps these tests from counting and may do so by chance: they
    /// themselves, and what they depend on, as far as it failed.
    pub(super) fn culprits(&self, tests: &[&'a Test]) -> Vec<&'a str> {
        let mut seen: Vec<&str> = Vec::new();
        let mut open: Vec<&'a Test> = tests.to_vec();
        while let Some(test) = open.pop() {
            if !seen.contains(&test.id.as_str()) {
                seen.push(&test.id);
                open.extend(self.below(test));
            }
        }
        seen.retain(|id| self.raw(id).is_err());
        seen
    }

    fn raw(&self, id: &str) -> Raw {
        self.results
            .get(id)
            .cloned()
            .unwrap_or_else(|| Err("it did not end in time".to_owned()))
    }

    fn below(&self, test: &'a Test) -> impl Iterator<Item = &'a Test> {
        let below = test.depends_on.iter();
        below.filter_map(|id| self.by_id.get(id.as_str()).copied())
    }

    /// The first failed test among those that this one depends on, at any depth.
    fn failing_below<'b>(&'b self, test: &'b Test, seen: &mut Vec<&'b str>) -> Option<&'b str> {
        for id in &test.depends_on {
            if seen.contains(&id.as_str()) {
                continue;
            }
            seen.push(id);
            if self.raw(id).is_err() {
                return Some(id);
            }
            let below = self.by_id.get(id.as_str());
            if let Some(failed) = below.and_then(|test| self.failing_below(test, seen)) {
                return Some(failed);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(id: &str, kind: Kind, depends_on: &[&str]) -> Test {
        Test {
            id: id.to_owned(),
            kind,
            depends_on: depends_on.iter().map(|&id| id.to_owned()).collect(),
        }
    }

    fn results(results: &[(&str, bool)]) -> BTreeMap<String, Raw> {
        let result = |passed| if passed { Ok(()) } else { Err("no".to_owned()) };
        let results = results.iter();
        results
            .map(|&(id, passed)| (id.to_owned(), result(passed)))
            .collect()
    }

    fn suite() -> Vec<Test> {
        vec![
            test("base", Kind::Check, &[]),
            test("middle", Kind::Optimal, &["base"]),
            test("top", Kind::Required, &["middle"]),
            test("alone", Kind::Required, &[]),
            test("circle", Kind::Optimal, &["circle"]),
            test("lost", Kind::Optimal, &["nowhere"]),
        ]
    }

    fn failing<'a>(score: &Score<'a>) -> Vec<&'a str> {
        let failing = score.failing().into_iter();
        failing.map(|(test, _)| test.id.as_str()).collect()
    }

    #[test]
    fn a_test_counts_only_if_all_below_it_passed() {
        let suite = suite();
        let all = [
            ("base", false),
            ("middle", true),
            ("top", true),
            ("alone", true),
            ("circle", true),
            ("lost", true),
        ];
        let mut score = Score::new(&suite, results(&all));
        assert_eq!(failing(&score), ["top", "middle", "lost"]);
        assert_eq!(
            score.outcome(&suite[2]),
            Err("it depends on base, which failed".to_owned())
        );
        assert_eq!(
            (score.passed(Kind::Required), score.total(Kind::Required)),
            (1, 2)
        );
        assert_eq!(
            (score.passed(Kind::Check), score.total(Kind::Check)),
            (0, 1)
        );

        score.ran_again(results(&[("base", true), ("alone", false)]));
        assert_eq!(failing(&score), ["lost"], "passing once is passing");
    }

    #[test]
    fn what_may_have_failed_by_chance_runs_again() {
        let suite = suite();
        let score = Score::new(&suite, results(&[("middle", true), ("top", true)]));
        assert_eq!(score.culprits(&[&suite[2]]), ["base"]);
        assert_eq!(score.culprits(&[&suite[3]]), ["alone"]);
    }
}
