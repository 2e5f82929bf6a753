//! What a visitor may get, and when.

use super::made::concerns_everyone;
use super::{Made, Oracle};
use crate::coverage::Kind;
use crate::executor::{Micros, Owner, micros};
use crate::origin::{SERIAL, body_of, number};
use crate::scenario::{Breadth, Dependence, FaultKind, Method, Visit, seconds};
use crate::stores::Server;
use crate::world::SLOW_UPLOAD;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use leeward::cells::purges_id;
use leeward::purges::{Moments, tags_of};
use leeward::question::parts_of_key;
use leeward::shield::cell_id;
use std::time::Duration;

/// An exchange is called slow from here on: it explains that others waited.
const SLOW: Duration = Duration::from_secs(2);

/// A visitor's request looks for what is stored at most this long before its answer.
const LAST_LOOK: Duration = Duration::from_millis(50);

/// An answer as the visitor has it, before the body.
#[derive(Debug)]
pub(crate) struct Got<'a> {
    pub(crate) visitor: u64,
    pub(crate) visit: &'a Visit,
    pub(crate) owner: Owner,
    pub(crate) arrived: Micros,
    pub(crate) status: StatusCode,
    pub(crate) headers: &'a HeaderMap,
}

impl Got<'_> {
    /// What the shield says about the answer.
    pub(super) fn word(&self) -> &str {
        self.headers
            .get_all("cache-status")
            .iter()
            .next_back()
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    pub(super) fn says(&self, word: &str) -> bool {
        self.word().contains(word)
    }

    /// Whether the `detail` parameter has this word. There may be several, in quotes.
    pub(super) fn details(&self, word: &str) -> bool {
        let detail = self
            .word()
            .split(';')
            .find_map(|parameter| parameter.strip_prefix("detail="));
        let mut words = detail.unwrap_or_default().trim_matches('"').split(", ");
        words.any(|said| said == word)
    }

    /// Whether the visitor has asked for an answer that says nothing but that there
    /// is none.
    fn is_wanted(&self) -> bool {
        let brings = &self.visit.brings;
        match self.status {
            StatusCode::GATEWAY_TIMEOUT => brings.says("cache-control", "only-if-cached"),
            StatusCode::RANGE_NOT_SATISFIABLE => brings.has("range"),
            StatusCode::PRECONDITION_FAILED => {
                brings.has("if-match") || brings.has("if-unmodified-since")
            }
            _ => false,
        }
    }

    /// Where a stale entry may come from.
    pub(super) fn on_error(&self) -> bool {
        self.says("stale-if-error") || self.says("soft-timeout")
    }
}

/// Longest time that writing a purge takes while the store works.
const PURGING: Micros = 5_000_000;

impl Oracle {
    /// A visitor has got the head of an answer. Returns the body that belongs
    /// to it, if the origin made it.
    pub(crate) fn answered(&self, got: &Got<'_>, server: &Server) -> Option<Bytes> {
        let now = self.executor.now();
        self.trace(got.owner, || {
            format!(
                "answers visitor {} after {:.3}s: {} response {:?} {}",
                got.visitor,
                seconds(now - got.arrived),
                got.status.as_u16(),
                got.headers.get(SERIAL),
                got.word()
            )
        });
        self.state.borrow_mut().answered.insert(got.visitor);
        self.in_time(got, now);
        self.cookies(got);
        self.walks_around(got);
        if got.status == StatusCode::NOT_MODIFIED {
            self.not_modified(got);
            return None;
        }
        if got.is_wanted() {
            return None;
        }
        let Some(made) = self.response(number(got.headers, SERIAL)) else {
            self.excused(got, now, server);
            return None;
        };
        self.came(number(got.headers, SERIAL));
        self.belongs(got, &made);
        if got.visit.method == Method::Post {
            self.posted(got, &made, now);
        } else {
            self.fresh_enough(got, &made, now);
            self.seen_since(got, &made);
            self.respects_purges(got, &made);
        }
        self.well_again(got, Some(&made), now);
        self.note(got, &made);
        part_of(body_of(&made.content, made.size), got)
    }

