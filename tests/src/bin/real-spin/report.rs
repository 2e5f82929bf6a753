//! What was seen: a line for each scenario as it ends, a table of all, and the same cells
//! in the tables of documents.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use leeward_tests::spin::Platform;

use crate::scenario::{ALL, Scenario, Seen};

/// The line between the marks that says on which Spin.
const SPIN: &str = "Seen last on `";

/// Stands for a bar within a cell while a line is split.
const ESCAPED: &str = "\u{1}";

/// Around the tables that are made from what was seen.
const MARKS: [&str; 2] = ["<!-- seen on Spin -->\n", "<!-- /seen on Spin -->\n"];

/// What was seen, by scenario and platform.
#[derive(Debug)]
pub(crate) struct Report {
    spin: String,
    cells: BTreeMap<(String, String), Seen>,
}

impl Report {
    /// Nothing was seen on this Spin so far.
    pub(crate) fn on(spin: &str) -> Self {
        Report {
            spin: spin.to_owned(),
            cells: BTreeMap::new(),
        }
    }

    /// Adds what was seen, and tells it.
    pub(crate) fn add(&mut self, platform: Platform, scenario: &Scenario, seen: Seen) {
        let word = if seen.holds { "ok  " } else { "FAIL" };
        eprintln!("{word} {}: {}", scenario.asked, seen.what);
        let place = (scenario.asked.to_owned(), platform.name());
        self.cells.insert(place, seen);
    }

    /// Whether something was seen.
    pub(crate) fn has_some(&self) -> bool {
        !self.cells.is_empty()
    }

    /// Whether all that was seen holds.
    pub(crate) fn holds(&self) -> bool {
        self.cells.values().all(|seen| seen.holds)
    }

    /// All of it, in Markdown.
    pub(crate) fn table(&self) -> String {
        let platforms: Vec<_> = Platform::ALL
            .map(Platform::name)
            .into_iter()
            .filter(|name| self.cells.keys().any(|(_, platform)| platform == name))
            .collect();
        let head = ["what is asked", "holds if"].map(str::to_owned);
        let mut text = row(head.into_iter().chain(platforms.clone()));
        text += &row(vec!["---".to_owned(); platforms.len() + 2]);
        for scenario in ALL.iter().copied().flatten() {
            let asked = scenario.asked.to_owned();
            let cells: Vec<_> = platforms
                .iter()
                .map(|platform| self.cells.get(&(asked.clone(), platform.clone())))
                .collect();
            if cells.iter().any(Option::is_some) {
                let cells = cells
                    .into_iter()
                    .map(|seen| seen.map_or(String::new(), cell));
                text += &row([asked, scenario.promise.to_owned()]
                    .into_iter()
                    .chain(cells));
            }
        }
        text
    }

    /// The text, with what was seen in the cells of its tables between the marks. A cell
    /// is found by what its row begins with and by the head of its column; what has no
    /// cell is left out, and what was not seen stays.
    fn written_into(&self, text: &str) -> Result<(String, usize)> {
        let (mut made, mut rest, mut written) = (String::new(), text, 0);
        let [begin, end] = MARKS;
        while let Some((before, after)) = rest.split_once(begin) {
            let (part, after) = after
                .split_once(end)
                .with_context(|| format!("{} has no end", begin.trim()))?;
            let _ = write!(made, "{before}{begin}");
            let mut head = Vec::new();
            for line in part.lines() {
                let mut cells = cells(line);
                if head.is_empty() {
                    head.clone_from(&cells);
                }
                let asked = cells.first().cloned().unwrap_or_default();
                for (cell_text, platform) in cells.iter_mut().zip(&head) {
                    if let Some(seen) = self.cells.get(&(asked.clone(), platform.clone())) {
                        *cell_text = cell(seen);
                        written += 1;
                    }
                }
                made += &match cells.as_slice() {
                    [] if line.starts_with(SPIN) => format!("{SPIN}{}`.\n", self.spin),
                    [] => format!("{line}\n"),
                    _ => row(cells),
                };
            }
            made += end;
            rest = after;
        }
        made += rest;
        Ok((made, written))
    }
}

