//! Keys of a rule that concern purges: `tags` and `invalidates`.

use super::problem::Fault;
use super::value::{LIST_MAX, type_of};
use crate::purges::{Prefix, TAG_BYTES_MAX, Tag};
use crate::question::policy::KeyPolicy;
use crate::question::target::canonical;
use toml::Spanned;
use toml::de::DeValue;

/// Most targets that an unsafe request invalidates.
pub const INVALIDATES_MAX: usize = 16;

/// What an unsafe request invalidates besides its own target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invalidated {
    /// A path without query, in canonical form.
    Path(String),
    /// All URLs that begin so.
    Prefix(Prefix),
}

/// Reads `tags`.
pub(super) fn tags(value: &Spanned<DeValue<'_>>) -> Result<Vec<Tag>, Fault> {
    let read = |text: &str| {
        Tag::named(text).ok_or_else(|| {
            format!(
                "{text:?} is not a tag; write 1 to {TAG_BYTES_MAX} characters without spaces and \
                 commas"
            )
        })
    };
    list(value, LIST_MAX, "[\"quotes\"]", read)
}

/// Reads `invalidates`.
pub(super) fn invalidates(
    value: &Spanned<DeValue<'_>>,
    key: &KeyPolicy,
) -> Result<Vec<Invalidated>, Fault> {
    let read = |text: &str| {
        let prefix = Prefix::parse(None, text, key).map_err(|problem| problem.to_string())?;
        Ok(match text.ends_with('*') {
            true => Invalidated::Prefix(prefix),
            false => Invalidated::Path(canonical(text, key)),
        })
    };
    list(value, INVALIDATES_MAX, "[\"/api/quotes/*\"]", read)
}

fn list<T>(
    value: &Spanned<DeValue<'_>>,
    most: usize,
    example: &str,
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, Fault> {
    let items = value.get_ref().as_array().ok_or_else(|| {
        Fault::from(format!(
            "is a list, not {}; write for instance {example}",
            type_of(value.get_ref())
        ))
    })?;
    if items.len() > most {
        return Err(format!("has {} items; write at most {most}", items.len()).into());
    }
    items
        .iter()
        .map(|item| {
            let text = item.get_ref().as_str();
            let text =
                text.ok_or_else(|| format!("is a list of texts; write for instance {example}"));
            text.and_then(&read)
                .map_err(|message| Fault::from(message).at(item.span().start))
        })
        .collect()
}