    /// A 304 names what it confirms by its validator alone.
    fn not_modified(&self, got: &Got<'_>) {
        self.count(Kind::NotModified);
        let tag = got.headers.get(http::header::ETAG);
        let known = self.state.borrow().made.iter().any(|made| {
            made.key == got.visit.key
                && tag.is_some_and(|tag| tag.as_bytes() == made.tag.as_bytes())
        });
        if !known {
            self.violated(
                got.owner,
                "S3",
                format!(
                    "visitor {} got 304 with {tag:?}, not this key's",
                    got.visitor
                ),
            );
        }
    }

    /// L2.
    fn in_time(&self, got: &Got<'_>, now: Micros) {
        let most = self.deadline(got.visitor, got.owner);
        if now - got.arrived > micros(most) {
            self.violated(
                got.owner,
                "L2",
                format!(
                    "visitor {} waited {:.3}s for an answer; at most {most:?}",
                    got.visitor,
                    seconds(now - got.arrived)
                ),
            );
        }
    }

    /// How long a visitor's request on a node may take.
    pub(crate) fn deadline(&self, visitor: u64, owner: Owner) -> Duration {
        let mut most = self.scenario.patience();
        let visit = usize::try_from(visitor).ok();
        let visit = visit.and_then(|visitor| self.scenario.visits.get(visitor));
        if visit.is_some_and(Visit::sends_slowly) {
            // At the end of its content it waits for a slot again.
            most += SLOW_UPLOAD + self.scenario.settings.budget;
        }
        for fault in &self.scenario.faults {
            match fault.kind {
                FaultKind::Stall { node } if owner.node() == Some(node) => {
                    most += Duration::from_micros(fault.to - fault.from);
                }
                FaultKind::Jump { millis, .. } => {
                    most += Duration::from_millis(millis.unsigned_abs());
                }
                _ => {}
            }
        }
        most
    }

    /// S4.
    fn fresh_enough(&self, got: &Got<'_>, made: &Made, now: Micros) {
        let skew = self.scenario.settings.skew;
        let direct = made.is_own(got.visitor, got.arrived);
        if direct || self.scenario.has_jumps() {
            return;
        }
        let slack = micros(skew) + 2_000;
        // What was made for another, and is for one use, is nobody else's; a 304 that was
        // asked for since shows that it is current.
        if made.each_use {
            let confirmed = made.confirms && made.started + slack >= got.arrived;
            let failed = !made.no_cache && self.fell_back(got);
            if !confirmed && !failed {
                self.violated(
                    got.owner,
                    "S4",
                    format!("visitor {} got {made:?} without validation", got.visitor),
                );
            }
            if !failed {
                return;
            }
        }
        let since = match made.brief {
            true => self
                .when_it_came(number(got.headers, SERIAL))
                .unwrap_or(made.at),
            false => made.at,
        };
        let age = now - since;
        let (name, most) = if self.fell_back(got) {
            ("if the origin fails", made.lifetime + made.stale_on_error)
        } else if got.says("detail=stale") || got.says("detail=\"stale") {
            (
                "while revalidating",
                made.lifetime + made.stale_while_revalidate,
            )
        } else {
            ("as fresh", made.lifetime)
        };
        // What was asked for after this request came is as good as its own
        // answer.
        let collapsed = got.says("collapsed") && made.started + slack >= got.arrived;
        if age > micros(most) + slack && !collapsed {
            self.violated(
                got.owner,
                "S4",
                format!(
                    "visitor {} got response {:?} at age {:.3}s; {name} at most {most:?}",
                    got.visitor,
                    got.headers.get(SERIAL),
                    seconds(age)
                ),
            );
        }
    }

