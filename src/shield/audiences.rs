//! What an instance has learned about whom answers are for.
//!
//! A visitor with credentials whose URL is not known costs the origin one request if the
//! right one of two goes first: the visitor's own, where the answer is for that visitor
//! alone, or the question, where it is for everyone. What is kept here decides that order
//! and nothing else: never who gets what. So it may be wrong, be forgotten, and be shaped
//! by visitors. It is bounded in size and in time.

use crate::time::Time;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// Most keys that are remembered at once.
const KEYS_MAX: usize = 1_024;

/// Most areas that are remembered at once.
const AREAS_MAX: usize = 256;

/// How long something is remembered after it was last seen.
const KEPT: Duration = Duration::from_secs(300);

/// For this many requests of visitors that went to the origin, the instance may send one
/// more than its visitors asked for.
const REQUESTS_PER_EXTRA: u32 = 20;

/// After so many answers in a row that were for everyone, the next in an area probably is.
const SURE_AFTER: u8 = 2;

/// Most extra requests that are saved up.
const EXTRAS_MAX: u32 = 8;

/// Which request goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// The question, whose answer may be for everyone.
    Question,
    /// The visitor's own request: a scout.
    Scout,
}

/// The part of a site in which answers are probably for the same visitors.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct Area<'a> {
    /// Tells rules apart.
    rule: usize,
    /// The first segment of the path.
    segment: &'a str,
    /// Whether the path has the extension of a static file.
    is_file: bool,
}

impl<'a> Area<'a> {
    /// The area of `path` under a rule.
    pub(super) fn of(path: &'a str, rule: usize, is_file: bool) -> Self {
        let rest = path.strip_prefix('/').unwrap_or(path);
        // A page at the top has no area but the top itself.
        let segment = rest.split_once('/').map_or("", |(segment, _)| segment);
        Area {
            rule,
            segment,
            is_file,
        }
    }
}

/// What was learned of one key or area.
#[derive(Clone, Copy, Debug, Default)]
struct Learned {
    /// The hash of what it is about.
    hash: u64,
    at: Time,
    /// How many answers in a row were for everyone; zero after one that was not.
    for_everyone: u8,
}

/// What an instance has learned.
#[derive(Debug, Default)]
pub(super) struct Audiences {
    /// At most [`KEYS_MAX`], each where its hash says.
    keys: Vec<Learned>,
    /// At most [`AREAS_MAX`], each where its hash says.
    areas: Vec<Learned>,
    /// Requests of visitors that are not yet spent on an extra one.
    credit: u32,
}

impl Audiences {
    /// Which request goes first for a URL about which the store knows nothing.
    pub(super) fn order(&self, key: &str, area: Area<'_>, now: Time) -> Order {
        let known = find(&self.keys, hash(key), now);
        if let Some(times) = known {
            return order(times > 0);
        }
        match find(&self.areas, hash(area), now) {
            Some(0) => Order::Scout,
            // If the guess is wrong, the visitor's own request follows.
            Some(times) => order(area.is_file || times >= SURE_AFTER || self.has_extra()),
            None => order(area.is_file),
        }
    }

    /// Notes whether an answer was for everyone.
    pub(super) fn note(&mut self, key: &str, area: Area<'_>, for_everyone: bool, now: Time) {
        put(&mut self.keys, KEYS_MAX, hash(key), for_everyone, now);
        put(&mut self.areas, AREAS_MAX, hash(area), for_everyone, now);
    }

    /// Counts a request of a visitor that goes to the origin.
    pub(super) fn count(&mut self) {
        let most = REQUESTS_PER_EXTRA.saturating_mul(EXTRAS_MAX);
        self.credit = self.credit.saturating_add(1).min(most);
    }

    /// Whether an extra request may be sent.
    fn has_extra(&self) -> bool {
        self.credit >= REQUESTS_PER_EXTRA
    }

    /// Takes an extra request, if there is one.
    pub(super) fn take_extra(&mut self) -> bool {
        let has_extra = self.has_extra();
        if has_extra {
            self.owe();
        }
        has_extra
    }

    /// Counts an extra request that was sent because a guess was wrong.
    pub(super) fn owe(&mut self) {
        self.credit = self.credit.saturating_sub(REQUESTS_PER_EXTRA);
    }
}

fn order(question_first: bool) -> Order {
    match question_first {
        true => Order::Question,
        false => Order::Scout,
    }
}

fn slot(hash: u64, size: usize) -> usize {
    usize::try_from(hash % (size.max(1) as u64)).unwrap_or(0)
}

