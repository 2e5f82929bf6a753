//! The reference of all options, for `docs/configuration.md`.

use super::options::OPTIONS;

/// Longer defaults do not fit into the table.
const DEFAULT_MAX: usize = 80;

/// The reference of all options, in Markdown.
pub fn reference() -> String {
    let mut text = String::from(
        "| setting | takes | default | per rule | meaning |\n| --- | --- | --- | --- | --- |\n",
    );
    let mut long = String::new();
    for option in OPTIONS {
        let name = option.name;
        let written = option
            .default
            .replace(env!("CARGO_PKG_VERSION"), "<version>");
        let mut default = if written.len() > DEFAULT_MAX {
            long.push_str(&format!(
                "\nThe default of `{name}`:\n\n```toml\n{name} = {written}\n```\n"
            ));
            "below".to_owned()
        } else {
            format!("`{written}`")
        };
        if let Some(strict) = option.strict {
            default.push_str(&format!("; with preset `strict` `{strict}`"));
        }
        text.push_str(&format!(
            "| `{name}` | {} | {default} | {} | {} |\n",
            option.kind.describe(),
            if option.per_rule { "yes" } else { "no" },
            option.doc
        ));
    }
    text + &long
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");

    /// What stands before and after the generated part.
    fn around(text: &str) -> (&str, &str) {
        let (head, rest) = text.split_once("<!-- settings -->\n").unwrap_or((text, ""));
        let (_, tail) = rest
            .split_once("<!-- end of settings -->\n")
            .unwrap_or(("", ""));
        (head, tail)
    }

    /// Run with `LEEWARD_WRITE_DOCS=1` to write the generated part.
    #[test]
    fn the_reference_is_up_to_date() {
        let text = std::fs::read_to_string(PATH).unwrap_or_default();
        let (head, tail) = around(&text);
        let wanted = format!(
            "{head}<!-- settings -->\n\n{}\n<!-- end of settings -->\n{tail}",
            reference()
        );
        if std::env::var_os("LEEWARD_WRITE_DOCS").is_some() {
            let written = std::fs::write(PATH, &wanted);
            assert!(written.is_ok(), "{written:?}");
        } else {
            assert!(
                text == wanted,
                "run LEEWARD_WRITE_DOCS=1 cargo test reference"
            );
        }
    }

    #[test]
    fn every_option_is_in_one_row_of_the_table() {
        let text = reference();
        for option in OPTIONS {
            let row = format!("\n| `{}` |", option.name);
            assert_eq!(text.matches(&row).count(), 1, "{}", option.name);
            assert!(!option.doc.contains('|') && !option.doc.contains('\n'));
        }
    }
}