    /// An unsafe request was answered: what the origin said before is not to be
    /// used any more, if the store could be told.
    fn posted(&self, got: &Got<'_>, made: &Made, now: Micros) {
        let told = self.hampered_since(got.owner, got.arrived) == 0
            && !self.refused_since(got.owner, got.arrived);
        let state = &mut *self.state.borrow_mut();
        if got.status.is_success() && told {
            state.changed.entry(made.key).or_default().push(made.at);
            state.acknowledged.entry(made.key).or_default().push(now);
        }
    }

    /// RFC 9111, 4.4: who comes after an unsafe request was answered sees what
    /// it changed.
    fn seen_since(&self, got: &Got<'_>, made: &Made) {
        if self.fell_back(got) || got.says("store-unavailable") || self.scenario.has_jumps() {
            return;
        }
        let missed = {
            let state = self.state.borrow();
            let changed = state.changed.get(&made.key).into_iter().flatten();
            let acknowledged = state.acknowledged.get(&made.key).into_iter().flatten();
            changed
                .zip(acknowledged)
                .any(|(changed, acknowledged)| *acknowledged < got.arrived && made.at < *changed)
        };
        if missed {
            self.violated(
                got.owner,
                "S6",
                format!(
                    "visitor {} got response {:?}, made before an unsafe request that was \
                     answered before this one came",
                    got.visitor,
                    got.headers.get(SERIAL)
                ),
            );
        }
    }

    /// L3: an error of the shield's own has a cause other than the store.
    fn excused(&self, got: &Got<'_>, now: Micros, server: &Server) {
        self.count(Kind::Error);
        if got.says("wait-budget") {
            self.count(Kind::WaitDeadline);
        }
        if got.says("origin-busy") {
            self.refused_busy(got);
        }
        if got.says("breaker-open") {
            self.refused_open(got);
        }
        if got.says("rate-used-up") {
            self.refused_rate(got);
        }
        self.well_again(got, None, now);
        let settings = &self.scenario.settings;
        let back = settings.retry_max * 2 + settings.skew * 2 + settings.lease;
        let back = micros(back) + self.retry_after_max();
        let from = got.arrived.saturating_sub(back);
        let back = settings.lease * 3 + settings.skew * 2 + settings.budget;
        let accident_from = got.arrived.saturating_sub(micros(back));
        let explained = {
            let state = self.state.borrow();
            let origin = state.flights.iter().any(|flight| {
                flight.key == got.visit.key && flight.explains(got.visit, from, now, micros(SLOW))
            });
            let accident = state.accidents.iter().any(|at| *at >= accident_from);
            // A store that is slow without failing can eat the budget of a request
            // that waits for another's fetch: said among what is not promised. One
            // that says at once that it fails, for reads or for writes, cannot.
            let waited = got.says("wait-budget")
                && (self.is_bereft(&state, got, now)
                    || self.is_held_up(&state, got)
                    // It followed one that got no slot.
                    || self.slots_were_used(got.arrived)
                    || self.slowed_since(got.owner, got.arrived));
            // Whether they are true is asked apart.
            let no_slot =
                got.says("origin-busy") || got.says("breaker-open") || got.says("rate-used-up");
            origin || accident || waited || no_slot || self.scenario.has_jumps()
        };
        if !explained {
            self.violated(
                got.owner,
                "L3",
                format!(
                    "visitor {} got {} ({}) although the origin answers",
                    got.visitor,
                    got.status.as_u16(),
                    got.word()
                ),
            );
        }
        self.nothing_usable(got, server);
    }

