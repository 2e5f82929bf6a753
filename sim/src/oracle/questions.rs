//! What the origin may be asked, and for whom its answer is.
//!
//! S3 of a cell: the request that filled it is a function of the cell's question.
//! S3 and S5 of an answer: it was made for that visitor, or for a question that
//! the visitor asks too, and that has nothing of anybody in it.

use super::made::concerns_everyone;
use super::{Got, Made, Oracle};
use crate::coverage::Kind;
use crate::executor::{Micros, Owner, micros};
use crate::origin::{SERIAL, number};
use crate::requests::{Asked, REWRITING};
use crate::scenario::{Dependence, Depends};
use http::HeaderName;
use http::header::{ACCEPT_ENCODING, COOKIE, SET_COOKIE};
use leeward::cell::{Cell, Entry};
use leeward::question::{Read, Visitor, key_of};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How the shield names the cells of a question.
pub(super) struct Names {
    /// The text of the key's cell.
    pub(super) key: String,
    /// The text of the question's own cell, unless the question is the resident of
    /// the key's.
    pub(super) question: String,
    /// The question's selector.
    pub(super) selector: String,
}

/// The address of the origin, as the world has it.
pub(crate) const ORIGIN: &str = "http://origin.example";

/// The longest retry mark of a scenario, with its spread.
const RETRY_MARK_MAX: Duration = Duration::from_secs(120);

impl Oracle {
    /// The one place that knows how the shield names cells. `vary` is what the
    /// key's cell says its answers vary on.
    ///
    /// Returns none for a request that asks no question.
    pub(super) fn names(&self, request: &Asked, vary: &[String]) -> Option<Names> {
        let mut builder = http::Request::builder()
            .method(request.method.clone())
            .uri(request.target.as_str());
        let headers = builder.headers_mut()?;
        headers.clone_from(&request.headers);
        // The shield's own, in what the origin gets. No visitor has one.
        headers.remove("cdn-loop");
        let (parts, ()) = builder.body(()).ok()?.into_parts();
        let read = Visitor::read(
            &parts,
            request.content,
            &self.origin,
            &self.config.key,
            &self.config.request,
        );
        let Read::Question(visitor) = read else {
            return None;
        };
        let fields: Vec<HeaderName> = vary.iter().filter_map(|name| name.parse().ok()).collect();
        let selector = visitor.question(&fields).selector();
        Some(Names {
            question: format!("{}\nvary {selector}", visitor.key()),
            key: visitor.key().to_owned(),
            selector,
        })
    }

    /// The key of a request's target, whether or not it asks a question.
    pub(super) fn key_text(&self, request: &Asked) -> String {
        let target = request.target.as_str();
        key_of(&self.origin, "http", None, target, &self.config.key)
    }
}

/// What the oracle remembers of questions.
#[derive(Debug, Default)]
pub(super) struct Questions {
    /// By the text of a key: what its `Vary` mark has named, each time that it
    /// changed.
    learned: BTreeMap<String, Vec<Vec<String>>>,
    /// By the text of a cell: what the origin got when it was filled.
    fills: BTreeMap<String, Vec<(String, String)>>,
}

impl Oracle {
    /// A cell was stored: what has its key learned about `Vary`?
    pub(super) fn learns(&self, new: &Cell) {
        let learned = &mut self.state.borrow_mut().questions.learned;
        let marks = learned.entry(new.key.clone()).or_default();
        let vary: Vec<String> = new
            .marks
            .vary
            .iter()
            .map(|known| known.name.clone())
            .collect();
        if marks.last() != Some(&vary) {
            marks.push(vary);
        }
    }

    /// S3 and S5 of a cell to which an entry is published.
    pub(super) fn filled(
        &self,
        id: &str,
        old: Option<&Cell>,
        new: &Cell,
        entry: &Entry,
        by: Owner,
    ) {
        let strict = self.scenario.settings.strict;
        self.came(number(&entry.headers, SERIAL));
        let Some(made) = self.response(number(&entry.headers, SERIAL)) else {
            return self.violated(by, "S3", format!("{id}: stored what the origin never made"));
        };
        let now = self.clocks.at(by.node().unwrap_or(usize::MAX));
        let pass = old.and_then(|old| old.marks.pass);
        if pass.is_some_and(|pass| now < pass.until) {
            self.count(Kind::HitForMiss);
        }
        if let Some(why) = made.is_alone(strict) {
            return self.violated(by, "S5", format!("{id}: stored although {why}: {made:?}"));
        }
        if entry.headers.contains_key(SET_COOKIE) {
            return self.violated(by, "S5", format!("{id}: stored a cookie of {made:?}"));
        }
        if made.asked.is_whole() {
            return self.violated(by, "S3", format!("{id}: filled by {:?}", made.asked));
        }
        if strict {
            return;
        }
        let wrong = self
            .brought(&made, by)
            .or_else(|| self.misnamed(new, &made, by))
            .or_else(|| self.differs_from_before(old, new, (&made, by)));
        if let Some(wrong) = wrong {
            self.violated(
                by,
                "S3",
                format!("{id} of {:?}: filled with {wrong}: {made:?}", new.key),
            );
        }
    }

