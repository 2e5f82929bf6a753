//! What the stand-in remembers by path, in bounded memory.

use std::collections::BTreeMap;

/// Most paths that are remembered apart. Requests for further ones share the
/// place [`OTHER`].
pub(crate) const PATHS_MAX: usize = 1024;

/// Longest path, query included, that is remembered apart, in bytes.
const PATH_LEN_MAX: usize = 1024;

/// The place of everything beyond the bounds. No path is called that: they
/// begin with a slash.
pub(super) const OTHER: &str = "other";

/// One `T` for each path, as far as the bounds go.
#[derive(Debug, Default)]
pub(super) struct PerPath<T> {
    places: BTreeMap<String, T>,
}

impl<T: Default> PerPath<T> {
    /// The place of `path`, made if need be, and the name it goes by.
    pub(super) fn at<'a>(&'a mut self, path: &'a str) -> (&'a str, &'a mut T) {
        let apart = self.places.contains_key(path)
            || (path.len() <= PATH_LEN_MAX && self.places.len() < PATHS_MAX);
        let name = if apart { path } else { OTHER };
        (name, self.places.entry(name.to_owned()).or_default())
    }

    /// The place that [`PerPath::at`] named, unless it was given up since.
    pub(super) fn named(&mut self, name: &str) -> Option<&mut T> {
        self.places.get_mut(name)
    }

    /// Gives up the places that `keep` does not want.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&mut T) -> bool) {
        self.places.retain(|_, place| keep(place));
    }

    /// All places by name.
    pub(super) fn all(&self) -> &BTreeMap<String, T> {
        &self.places
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_within_the_bounds_have_their_own_place() {
        let mut places = PerPath::<u32>::default();
        *places.at("/a").1 += 1;
        *places.at("/b").1 += 1;
        *places.at("/a").1 += 1;
        assert_eq!(
            places
                .all()
                .iter()
                .map(|(name, n)| (name.as_str(), *n))
                .collect::<Vec<_>>(),
            [("/a", 2), ("/b", 1)]
        );
    }

    #[test]
    fn paths_beyond_the_bounds_share_one() {
        let mut places = PerPath::<u32>::default();
        let long = format!("/{}", "x".repeat(PATH_LEN_MAX));
        assert_eq!(places.at(&long).0, OTHER);
        for n in 0..2 * PATHS_MAX {
            *places.at(&format!("/{n}")).1 += 1;
        }
        assert!(places.all().len() <= PATHS_MAX + 1);
        assert_eq!(places.at("/0").0, "/0", "the first ones keep their places");
        assert_eq!(places.at("/late").0, OTHER);
    }
}