/// Writes what was seen into the tables of a document, and returns how many cells that
/// were.
///
/// # Errors
///
/// If it cannot be read or written.
pub(crate) fn write_into(document: &Path, report: &Report) -> Result<usize> {
    let (text, written) = report.written_into(&fs::read_to_string(document)?)?;
    fs::write(document, text)?;
    eprintln!("{written} cells of {} were written", document.display());
    Ok(written)
}

fn cell(seen: &Seen) -> String {
    let what = seen.what.replace('|', "\\|");
    if seen.holds {
        what
    } else {
        format!("**FAIL** {what}")
    }
}

/// A line of a table.
fn row(cells: impl IntoIterator<Item = String>) -> String {
    let cells: Vec<_> = cells.into_iter().collect();
    format!("| {} |\n", cells.join(" | "))
}

/// The cells of a line of a table; none if it is no such line.
fn cells(line: &str) -> Vec<String> {
    let line = line.trim().replace("\\|", ESCAPED);
    let inner = line
        .strip_prefix('|')
        .and_then(|rest| rest.strip_suffix('|'));
    let Some(inner) = inner else {
        return Vec::new();
    };
    let cells = inner.split('|').map(str::trim);
    cells.map(|cell| cell.replace(ESCAPED, "\\|")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(seen: Seen) -> Report {
        let mut report = Report::on("spin 9.0.0");
        report.add(Platform::ALL[2], &ALL[0][1], seen);
        report
    }

    #[test]
    fn what_was_seen_gets_into_its_cell_and_the_others_stay() -> Result<()> {
        let [begin, end] = MARKS;
        let asked = ALL[0][1].asked;
        let document = |spin: &str, cell: &str| {
            format!(
                "# x\n{begin}\n{SPIN}{spin}`.\n\n| what is asked | `spin`, SQLite | `spin-sqlite`, SQLite |\n\
                 | --- | --- | --- |\n| {asked} | old | {cell} |\n| other |  |  |\n{end}| {asked} |\n"
            )
        };
        let report = report(Seen::new(false, "2 | 1"));
        assert!(!report.holds());
        let (text, written) = report.written_into(&document("spin 8.0.0", "older"))?;
        assert_eq!(written, 1);
        assert_eq!(text, document("spin 9.0.0", "**FAIL** 2 \\| 1"));
        Ok(())
    }

    #[test]
    fn a_document_without_a_table_stays_as_it_is() -> Result<()> {
        let report = report(Seen::new(true, "1"));
        assert_eq!(report.written_into("| x |\n")?.1, 0);
        assert!(report.written_into(MARKS[0]).is_err());
        Ok(())
    }

    #[test]
    fn the_table_has_a_row_for_what_was_seen() {
        let report = report(Seen::new(true, "[1, 1, 1] requests"));
        assert!(report.holds());
        let table = report.table();
        assert_eq!(table.lines().count(), 3, "{table}");
        assert!(table.ends_with("| [1, 1, 1] requests |\n"), "{table}");
    }

    /// What the documents' table has to have for `--write-docs` to fill it.
    #[test]
    fn the_documents_table_has_a_row_for_each_scenario_and_a_column_for_each_platform() -> Result<()>
    {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let text = fs::read_to_string(root.join("docs/platforms.md"))?;
        let (_, part) = text.split_once(MARKS[0]).context("no table")?;
        let (part, _) = part.split_once(MARKS[1]).context("no end")?;
        let mut rows = part.lines().map(cells).filter(|cells| !cells.is_empty());
        let head = rows.next().context("no head")?;
        let platforms = Platform::ALL.map(Platform::name);
        assert_eq!(head.get(2..), Some(&platforms[..]));
        let rows: Vec<_> = rows.skip(1).map(|cells| cells[..2].to_vec()).collect();
        let scenarios = ALL.iter().copied().flatten();
        let told: Vec<_> = scenarios
            .map(|scenario| vec![scenario.asked.to_owned(), scenario.promise.to_owned()])
            .collect();
        assert_eq!(rows, told);
        Ok(())
    }
}
