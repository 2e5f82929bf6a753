//! The suite's own client, run by a script of ours that prints its results.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, IsTerminal};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};

use super::score::{Kind, Raw, Test};
use super::suite::Suite;
use crate::build;
use crate::process::Beside;

/// The script, from the root of the workspace.
const SCRIPT: &str = "xtask/src/cache_tests/client.mjs";

/// Tests that run at once; each mostly waits for entries to become stale.
const AT_ONCE: usize = 100;

/// Tests that run at once when they run again: haste may be why they failed.
const AT_ONCE_AGAIN: usize = 10;

/// The longest that a run may take; what has not ended then counts as failed.
const LIMIT: Duration = Duration::from_secs(180);

/// Elsewhere than on a terminal, a line tells of so many more tests.
const LINE_EVERY: usize = 100;

/// Which tests to run, and how.
#[derive(Clone, Copy, Debug)]
pub(super) enum Which<'a> {
    /// All of them.
    All,
    /// These, once more, after they failed.
    Again(&'a [&'a str]),
    /// These, showing every exchange.
    Shown(&'a [&'a str]),
}

fn script(words: impl IntoIterator<Item = impl AsRef<std::ffi::OsStr>>) -> Result<Beside> {
    let mut node = Command::new("node");
    node.arg("--no-warnings")
        .arg(build::root().join(SCRIPT))
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    Beside::start(&mut node)
}

/// The script's lines, as the words in them; what the suite itself prints, is
/// shown.
fn lines(script: &mut Beside) -> Result<impl Iterator<Item = Vec<String>> + use<>> {
    let output = script.child().stdout.take().context("node has no output")?;
    let lines = BufReader::new(output).lines().map_while(Result::ok);
    Ok(lines.filter_map(|line| {
        let words: Vec<_> = line.split('\t').map(str::to_owned).collect();
        if matches!(
            words.first().map(String::as_str),
            Some("test" | "ended" | "passed" | "failed")
        ) {
            return Some(words);
        }
        println!("{line}");
        None
    }))
}

/// The tests that there are, but for those that are for browsers only.
///
/// Those that are for content delivery networks only stay, as they do when the
/// suite tests a reverse proxy.
///
/// # Errors
///
/// If the folder has none that can be read.
pub(super) fn list(folder: &Path) -> Result<Vec<Test>> {
    let mut script = script([folder.as_os_str(), "list".as_ref()])?;
    let mut tests = Vec::new();
    for words in lines(&mut script)? {
        if let [_, id, kind, depends_on] = words.as_slice() {
            tests.push(Test {
                id: id.clone(),
                kind: Kind::named(kind).with_context(|| format!("{id} is of kind {kind}"))?,
                depends_on: depends_on.split_whitespace().map(str::to_owned).collect(),
            });
        }
    }
    Ok(tests)
}

/// Runs tests against the cache at `url`.
///
/// # Errors
///
/// If the client cannot be started, or says nothing.
pub(super) fn run(suite: &Suite, url: &str, which: Which<'_>) -> Result<BTreeMap<String, Raw>> {
    let (ids, at_once, show) = match which {
        Which::All => (&[][..], AT_ONCE, false),
        Which::Again(ids) => (ids, AT_ONCE_AGAIN, false),
        Which::Shown(ids) => (ids, 1, true),
    };
    let total = match which {
        Which::All => suite.tests.len(),
        Which::Again(ids) | Which::Shown(ids) => ids.len(),
    };
    let (at_once, limit) = (at_once.to_string(), LIMIT.as_secs().to_string());
    let folder = suite.folder.to_string_lossy();
    let show_word = if show { "show" } else { "hide" };
    let words = [&*folder, "run", url, &at_once, &limit, show_word];
    let mut script = script(words.iter().chain(ids))?;
    let mut progress = Progress::start(total, !show);
    let mut results = BTreeMap::new();
    for words in lines(&mut script)? {
        let mut words = words.iter().map(String::as_str);
        match (words.next(), words.next()) {
            (Some("ended"), Some(number)) => progress.show(number.parse().unwrap_or(0)),
            (Some("passed"), Some(id)) => {
                results.insert(id.to_owned(), Ok(()));
            }
            (Some("failed"), Some(id)) => {
                let why = words.collect::<Vec<_>>().join(": ");
                results.insert(id.to_owned(), Err(why));
            }
            _ => {}
        }
    }
    drop(progress);
    ensure!(!results.is_empty(), "the suite's client told no results");
    Ok(results)
}

/// How many tests have ended, on standard error.
#[derive(Debug)]
struct Progress {
    total: usize,
    bar: Option<ProgressBar>,
    /// What the last line said.
    told: usize,
}

impl Progress {
    fn start(total: usize, wanted: bool) -> Self {
        let bar = (wanted && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::new(total as u64);
            // With a wrong template the bar is only plainer.
            if let Ok(style) = ProgressStyle::with_template("tests {bar:30.cyan/dim} {pos}/{len}") {
                bar.set_style(style.progress_chars("━━─"));
            }
            bar
        });
        Progress {
            total,
            bar,
            told: 0,
        }
    }

    fn show(&mut self, ended: usize) {
        match &self.bar {
            Some(bar) => bar.set_position(ended as u64),
            None if ended >= self.told + LINE_EVERY => {
                eprintln!("{ended} of {} tests have ended", self.total);
                self.told = ended;
            }
            None => {}
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
