//! What to say of a name that does not exist.

/// Longer names are not compared with the known ones.
const COMPARED_MAX: usize = 64;

/// The known name that was probably meant.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > COMPARED_MAX {
        return None;
    }
    known
        .map(|known| (distance(known, name), known))
        .min()
        .filter(|(distance, nearest)| {
            // A long section does not make up for another name in it.
            let last = nearest.rsplit('.').next().unwrap_or(nearest);
            *distance <= last.len() / 3
        })
        .map(|(_, nearest)| nearest)
}

/// `write "a", "b" or "c"`, without the first word.
pub(super) fn one_of(words: &[&str]) -> String {
    let words: Vec<_> = words.iter().map(|word| format!("{word:?}")).collect();
    match words.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

/// Levenshtein distance in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a) in a.bytes().enumerate() {
        let mut left = i + 1;
        let mut corner = i;
        for (above, b) in row.iter_mut().skip(1).zip(b.bytes()) {
            let cost = (corner + usize::from(a != b)).min(left + 1).min(*above + 1);
            corner = std::mem::replace(above, cost);
            left = cost;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, expected) in [
            ("", "", 0),
            ("a", "", 1),
            ("", "ab", 2),
            ("kitten", "sitting", 3),
            ("flaw", "lawn", 2),
            ("same", "same", 0),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn the_nearest_name_is_suggested_if_it_is_near() {
        let known = ["ttl", "failure", "freshness.default_ttl"];
        for (name, expected) in [
            ("tll", Some("ttl")),
            ("fail", None),
            ("failures", Some("failure")),
            ("freshness.defaultttl", Some("freshness.default_ttl")),
            ("freshnes.default_tll", Some("freshness.default_ttl")),
            ("freshness.zzz", None),
            ("", None),
            (&"x".repeat(COMPARED_MAX + 1), None),
        ] {
            assert_eq!(nearest(name, known.into_iter()), expected, "{name}");
        }
    }
}