    /// What the key's cell has said of `Vary` for a request, each time.
    fn marks_of(&self, request: &Asked) -> Vec<Vec<String>> {
        let key = self.key_text(request);
        let learned = &self.state.borrow().questions.learned;
        learned.get(&key).cloned().unwrap_or_default()
    }

    /// All that the key has ever learned to vary on, as an instance may know it.
    fn learned(&self, request: &Asked, by: Owner) -> BTreeSet<String> {
        let alone = self.learned_alone(request, by);
        self.marks_of(request)
            .into_iter()
            .flatten()
            .chain(alone)
            .collect()
    }

    /// What an instance may have learned in its memory, where the key's cell does not say it:
    /// from any answer, if the store has refused the key's cell for its length; from the
    /// answers that the instance got itself, if it has left the store alone.
    fn learned_alone(&self, request: &Asked, by: Owner) -> BTreeSet<String> {
        let key = self.key_text(request);
        let has_been_alone = self.has_been_alone(by);
        let state = self.state.borrow();
        let mut refused = state.refused_keys.iter();
        let answers: Vec<&Made> = if refused.any(|(_, refused)| refused.starts_with(&key)) {
            state.made.iter().collect()
        } else if has_been_alone {
            let flights = state.flights.iter().filter(|flight| flight.owner == by);
            let serials = flights.filter_map(|flight| usize::try_from(flight.serial()?).ok());
            serials
                .filter_map(|serial| state.made.get(serial))
                .collect()
        } else {
            return BTreeSet::new();
        };
        let answers = answers
            .into_iter()
            .filter(|made| self.key_text(&made.asked) == key);
        let named = answers.flat_map(|made| made.vary.iter().map(|(name, _)| (*name).to_owned()));
        named.chain([ACCEPT_ENCODING.as_str().to_owned()]).collect()
    }

    /// Which other question a fill asks than the one that the cell is named for.
    fn misnamed(&self, new: &Cell, made: &Made, by: Owner) -> Option<String> {
        let said = made.vary.iter().map(|(name, _)| (*name).to_owned());
        let said: BTreeSet<String> = said.collect();
        let mut marks = self.marks_of(&made.asked);
        marks.push(Vec::new());
        // A variant may be stored before its key's cell says that there are some.
        let widened = marks.clone().into_iter().map(|vary| {
            let vary: BTreeSet<String> = said.iter().cloned().chain(vary).collect();
            vary.into_iter().collect()
        });
        marks.extend(widened.collect::<Vec<_>>());
        for name in self.learned_alone(&made.asked, by) {
            for mut vary in marks.clone() {
                if vary.contains(&name) {
                    continue;
                }
                // An instance keeps the names in the order in which it learned them.
                vary.push(name.clone());
                marks.push(vary.clone());
                vary.sort_unstable();
                marks.push(vary);
            }
            marks.sort_unstable();
            marks.dedup();
        }
        let mut why = None;
        for vary in marks {
            let Some(names) = self.names(&made.asked, &vary) else {
                return Some("a request that asks no question".to_owned());
            };
            // The key's cell has the entry of its resident.
            let resident = new.marks.resident.as_deref();
            let is_resident = new.key == names.key && resident == Some(names.selector.as_str());
            if new.key == names.question || is_resident {
                return None;
            }
            why.get_or_insert(format!(
                "a request for {:?}; the resident is {resident:?}",
                names.question
            ));
        }
        why
    }

    /// What of a visitor's request is in a fill and must not be.
    fn brought(&self, made: &Made, by: Owner) -> Option<String> {
        let asked = &made.asked;
        if asked.headers.contains_key(COOKIE) || asked.credentials().is_some() {
            return Some("credentials".into());
        }
        if asked.has_ignored_parameters() {
            return Some("a parameter that is ignored".into());
        }
        let learned = self.learned(asked, by);
        let mut dropped = asked.dropped();
        let dropped = dropped.find(|name| !learned.contains(*name))?;
        Some(format!("{dropped}, on which nothing varies"))
    }

