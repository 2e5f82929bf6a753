//! The committed lists: which tests are expected to fail, and why.
//!
//! One plain file per preset. Its lines are words with white space between;
//! `#` begins a line of comment.
//!
//! | line | meaning |
//! | --- | --- |
//! | `total KIND NUMBER` | so many tests of the kind apply |
//! | `yes NODES NUMBER` | so many checks were answered with yes, with so many nodes |
//! | `ID KIND NODES REASON…` | fails with so many nodes (`1`, `4` or `1,4`), and why |
//!
//! A reason that begins with `by chance:` is somebody's word that the test also
//! passes now and then. It counts as failing, and only a hand takes it off.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use super::Preset;
use super::score::{Kind, Raw, Score, Test};
use super::suite::VERSION;
use crate::build;

/// The numbers of nodes that there are lists for.
pub(super) const NODES: [usize; 2] = [1, 4];

/// A test that is expected to fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failing {
    pub(super) kind: Kind,
    /// With how many nodes.
    pub(super) nodes: BTreeSet<usize>,
    pub(super) reason: String,
}

impl Failing {
    /// Whether it also passes now and then.
    fn by_chance(&self) -> bool {
        self.reason.starts_with("by chance:")
    }
}

/// What is expected of a preset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct List {
    /// How many tests of each kind apply.
    pub(super) totals: BTreeMap<Kind, usize>,
    /// How many checks were answered with yes, by the number of nodes.
    pub(super) yes: BTreeMap<usize, usize>,
    pub(super) failing: BTreeMap<String, Failing>,
}

/// What differs from what is expected.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference<'a> {
    /// Expected to pass, and failed, with the reason.
    pub(super) lost: Vec<(&'a Test, String)>,
    /// Expected to fail, and passed.
    pub(super) won: Vec<&'a Test>,
    /// Expected to fail, and not among the tests.
    pub(super) unknown: Vec<String>,
}

/// Which list is about so many nodes: any number of them is to do as well as the
/// one that was written down.
pub(super) const fn listed(nodes: usize) -> usize {
    let [one, several] = NODES;
    if nodes == one { one } else { several }
}

