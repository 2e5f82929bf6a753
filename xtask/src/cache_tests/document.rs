//! The parts of `docs/conformance.md` that are made from the lists.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::Preset;
use super::lists::{List, NODES, numbers};
use super::score::Kind;
use crate::build;

/// Writes the parts that are made from the lists.
///
/// # Errors
///
/// If the document cannot be read or written, or lacks their places.
pub(super) fn write() -> Result<()> {
    let text = fs::read_to_string(path())?;
    fs::write(path(), made(&text)?)?;
    Ok(())
}

/// The document, with those parts replaced.
fn made(text: &str) -> Result<String> {
    let lists = Lists {
        strict: List::read(Preset::Strict)?,
        uptime: List::read(Preset::Uptime)?,
    };
    let text = replaced(text, "figures", &lists.figures()?)?;
    let text = replaced(&text, "strict", &failing(&lists.strict, &List::default())?)?;
    replaced(&text, "uptime", &failing(&lists.uptime, &lists.strict)?)
}

/// What stands between the marks of this name, replaced.
fn replaced(text: &str, name: &str, part: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->\n"));
    let halves = || {
        let (head, rest) = text.split_once(&begin)?;
        Some((head, rest.split_once(&end)?.1))
    };
    let (head, tail) = halves().with_context(|| format!("there is no place for {name}"))?;
    Ok(format!("{head}{begin}\n{part}\n{end}{tail}"))
}

#[derive(Debug)]
struct Lists {
    strict: List,
    uptime: List,
}

impl Lists {
    fn figures(&self) -> Result<String> {
        let mut text = String::from(
            "| preset | nodes | required | optimal | checks answered with yes |\n\
             | --- | --- | --- | --- | --- |\n",
        );
        for (preset, list) in [
            (Preset::Strict, &self.strict),
            (Preset::Uptime, &self.uptime),
        ] {
            let total = |kind| list.totals.get(&kind).copied().unwrap_or(0);
            for nodes in NODES {
                writeln!(
                    text,
                    "| `{preset}` | {nodes} | {} of {} | {} of {} | {} of {} |",
                    list.passing(Kind::Required, nodes),
                    total(Kind::Required),
                    list.passing(Kind::Optimal, nodes),
                    total(Kind::Optimal),
                    list.yes.get(&nodes).copied().unwrap_or(0),
                    total(Kind::Check),
                )?;
            }
        }
        Ok(text)
    }
}

/// The tests that fail, but for those that `known` has for the same numbers of
/// nodes; those that fail for the same reason together.
fn failing(list: &List, known: &List) -> Result<String> {
    let mut rows: BTreeMap<(Kind, &str, String), Vec<&str>> = BTreeMap::new();
    for (id, failing) in &list.failing {
        let known = known.failing.get(id).map(|known| &known.nodes);
        let new: BTreeSet<usize> = match known {
            Some(known) => failing.nodes.difference(known).copied().collect(),
            None => failing.nodes.clone(),
        };
        if !new.is_empty() {
            let row = (failing.kind, failing.reason.as_str(), numbers(&new));
            rows.entry(row).or_default().push(id);
        }
    }
    if rows.is_empty() {
        return Ok("None.\n".to_owned());
    }
    let mut rows: Vec<_> = rows.into_iter().collect();
    rows.sort_by(|((kind, ..), ids), ((other, ..), others)| (kind, ids).cmp(&(other, others)));
    let mut text =
        String::from("| kind | nodes | tests | why they fail |\n| --- | --- | --- | --- |\n");
    for ((kind, reason, nodes), ids) in rows {
        let ids: Vec<_> = ids.iter().map(|id| format!("`{id}`")).collect();
        let reason = reason.replace('|', "\\|");
        writeln!(text, "| {kind} | {nodes} | {} | {reason} |", ids.join(", "))?;
    }
    Ok(text)
}

fn path() -> PathBuf {
    build::root().join("docs/conformance.md")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Run with `LEEWARD_WRITE_DOCS=1` to write those parts.
    #[test]
    fn the_document_says_what_the_lists_say() -> Result<()> {
        if std::env::var_os("LEEWARD_WRITE_DOCS").is_some() {
            return write();
        }
        let text = fs::read_to_string(path())?;
        assert!(
            made(&text)? == text,
            "run LEEWARD_WRITE_DOCS=1 cargo test --package xtask document"
        );
        Ok(())
    }

    #[test]
    fn only_what_is_new_is_told_and_by_reason() -> Result<()> {
        let list = List::parse(
            "a required 1,4 x\nb optimal 4 y|z\nc required 1 x\nd required 4 x\ne required 1,4 w",
        )?;
        let known = List::parse("a required 1 x\nc required 1 x")?;
        let text = failing(&list, &known)?;
        let rows: Vec<_> = text.lines().skip(2).collect();
        assert_eq!(
            rows,
            [
                "| required | 4 | `a`, `d` | x |",
                "| required | 1,4 | `e` | w |",
                "| optimal | 4 | `b` | y\\|z |"
            ]
        );
        assert_eq!(failing(&known, &known)?, "None.\n");
        Ok(())
    }

    #[test]
    fn a_part_without_a_place_is_refused() {
        assert!(replaced("text", "figures", "x").is_err());
        let text = "a\n<!-- x -->\nold\n<!-- /x -->\nb\n";
        let new = "a\n<!-- x -->\n\nnew\n<!-- /x -->\nb\n";
        assert_eq!(replaced(text, "x", "new").ok().as_deref(), Some(new));
    }
}