    /// Two requests that fill one cell are the same, but for validators and for
    /// what the key has learned to vary on. This does not depend on names. An
    /// answer without a coding serves all who accept one or the other; whether
    /// somebody gets one that it does not accept is asked of the answer.
    fn differs_from_before(
        &self,
        old: Option<&Cell>,
        new: &Cell,
        (made, by): (&Made, Owner),
    ) -> Option<String> {
        let learned = self.learned(&made.asked, by);
        let mut fill: Vec<(String, String)> = made
            .asked
            .headers
            .keys()
            .map(HeaderName::as_str)
            .filter(|name| {
                let own = ["if-none-match", "if-modified-since", "accept-encoding"];
                !own.contains(name)
            })
            .filter_map(|name| Some((name.to_owned(), made.asked.value(name)?)))
            .collect();
        fill.sort_unstable();
        fill.push(("target".to_owned(), made.asked.target.clone()));
        let fills = &mut self.state.borrow_mut().questions.fills;
        let before = fills.insert(new.key.clone(), fill.clone());
        // A key's cell without an entry may be taken by another question.
        let had = old.is_some_and(|old| old.entry.is_some());
        // The key may have learned more names since.
        let fixed = |mut fill: Vec<(String, String)>| {
            fill.retain(|(name, _)| !learned.contains(name));
            fill
        };
        let before = before.filter(|_| had).map(fixed)?;
        if before == fixed(fill) {
            return None;
        }
        Some(format!("another request than before, which was {before:?}"))
    }

    /// S3 and S5 of an answer.
    pub(super) fn belongs(&self, got: &Got<'_>, made: &Made) {
        let request = crate::world::asked(got.visit);
        let strict = self.scenario.settings.strict;
        let own = made.is_own(got.visitor, got.arrived);
        if made.key != got.visit.key {
            return self.misplaced(got, made, "S3", "another key's");
        }
        if !own && let Some(why) = made.is_alone(strict) {
            return self.misplaced(got, made, "S5", why);
        }
        if let Some(why) = self.is_anothers(got, &request, made) {
            return self.misplaced(got, made, "S5", why);
        }
        if let Some(why) = mismatch(&request, made, strict, got.details("fallback")) {
            return self.misplaced(got, made, "S3", why);
        }
        let coding = got.headers.get("content-encoding");
        let coding = coding.and_then(|coding| coding.to_str().ok());
        if coding.is_some_and(|coding| !request.accepts_coding(coding)) {
            self.misplaced(got, made, "S3", "in a coding that it cannot read");
        }
    }

    fn misplaced(&self, got: &Got<'_>, made: &Made, promise: &'static str, why: &str) {
        self.violated(
            got.owner,
            promise,
            format!(
                "visitor {} asked {:?}, got ({}; {why}) {made:?}",
                got.visitor,
                got.visit,
                got.word()
            ),
        );
    }