/// How many answers in a row were for everyone, if anything is known of `hash`.
fn find(known: &[Learned], hash: u64, now: Time) -> Option<u8> {
    let learned = known.get(slot(hash, known.len()))?;
    // A clock that was set back ends what is remembered, too.
    let counts = learned.hash == hash && learned.at <= now && now.since(learned.at) < KEPT;
    counts.then_some(learned.for_everyone)
}

fn put(known: &mut Vec<Learned>, size: usize, hash: u64, for_everyone: bool, now: Time) {
    if known.is_empty() {
        known.resize(size, Learned::default());
    }
    let before = find(known, hash, now).unwrap_or(0);
    let index = slot(hash, known.len());
    if let Some(learned) = known.get_mut(index) {
        *learned = Learned {
            hash,
            at: now,
            for_everyone: match for_everyone {
                true => before.saturating_add(1),
                false => 0,
            },
        };
    }
}

fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    // Zero stands for nothing.
    hasher.finish().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::from_unix_millis(1_000_000 + seconds * 1_000)
    }

    fn page(path: &str) -> Area<'_> {
        Area::of(path, 0, false)
    }

    #[test]
    fn a_static_file_is_asked_for_by_its_question_and_a_page_by_its_visitor() {
        let audiences = Audiences::default();
        let file = Area::of("/css/a.css", 0, true);
        assert_eq!(audiences.order("f", file, at(0)), Order::Question);
        assert_eq!(audiences.order("p", page("/a/b"), at(0)), Order::Scout);
    }

    #[test]
    fn what_was_learned_of_a_url_counts_until_it_is_forgotten() {
        let mut audiences = Audiences::default();
        audiences.note("p", page("/a/b"), true, at(0));
        for (seconds, expected) in [
            (0, Order::Question),
            (299, Order::Question),
            (300, Order::Scout),
        ] {
            assert_eq!(audiences.order("p", page("/a/b"), at(seconds)), expected);
        }
        // The clock was set back.
        let before = Time::from_unix_millis(1);
        assert_eq!(audiences.order("p", page("/a/b"), before), Order::Scout);
        audiences.note("p", page("/a/b"), false, at(1));
        assert_eq!(audiences.order("p", page("/a/b"), at(1)), Order::Scout);
    }

    #[test]
    fn a_neighbour_is_asked_for_by_its_question_where_a_wrong_guess_may_be_paid() {
        let mut audiences = Audiences::default();
        audiences.note("p", page("/a/b"), true, at(0));
        assert_eq!(audiences.order("q", page("/a/c"), at(0)), Order::Scout);
        for _ in 0..20 {
            audiences.count();
        }
        assert_eq!(audiences.order("q", page("/a/c"), at(0)), Order::Question);
        let elsewhere = [page("/x/c"), page("/c"), Area::of("/a/c", 1, false)];
        for area in elsewhere {
            assert_eq!(audiences.order("q", area, at(0)), Order::Scout);
        }
        audiences.owe();
        assert_eq!(audiences.order("q", page("/a/c"), at(0)), Order::Scout);
        // Two in a row are no accident, until one is not for everyone.
        audiences.note("r", page("/a/d"), true, at(0));
        assert_eq!(audiences.order("q", page("/a/c"), at(0)), Order::Question);
        audiences.note("s", page("/a/e"), false, at(0));
        assert_eq!(audiences.order("q", page("/a/c"), at(0)), Order::Scout);
    }

    #[test]
    fn missing_files_are_asked_for_by_their_visitors_after_the_first() {
        let mut audiences = Audiences::default();
        let file = |path| Area::of(path, 0, true);
        audiences.note("f", file("/img/a.png"), false, at(0));
        assert_eq!(
            audiences.order("g", file("/img/b.png"), at(0)),
            Order::Scout
        );
        assert_eq!(
            audiences.order("h", file("/css/b.css"), at(0)),
            Order::Question
        );
    }

    #[test]
    fn extra_requests_are_one_in_twenty() {
        let mut audiences = Audiences::default();
        assert!(!audiences.take_extra());
        let mut extra = 0;
        for _ in 0..1_000 {
            audiences.count();
            extra += u32::from(audiences.take_extra());
        }
        assert_eq!(extra, 50);
        for _ in 0..1_000 {
            audiences.count();
        }
        let saved = (0..100).filter(|_| audiences.take_extra()).count();
        assert_eq!(saved, 8);
    }
}