impl List {
    /// The list of a preset.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub(super) fn read(preset: Preset) -> Result<Self> {
        let path = path(preset);
        if !path.exists() {
            return Ok(List::default());
        }
        fs::read_to_string(&path)
            .map_err(Into::into)
            .and_then(|text| Self::parse(&text))
            .with_context(|| format!("cannot read {}", path.display()))
    }

    /// Writes the list of a preset.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub(super) fn write(&self, preset: Preset) -> Result<()> {
        let path = path(preset);
        let text = format!(
            "# The public cache tests, http-cache-tests {VERSION}, with preset {preset}: what fails, and why.\n\
             # `cargo xtask cache-tests --preset {preset} --write` writes this anew. It keeps the reasons;\n\
             # those of tests that are new here are what the suite says, to be replaced.\n\n{self}"
        );
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Reads a list.
    ///
    /// # Errors
    ///
    /// If a line is none of the three kinds.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut list = List::default();
        for line in text.lines() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            list.line(line).with_context(|| format!("`{line}`"))?;
        }
        Ok(list)
    }

    fn line(&mut self, line: &str) -> Result<()> {
        let mut words = line.split_whitespace();
        let (Some(first), Some(second), Some(third)) = (words.next(), words.next(), words.next())
        else {
            bail!("three words are the least");
        };
        let kind = |name| Kind::named(name).with_context(|| format!("{name} is no kind of test"));
        match first {
            "total" => {
                self.totals.insert(kind(second)?, third.parse()?);
            }
            "yes" => {
                self.yes.insert(second.parse()?, third.parse()?);
            }
            id => {
                let nodes = third.split(',').map(str::parse).collect::<Result<_, _>>()?;
                let failing = Failing {
                    kind: kind(second)?,
                    nodes,
                    reason: words.collect::<Vec<_>>().join(" "),
                };
                if self.failing.insert(id.to_owned(), failing).is_some() {
                    bail!("{id} is there twice");
                }
            }
        }
        Ok(())
    }

    /// How many tests of a kind are expected to pass.
    pub(super) fn passing(&self, kind: Kind, nodes: usize) -> usize {
        let total = self.totals.get(&kind).copied().unwrap_or(0);
        let failing = self.failing.values();
        total
            - failing
                .filter(|failing| failing.kind == kind && failing.nodes.contains(&nodes))
                .count()
                .min(total)
    }

    /// Whether a test is expected to fail with so many nodes.
    pub(super) fn expects_failure(&self, id: &str, nodes: usize) -> bool {
        self.failing
            .get(id)
            .is_some_and(|failing| failing.nodes.contains(&listed(nodes)))
    }

    fn by_chance(&self, id: &str) -> bool {
        self.failing.get(id).is_some_and(Failing::by_chance)
    }

    /// What a score has otherwise than expected.
    pub(super) fn compare<'a>(
        &self,
        tests: &'a [Test],
        score: &Score<'a>,
        nodes: usize,
    ) -> Difference<'a> {
        let mut difference = Difference::default();
        for test in tests.iter().filter(|test| test.kind != Kind::Check) {
            match (score.outcome(test), self.expects_failure(&test.id, nodes)) {
                (Err(why), false) => difference.lost.push((test, why)),
                (Ok(()), true) if !self.by_chance(&test.id) => difference.won.push(test),
                (Ok(()), _) | (Err(_), true) => {}
            }
        }
        let known: BTreeSet<_> = tests.iter().map(|test| test.id.as_str()).collect();
        let listed = self.failing.keys();
        difference.unknown = listed
            .filter(|id| !known.contains(id.as_str()))
            .cloned()
            .collect();
        difference
    }

    /// Takes a score for what is expected with so many nodes. Reasons stay; those
    /// that are new come from `other`, or are the suite's own words.
    pub(super) fn learn(&mut self, tests: &[Test], score: &Score<'_>, nodes: usize, other: &List) {
        for kind in Kind::ALL {
            self.totals.insert(kind, score.total(kind));
        }
        self.yes.insert(nodes, score.passed(Kind::Check));
        for failing in self.failing.values_mut() {
            if !failing.by_chance() {
                failing.nodes.remove(&nodes);
            }
        }
        let failing = |test: &Test| -> Option<String> {
            let outcome: Raw = score.outcome(test);
            (test.kind != Kind::Check).then_some(outcome)?.err()
        };
        for test in tests {
            if let Some(why) = failing(test) {
                let entry = self.failing.entry(test.id.clone());
                let reason = other.failing.get(&test.id).map(|other| &other.reason);
                let new = || Failing {
                    kind: test.kind,
                    nodes: BTreeSet::new(),
                    reason: reason.cloned().unwrap_or(why),
                };
                entry.or_insert_with(new).nodes.insert(nodes);
            }
        }
        self.failing.retain(|_, failing| !failing.nodes.is_empty());
    }
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, number) in &self.totals {
            writeln!(f, "total {kind} {number}")?;
        }
        for (nodes, number) in &self.yes {
            writeln!(f, "yes {nodes} {number}")?;
        }
        let width = self.failing.keys().map(String::len).max().unwrap_or(0);
        for kind in Kind::ALL {
            f.write_char('\n')?;
            for (id, failing) in self.failing.iter().filter(|(_, one)| one.kind == kind) {
                let nodes = numbers(&failing.nodes);
                writeln!(f, "{id:width$} {kind} {nodes:<3} {}", failing.reason)?;
            }
        }
        Ok(())
    }
}

/// Numbers, with commas between.
pub(super) fn numbers(numbers: &BTreeSet<usize>) -> String {
    let numbers: Vec<_> = numbers.iter().map(usize::to_string).collect();
    numbers.join(",")
}

