//! Reads settings from tables of TOML.

use super::options::{self, Definition, OPTIONS, RULE_KEYS};
use super::problem::{Fault, Problems};
use super::suggest;
use super::value::type_of;
use super::{Config, KEYS};
use std::collections::BTreeMap;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Where settings are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Outside rules.
    All,
    /// In a rule.
    Rule,
}

/// What to say of an option in a rule that no rule may set.
const ONCE: &str = "cannot differ between rules; set it once, outside rules";

/// Where each option stands that the operator has set: the offset of its value.
pub(super) type Places = BTreeMap<&'static str, usize>;

/// Reads the settings of one scope.
#[derive(Debug)]
pub(super) struct Reader<'a, 't> {
    pub(super) scope: Scope,
    pub(super) config: &'a mut Config,
    pub(super) places: &'a mut Places,
    pub(super) problems: &'a mut Problems<'t>,
}

impl Reader<'_, '_> {
    /// Reads the option or section `name`.
    pub(super) fn read(&mut self, name: &str, at: usize, value: &Spanned<DeValue<'_>>) {
        if let Some(option) = OPTIONS.iter().find(|option| option.name == name) {
            self.option(option, at, value);
        } else if options::is_section(name) {
            match value.get_ref() {
                DeValue::Table(table) => self.section(name, table),
                other => self.problem(
                    name,
                    value.span().start,
                    format!(
                        "is a table of settings, not {}; write for instance {}",
                        type_of(other),
                        options::example(name)
                    ),
                ),
            }
        } else {
            self.problem(name, at, unknown(self.scope, name));
        }
    }

    fn section(&mut self, name: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let name = format!("{name}.{}", key.get_ref());
            self.read(&name, key.span().start, value);
        }
    }

    fn option(&mut self, option: &'static Definition, at: usize, value: &Spanned<DeValue<'_>>) {
        if self.scope == Scope::Rule && !option.per_rule {
            self.problem(option.name, at, ONCE.to_owned());
            return;
        }
        let place = value.span().start;
        self.places.insert(option.name, place);
        if let Err(fault) = option.apply(self.config, value) {
            self.problem(option.name, place, fault);
        }
    }

    /// Adds a problem of a setting of this scope.
    pub(super) fn problem(&mut self, name: &str, offset: usize, fault: impl Into<Fault>) {
        match self.scope {
            Scope::All => self.problems.add(offset, name, fault),
            Scope::Rule => self.problems.add(offset, &format!("rule.{name}"), fault),
        }
    }

    /// Adds the problem of a key that a table of this scope does not have.
    pub(super) fn unknown_key(&mut self, table: &str, name: &str, at: usize, known: &[&str]) {
        let message = match suggest::nearest(name, known.iter().copied()) {
            Some(meant) => format!("there is no such setting; did you mean {table}.{meant}?"),
            None => format!(
                "there is no such setting; known are {}",
                known
                    .iter()
                    .map(|known| format!("{table}.{known}"))
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        };
        self.problem(&format!("{table}.{name}"), at, message);
    }
}

/// What to say of a setting that does not exist.
fn unknown(scope: Scope, name: &str) -> String {
    let keys = match scope {
        Scope::All => KEYS,
        Scope::Rule => RULE_KEYS,
    };
    if scope == Scope::All && RULE_KEYS.contains(&name) {
        return "is a key of a rule; write it in a [[rule]] that has a match".to_owned();
    }
    if scope == Scope::Rule && name == "rule" {
        return "a rule has no rules of its own; write another [[rule]]".to_owned();
    }
    let known = || {
        let options = OPTIONS
            .iter()
            .filter(|option| scope == Scope::All || option.per_rule);
        keys.iter()
            .copied()
            .chain(options.map(|option| option.name))
    };
    let last = |name: &str| name.rsplit('.').next().map(str::to_owned);
    let meant = suggest::nearest(name, known())
        // The section is missing, or another one.
        .or_else(|| known().find(|known| last(known) == last(name)));
    if let Some(meant) = meant {
        return format!("there is no such setting; did you mean {meant}?");
    }
    let section = match name.rsplit_once('.') {
        Some((section, _)) if options::is_section(section) => format!("{section}."),
        _ => String::new(),
    };
    // The next part of each name in the section.
    let mut parts: Vec<String> = Vec::new();
    for known in known() {
        let Some(rest) = known.strip_prefix(&section) else {
            continue;
        };
        let part = match rest.split_once('.') {
            Some((part, _)) => format!("{section}{part}.*"),
            None => known.to_owned(),
        };
        if !parts.contains(&part) {
            parts.push(part);
        }
    }
    match parts.as_slice() {
        [] => ONCE.to_owned(),
        parts => format!("there is no such setting; known are {}", parts.join(", ")),
    }
}