    /// Why an answer is not for a visitor with these credentials.
    fn is_anothers(&self, got: &Got<'_>, request: &Asked, made: &Made) -> Option<&'static str> {
        let strict = self.scenario.settings.strict;
        let own = made.is_own(got.visitor, got.arrived);
        match (made.asked.credentials(), request.credentials()) {
            (None, None) => None,
            (Some(asked), brought) if own => {
                (Some(asked) != brought).then_some("made for other credentials")
            }
            // Whether it may be shared has been asked.
            (Some(_), _) => None,
            (None, Some(_)) => {
                let fine = strict
                    || concerns_everyone(made.status)
                        && (made.said.is_for_everyone() || self.fell_back(got));
                (!fine).then_some("made for somebody anonymous, and not for everyone")
            }
        }
    }

    /// Whether a visitor got what is stored because the origin failed.
    pub(super) fn fell_back(&self, got: &Got<'_>) -> bool {
        got.on_error()
            || got.details("fallback")
                && (self.found_no_slot(got) || self.closed_alone(got) || self.had_failed(got))
            || self.state.borrow().flights.iter().any(|flight| {
                flight.visitor == got.visitor && flight.began >= got.arrived && flight.has_failed()
            })
    }

    /// Whether the origin had failed so lately that a question may still wait for the end of
    /// a retry mark.
    fn had_failed(&self, got: &Got<'_>) -> bool {
        let since = got.arrived.saturating_sub(micros(RETRY_MARK_MAX));
        let state = self.state.borrow();
        let mut flights = state.flights.iter();
        flights.any(|flight| flight.began >= since && flight.has_failed())
    }

    /// S5: a cookie reaches the visitor whose request caused the fetch.
    pub(super) fn cookies(&self, got: &Got<'_>) {
        for cookie in got.headers.get_all(SET_COOKIE) {
            let serial = cookie
                .to_str()
                .ok()
                .and_then(|cookie| cookie.strip_prefix("id=")?.parse().ok());
            let made = serial.and_then(|serial| self.response(serial));
            if !made.is_some_and(|made| made.is_own(got.visitor, got.arrived)) {
                self.violated(
                    got.owner,
                    "S5",
                    format!("visitor {} got another's cookie {cookie:?}", got.visitor),
                );
            }
        }
    }

    /// O1: in `uptime` nobody walks around the lease by saying `no-store`.
    pub(super) fn walks_around(&self, got: &Got<'_>) {
        let request = crate::world::asked(got.visit);
        let passed = self.scenario.settings.strict
            || request.credentials().is_some()
            || request.is_whole()
            || request.is_conditional();
        let no_store = got.visit.brings.says("cache-control", "no-store");
        if !passed && no_store && got.says("fwd=request") {
            self.violated(
                got.owner,
                "O1",
                format!("visitor {} had the origin asked by no-store", got.visitor),
            );
        }
    }

    /// A request reaches the origin on behalf of a visitor: what is to be seen
    /// of questions and passes.
    pub(super) fn asks(
        &self,
        (visitor, by): (u64, Owner),
        asked: &Asked,
        leased: bool,
        began: Micros,
    ) {
        let Some(request) = self.request_of(visitor) else {
            return;
        };
        if asked.credentials().is_some() && !leased && !asked.is_whole() {
            self.count(Kind::PassedForCredentials);
        }
        if asked.credentials().is_none() && request.credentials().is_some() && leased {
            self.count(Kind::AskedWithCredentials);
        }
        let behind = self.state.borrow().answered.contains(&visitor);
        // Whatever the preset, a refresh behind an answer has nothing of the
        // visitor in it.
        if !(behind && leased && self.scenario.settings.strict) {
            return;
        }
        let learned = self.learned(asked, by);
        let unknown = asked.unknown().into_iter().map(|(name, _)| name);
        let dropped = asked.dropped().map(str::to_owned);
        let brought = unknown.chain(dropped).find(|name| !learned.contains(name));
        if let Some(name) = brought {
            self.violated(
                Owner::World,
                "S3",
                format!("{name} of visitor {visitor}, answered before, is in a refresh at {began}"),
            );
        }
    }
}

/// Which part of a request an answer was not made for, though its content
/// depends on it.
fn mismatch(request: &Asked, made: &Made, strict: bool, fallback: bool) -> Option<&'static str> {
    let asked = &made.asked;
    if asked.plain_target() != request.plain_target() {
        return Some("for another target");
    }
    if asked.is_whole() && !request.is_whole() {
        return Some("for another method");
    }
    // Where the origin failed, a visitor with credentials gets what is for those
    // without.
    // Without, one who takes any media type gets what is stored in another.
    let takes_other = fallback && request.takes_any_media();
    let excused = |name: &str| match name {
        "cookie" | "authorization" => fallback,
        "accept" => takes_other,
        _ => false,
    };
    let same = |name: &str| excused(name) || asked.same(request, name);
    if !made.vary.iter().all(|(name, _)| same(name)) {
        return Some("for other values of what it varies on");
    }
    // RFC 9111 takes the origin at its word, which is its `Vary`.
    if strict {
        return None;
    }
    let Depends {
        unknown, accept, ..
    } = made.depends;
    if unknown != Dependence::No {
        if asked.unknown() != request.unknown() {
            return Some("for other unknown fields");
        }
        if asked.scheme() != request.scheme() {
            return Some("for another scheme");
        }
        let foreign = |name: &&str| {
            let sent = asked.value(name);
            sent.is_some() && sent != request.value(name)
        };
        if REWRITING.iter().any(foreign) {
            return Some("for another's host or target");
        }
    }
    (accept != Dependence::No && asked.media() != request.media() && !takes_other)
        .then_some("for another media type")
}