fn path(preset: Preset) -> PathBuf {
    build::root().join(format!("tests/conformance/{preset}.txt"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suite() -> Vec<Test> {
        [
            ("a", Kind::Required),
            ("b", Kind::Required),
            ("c", Kind::Optimal),
            ("d", Kind::Check),
        ]
        .map(|(id, kind)| Test {
            id: id.to_owned(),
            kind,
            depends_on: Vec::new(),
        })
        .to_vec()
    }

    fn score<'a>(suite: &'a [Test], passed: &[&str]) -> Score<'a> {
        let result = |test: &Test| {
            let passed = passed.contains(&test.id.as_str());
            let raw = if passed { Ok(()) } else { Err("no".to_owned()) };
            (test.id.clone(), raw)
        };
        Score::new(suite, suite.iter().map(result).collect())
    }

    #[test]
    fn what_is_written_is_read() -> Result<()> {
        let suite = suite();
        let mut list = List::default();
        let none = List::default();
        list.learn(&suite, &score(&suite, &["a", "d"]), 1, &none);
        list.learn(&suite, &score(&suite, &["a", "c"]), 4, &none);
        assert_eq!(
            list.to_string().trim_end(),
            "total required 2\ntotal optimal 1\ntotal check 1\nyes 1 1\nyes 4 0\n\n\
             b required 1,4 no\n\nc optimal 1   no"
        );
        assert_eq!(List::parse(&list.to_string())?, list);
        assert_eq!(list.passing(Kind::Required, 1), 1);
        assert_eq!(list.passing(Kind::Optimal, 1), 0);
        assert_eq!(list.passing(Kind::Optimal, 4), 1);
        Ok(())
    }

    #[test]
    fn reasons_stay_and_tests_that_pass_go() -> Result<()> {
        let suite = suite();
        let mut list = List::parse("a required 1 because\nb required 1,4 for this\n")?;
        let other = List::parse("c optimal 1 as they say")?;
        list.learn(&suite, &score(&suite, &["a"]), 1, &other);
        assert_eq!(list.failing.len(), 2);
        assert_eq!(list.failing["b"].reason, "for this");
        assert_eq!(list.failing["c"].reason, "as they say");
        list.learn(&suite, &score(&suite, &["a", "b", "c"]), 1, &other);
        assert_eq!(numbers(&list.failing["b"].nodes), "4");
        Ok(())
    }

    #[test]
    fn what_passes_by_chance_counts_as_failing() -> Result<()> {
        let suite = suite();
        let mut list = List::parse("a required 1 by chance: x\nb required 1 y\nc optimal 1 z")?;
        let passed = score(&suite, &["a", "b"]);
        let difference = list.compare(&suite, &passed, 1);
        assert_eq!(difference.won, [&suite[1]]);
        list.learn(&suite, &passed, 1, &List::default());
        let failing: Vec<_> = list.failing.keys().collect();
        assert_eq!(failing, ["a", "c"]);
        assert_eq!(list.passing(Kind::Required, 1), 1);
        Ok(())
    }

    #[test]
    fn what_passed_and_fails_is_lost() -> Result<()> {
        let suite = suite();
        let list = List::parse("b required 1,4 x\nc optimal 4 x\nz optimal 1 x")?;
        let expected = list.compare(&suite, &score(&suite, &["a", "c"]), 1);
        assert_eq!(
            expected,
            Difference {
                unknown: vec!["z".to_owned()],
                ..Difference::default()
            }
        );
        let difference = list.compare(&suite, &score(&suite, &["b"]), 7);
        assert_eq!(difference.lost, [(&suite[0], "no".to_owned())]);
        assert_eq!(difference.won, [&suite[1]]);
        Ok(())
    }

    #[test]
    fn a_line_that_means_nothing_is_refused() {
        for line in [
            "total",
            "total nothing 1",
            "yes one 1",
            "a required 1 x\na required 1 x",
            "a required four x",
        ] {
            assert!(List::parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn the_committed_lists_are_read() -> Result<()> {
        for preset in Preset::ALL {
            let list = List::read(preset)?;
            for (id, failing) in &list.failing {
                assert!(!failing.reason.is_empty(), "{preset}: {id} has no reason");
            }
        }
        Ok(())
    }
}