    /// Whether a request waited longer than it may because holders of the
    /// lease were lost to it one after the other: nobody can tell a holder
    /// whose word the store has lost from one that has crashed.
    fn is_bereft(&self, state: &super::State, got: &Got<'_>, now: Micros) -> bool {
        let settings = &self.scenario.settings;
        let lease = settings.lease + settings.skew * 2;
        let from = got.arrived.saturating_sub(micros(lease));
        let key = self.key_text(&crate::world::asked(got.visit));
        let lost = state.leases.values().filter(|held| {
            held.key.starts_with(&key)
                && (from..now).contains(&held.at)
                && held
                    .settled
                    .is_none_or(|settled| settled > held.at + micros(settings.lease))
        });
        let lost = u32::try_from(lost.count()).unwrap_or(u32::MAX);
        lost > 0 && settings.budget <= lease.saturating_mul(lost) + Duration::from_secs(3)
    }

    /// Whether an election for the key that a request waited for was held up by the
    /// store: until a lease has passed nobody can tell it from a holder that fetches.
    fn is_held_up(&self, state: &super::State, got: &Got<'_>) -> bool {
        let settings = &self.scenario.settings;
        let lease = settings.lease + settings.skew * 2;
        let from = got.arrived.saturating_sub(micros(lease));
        let key = self.key_text(&crate::world::asked(got.visit));
        state.elections.iter().any(|(cell, owner, at)| {
            let times = state.slowed.get(owner).map_or(&[][..], Vec::as_slice);
            *at >= from && cell.starts_with(&key) && times.iter().any(|hampered| hampered >= at)
        })
    }

    /// L3: no entry that may be used when the origin fails lay in the store.
    fn nothing_usable(&self, got: &Got<'_>, server: &Server) {
        // What was handed on without a lease is not the cell's affair, unless a
        // visitor is passed for credentials: better a page of nobody's than none.
        let request = crate::world::asked(got.visit);
        let fits = self
            .scenario
            .resources
            .get(got.visit.key)
            .is_some_and(|resource| {
                resource.depends.credentials != Dependence::ByVary && !self.scenario.settings.strict
            });
        let passed = got.says("fwd=bypass") && !(fits && request.credentials().is_some());
        let special = request.is_whole() || request.is_conditional();
        if passed || special || self.scenario.has_jumps() {
            return;
        }
        let lately = got.arrived.saturating_sub(7_000_000);
        if self.hampered_since(got.owner, lately) > 0 {
            return;
        }
        // The instance goes by what it keeps of a key whose cell the store has refused to it.
        if self.keeps_alone(got) || self.is_being_purged(got) {
            return;
        }
        let Some(cell) = self.cell_for(got, server) else {
            return;
        };
        let Some(entry) = cell.entry else { return };
        // A refusal is not for those with credentials, not even when the origin fails.
        let known = request.credentials().is_some() && !self.scenario.settings.strict;
        if known && !concerns_everyone(entry.status) {
            return;
        }
        let node = got.owner.node().unwrap_or(usize::MAX);
        let now = self.clocks.at(node);
        let slack = self.scenario.settings.skew + Duration::from_millis(20);
        // Two swaps, and until the last is visible.
        let since = micros(Duration::from_millis(100) + self.scenario.write_delay * 6);
        let settled = self
            .response(number(&entry.headers, SERIAL))
            .is_some_and(|made| made.at + since < got.arrived);
        if settled
            && !entry.invalidated
            && cell.marks.invalidated.is_none()
            && entry.freshness.may_serve_on_error(now.plus(slack))
        {
            self.violated(
                got.owner,
                "L3",
                format!(
                    "visitor {} got {} ({}) although response {} may be used",
                    got.visitor,
                    got.status.as_u16(),
                    got.word(),
                    number(&entry.headers, SERIAL)
                ),
            );
        }
    }

    /// Whether the administrator is purging more than the visitor's key: the instance that was
    /// asked knows it before the store does.
    fn is_being_purged(&self, got: &Got<'_>) -> bool {
        let now = self.executor.now();
        self.scenario.purges.iter().any(|call| {
            let is_under_way = call.at <= now && now < call.at.saturating_add(PURGING);
            call.breadth != Breadth::Key && is_under_way && call.concerns(got.visit.key)
        })
    }

    /// Whether the store has refused the visitor's instance the cell of its key, or of one of
    /// the key's variants, for its length. The instance then has a key's cell of its own, as
    /// if the store had taken it: that knows of other selecting fields and of another
    /// resident than the cell in the store, which stays as it was.
    fn keeps_alone(&self, got: &Got<'_>) -> bool {
        let key = self.key_text(&crate::world::asked(got.visit));
        let refused = &self.state.borrow().refused_keys;
        refused.iter().any(|(owner, refused)| {
            let rest = refused.strip_prefix(&key);
            *owner == got.owner
                && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('\n'))
        })
    }

    /// The cell of a visitor's question, as its node sees it. A store may show a write late to
    /// a node, and later than agreed: nobody can serve what it cannot see.
    fn cell_for(&self, got: &Got<'_>, server: &Server) -> Option<leeward::cell::Cell> {
        let request = crate::world::asked(got.visit);
        let key = self.key_text(&request);
        // The last look was before the answer.
        let seen_since = self.executor.now().saturating_sub(micros(LAST_LOOK));
        let get = |id: &str| server.seen_since(id, got.owner, seen_since);
        let primary = super::cells::read(&get(&cell_id(&key))?)?;
        let vary: Vec<String> = primary
            .marks
            .vary
            .iter()
            .map(|known| known.name.clone())
            .collect();
        let names = self.names(&request, &vary)?;
        let resident = primary.marks.resident.as_deref();
        let cell = match resident.is_none_or(|resident| resident == names.selector) {
            true => primary,
            false => {
                let variant = super::cells::read(&get(&cell_id(&names.question))?)?;
                self.as_purged(
                    variant,
                    Moments {
                        softened: primary.marks.softened,
                        invalidated: primary.marks.invalidated,
                        purged: primary.marks.purged,
                    },
                )
            }
        };
        let stored = get(&purges_id(super::ORIGIN));
        let Some(Ok(purges)) = stored.map(|stored| leeward::purges::decode(&stored)) else {
            return Some(cell);
        };
        let (_, target) = parts_of_key(&key)?;
        let tags = cell.entry.iter().flat_map(|entry| tags_of(&entry.headers));
        let tags = tags.map(|tag| purges.of_tag(tag));
        let moments = tags.fold(purges.of_url(None, target), Moments::or);
        Some(self.as_purged(cell, moments))
    }

    /// A cell after purges at these moments.
    fn as_purged(&self, mut cell: leeward::cell::Cell, moments: Moments) -> leeward::cell::Cell {
        let skew = self.scenario.settings.skew;
        cell.marks.invalidated = cell.marks.invalidated.max(moments.invalidated);
        let purged = moments.purged.map(|purged| purged.plus(skew));
        cell.entry
            .take_if(|entry| purged.is_some_and(|purged| entry.request_time <= purged));
        if let (Some(entry), Some(softened)) = (&mut cell.entry, moments.softened)
            && entry.request_time <= softened.plus(skew)
        {
            entry.freshness.end_at(softened);
        }
        cell
    }

    /// L1: some time after the last fault all is as if there had been none.
    fn well_again(&self, got: &Got<'_>, made: Option<&Made>, now: Micros) {
        let settled = self.scenario.healed + micros(self.scenario.recovery());
        // Where an hour's requests are used up, nothing is filled nor refreshed.
        let is_bounded = self.scenario.settings.per_hour > 0;
        if !got.visit.tail || got.arrived < settled || self.scenario.has_jumps() || is_bounded {
            return;
        }
        let Some(made) = made.filter(|made| made.normal) else {
            // Visitors may ask for more of what may not be stored than the slots bear. Where
            // the store has no swap, they wait for the few slots that instances have alone:
            // B4 is not asked there.
            let is_full = !self.has_swaps() || self.slots_were_used(got.arrived);
            if got.says("origin-busy") && is_full {
                return;
            }
            return self.violated(
                got.owner,
                "L1",
                format!(
                    "visitor {} got {} ({}) long after the last fault",
                    got.visitor,
                    got.status.as_u16(),
                    got.word()
                ),
            );
        };
        // What the store does not take is refreshed in each instance's memory. Who comes
        // to a new instance gets what the store still has, and a refresh behind it.
        let key = self.key_text(&crate::world::asked(got.visit));
        let is_refused = {
            let refused = &self.state.borrow().refused_keys;
            refused.iter().any(|(_, refused)| refused.starts_with(&key))
        };
        if is_refused {
            return;
        }
        let settings = &self.scenario.settings;
        let most = made.lifetime + settings.lease + settings.skew * 2 + Duration::from_secs(5);
        // A refresh yields its slot to requests that visitors wait for, and may wait for one as
        // long as these use the slots.
        let due = made.at + micros(made.lifetime);
        if now - made.at > micros(most) && !self.slots_were_used(due) {
            self.violated(
                got.owner,
                "L1",
                format!(
                    "visitor {} got response {:?} at age {:.3}s long after the last fault; a \
                     refresh was due within {most:?}",
                    got.visitor,
                    got.headers.get(SERIAL),
                    seconds(now - made.at)
                ),
            );
        }
    }

    fn note(&self, got: &Got<'_>, made: &Made) {
        let direct = made.is_own(got.visitor, got.arrived);
        if got.says("fwd-status=304") {
            self.count(Kind::Revalidated);
        }
        self.note_company(got, made, direct);
        if got.status.is_server_error() {
            return self.count(Kind::OriginError);
        }
        if got.says("store-unavailable") {
            self.count(Kind::WithoutStore);
        }
        self.count(if got.says("soft-timeout") {
            Kind::WaitSoft
        } else if got.says("stale-if-error") {
            Kind::StaleOnError
        } else if direct {
            Kind::Direct
        } else if got.says("collapsed") {
            let number = number(got.headers, SERIAL);
            match self.state.borrow().stored.contains(&number) {
                true => Kind::WaitFilled,
                false => Kind::WaitHanded,
            }
        } else if got.says("stale") && !got.says("fwd=stale") {
            Kind::Stale
        } else {
            Kind::Fresh
        });
    }

    /// Who shares an answer with whom.
    fn note_company(&self, got: &Got<'_>, made: &Made, direct: bool) {
        if made.to_itself && direct {
            self.count(Kind::PassedRedirect);
        }
        if !direct && !made.normal {
            self.count(Kind::SharedError);
        }
        let followed = got.says("collapsed") && !direct;
        let request = crate::world::asked(got.visit);
        let other = self
            .request_of(made.visitor)
            .is_some_and(|leader| leader.credentials() != request.credentials());
        if followed && other {
            self.count(Kind::FollowerWithOtherCookie);
        }
    }

    /// S3: what looks like the whole body is the whole body.
    pub(crate) fn read_whole(&self, got: &Got<'_>, body: &Bytes, expected: &Bytes) {
        let announced = got
            .headers
            .get(http::header::CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        // A client sees that a body is shorter than announced.
        if announced.is_some_and(|announced| announced > body.len()) {
            return;
        }
        if body != expected {
            self.violated(
                got.owner,
                "S3",
                format!(
                    "visitor {} got a body of {} bytes that the origin did not make",
                    got.visitor,
                    body.len()
                ),
            );
        }
    }
}

/// What of a body an answer has.
fn part_of(body: Bytes, got: &Got<'_>) -> Option<Bytes> {
    if got.status != StatusCode::PARTIAL_CONTENT {
        return Some(body);
    }
    let range = got
        .headers
        .get(http::header::CONTENT_RANGE)?
        .to_str()
        .ok()?;
    let (first, last) = range
        .strip_prefix("bytes ")?
        .split_once('/')?
        .0
        .split_once('-')?;
    let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last && last < body.len()).then(|| body.slice(first..=last))
}
