//! What may happen to the origin's record, how many requests the origin may have at once,
//! and how many in an hour: B1 to B6.
//!
//! The record is read here as the store has it. What an instance made of it is seen by
//! the requests that reach the origin.

use super::{Flight, Got, Oracle};
use crate::coverage::Kind;
use crate::executor::{Micros, Owner, micros};
use crate::origin::key_of;
use crate::scenario::seconds;
use bytes::Bytes;
use leeward::budget::{Check, Class, Phase, RateLimit, Record, decode};
use leeward::time::Time;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

/// How long an instance may go by what it has read.
const KNOWN_FOR: Duration = Duration::from_secs(1);

/// How long a target whose last probe failed leaves the probe to others.
const OTHERS_FIRST: Duration = Duration::from_secs(1);

/// Between taking a slot and the request there is an election.
const ELECTION: Duration = Duration::from_millis(500);

/// For this long after a store operation went wrong, an instance may not know whether
/// the store works.
const CUT_OFF: Duration = Duration::from_secs(7);

/// What a slot may be kept for one request besides the time at the origin: an
/// election, settling, and finding out that it is free.
const OVERHEAD: Duration = Duration::from_millis(400);

/// How long ago the failure of a page may be that opens the breaker: the failures of
/// others come after it, or its check was given up.
const PAGE_FAILED: Duration = Duration::from_secs(30);

/// What a deadline may be late, for clocks in milliseconds.
const ROUNDING: Duration = Duration::from_millis(2);

/// Whether a value is the origin's record.
pub(super) fn is_budget(id: &str) -> bool {
    id.starts_with("budget/")
}

/// What the oracle knows of the origin's record.
#[derive(Debug, Default)]
pub(super) struct Budget {
    phase: Phase,
    epoch: u32,
    /// When the last epoch began.
    opened: Option<Micros>,
    /// How many exchanges had failed by then.
    failed: usize,
    /// From when and until when the record told instances to send nothing.
    open: Vec<(Micros, Micros)>,
    /// From when on how many slots counted by the breaker's phase, where that changed.
    counted: Vec<(Micros, u32)>,
    /// The record as the store has it.
    record: Option<Record>,
    /// How many requests were sent, whether or not they arrived.
    sent: usize,
}

impl Oracle {
    /// The store has written the origin's record.
    pub(super) fn budget_changed(
        &self,
        id: &str,
        before: Option<&Bytes>,
        after: &Bytes,
        by: Owner,
    ) {
        let Ok(new) = decode(after) else {
            return self.violated(by, "codec", format!("{id} was overwritten with no record"));
        };
        self.trace(by, || {
            format!(
                "stored {id} v{} used {}{} {:?} epoch {}{}",
                new.version,
                new.used(),
                holders(&new),
                new.breaker.phase,
                new.breaker.epoch,
                waiting(&new)
            )
        });
        self.count(Kind::BudgetStored);
        let old = before.and_then(|before| decode(before).ok());
        let expected = old.as_ref().map_or(1, |old| old.version + 1);
        // Clocks that jump can make two creators.
        if self.has_swaps() && new.version != expected && !self.scenario.has_jumps() {
            self.violated(
                by,
                "B1",
                format!(
                    "{id}: version {} was overwritten with version {}, made from another",
                    expected - 1,
                    new.version
                ),
            );
        }
        self.leases_end(id, &new, by);
        self.breaker_turns(old.as_ref(), &new, by);
        let noted = Class::COUNTED.iter().any(|class| {
            let before = old.as_ref().and_then(|old| *old.waiting.of(*class));
            new.waiting.of(*class).is_some() && *new.waiting.of(*class) != before
        });
        if noted {
            self.count(Kind::SlotAwaited);
        }
        let truth = self.clocks.truth();
        let skew = self.scenario.settings.skew;
        let expired = old.iter().flat_map(|old| &old.holders).any(|holder| {
            let gone = !new.holders.iter().any(|other| other.id == holder.id);
            gone && truth.plus(skew) >= holder.deadline.plus(skew) && holder.slots.counted() > 0
        });
        if expired {
            self.count(Kind::SlotExpired);
        }
        self.state.borrow_mut().budget.record = Some(new);
    }

    /// B3: whoever dies loses its slots within a lease and two skews.
    fn leases_end(&self, id: &str, new: &Record, by: Owner) {
        if self.scenario.has_jumps() {
            return;
        }
        let settings = &self.scenario.settings;
        let latest = settings.lease + settings.skew + ROUNDING;
        let latest = self.clocks.truth().plus(latest);
        for holder in &new.holders {
            if holder.deadline > latest {
                self.violated(
                    by,
                    "B3",
                    format!(
                        "{id}: {} holds slots until {}, later than a lease",
                        holder.id, holder.deadline
                    ),
                );
            }
        }
    }

    /// Whether the store has a swap. Where it has none, writes that lose their race are
    /// there for a moment, and instances that cannot write the record for the others'
    /// writes go by what they have.
    pub(super) fn has_swaps(&self) -> bool {
        self.scenario.write_delay.is_zero()
    }

    fn breaker_turns(&self, old: Option<&Record>, new: &Record, by: Owner) {
        let now = self.executor.now();
        let until = match new.breaker.phase {
            Phase::Open { until } => Some(until),
            Phase::Closed | Phase::HalfOpen { .. } => None,
        };
        let skew = self.scenario.settings.skew;
        let swaps = self.has_swaps();
        let failed = {
            let state = self.state.borrow();
            let flights = state.flights.iter();
            flights.filter(|flight| flight.has_failed()).count()
        };
        let slots = self.scenario.settings.slots;
        let (before, failed_before, is_another) = {
            let budget = &mut self.state.borrow_mut().budget;
            let before = budget.phase;
            let counted = match new.breaker.phase {
                Phase::HalfOpen { limit, .. } => limit.min(slots),
                Phase::Closed | Phase::Open { .. } => slots,
            };
            if budget.counted.last().map_or(slots, |last| last.1) != counted {
                budget.counted.push((now, counted));
            }
            let is_another = new.breaker.epoch != budget.epoch;
            if let Some(until) = until {
                let left = until.plus(OTHERS_FIRST + skew).since(self.clocks.truth());
                budget.open.push((now, now + micros(left)));
            }
            let failed_before = budget.failed;
            if is_another {
                budget.opened = Some(now);
                budget.failed = failed;
            }
            budget.phase = new.breaker.phase;
            budget.epoch = new.breaker.epoch;
            (before, failed_before, is_another)
        };
        let old_checks = old
            .map(|old| old.breaker.checks.clone())
            .unwrap_or_default();
        match (old_checks.state, new.breaker.checks.state) {
            (before, after) if before == after => {}
            (_, Check::UnderWay { .. }) => self.count(Kind::OriginChecked),
            (_, Check::Passed { .. }) => self.count(Kind::OriginPassed),
            (_, Check::None) => {}
        }
        if is_another && until.is_some() && swaps {
            self.opens_for_all(old, by);
        }
        match (before, new.breaker.phase) {
            (Phase::Closed, Phase::Open { .. }) => self.count(Kind::BreakerOpened),
            (Phase::HalfOpen { .. }, Phase::Open { .. }) => self.count(Kind::BreakerReopened),
            (Phase::Open { .. }, Phase::HalfOpen { .. }) => self.count(Kind::BreakerProbed),
            (Phase::HalfOpen { .. }, Phase::Closed) => self.count(Kind::BreakerClosed),
            _ => {}
        }
        let reopens = !matches!(before, Phase::Closed);
        let enough = match reopens {
            true => 1,
            false => usize::try_from(self.scenario.settings.failures).unwrap_or(usize::MAX),
        };
        let since = match reopens {
            true => failed.saturating_sub(failed_before),
            false => failed,
        };
        if is_another && until.is_some() && swaps && since < enough {
            let what = format!("the breaker opened after {since} failures of at least {enough}");
            self.violated(by, "B2", what);
        }
    }

    /// B5: the breaker opens because of the origin, not because of some of its pages:
    /// where a page is known that worked, it has failed too, or all slots were taken.
    fn opens_for_all(&self, old: Option<&Record>, by: Owner) {
        let Some(old) = old else { return };
        let Some(page) = &old.breaker.checks.known_good else {
            return;
        };
        let key = key_of(page.path());
        let since = self.executor.now().saturating_sub(micros(PAGE_FAILED));
        let has_failed = {
            let state = self.state.borrow();
            let mut flights = state.flights.iter();
            flights.any(|flight| flight.key == key && flight.failed_since(since))
        };
        if !has_failed && old.used() < self.scenario.settings.slots {
            let what = format!("the breaker opened though {} works", page.path());
            self.violated(by, "B5", what);
        }
    }

    /// B1 and B2: a request reaches the origin.
    pub(super) fn within_budget(&self, flight: &Flight) {
        if self.scenario.has_jumps() || !self.has_swaps() {
            return;
        }
        let now = self.executor.now();
        let busy: Vec<Rc<Flight>> = {
            let state = self.state.borrow();
            let busy = state.flights.iter().filter(|flight| flight.is_counted(now));
            busy.cloned().collect()
        };
        let settings = &self.scenario.settings;
        let slots = settings.slots as usize;
        let mut cut_off: BTreeMap<Owner, usize> = BTreeMap::new();
        let mut counted = 0;
        for flight in &busy {
            match self.is_cut_off(flight) {
                true => *cut_off.entry(flight.owner).or_default() += 1,
                false => counted += 1,
            }
        }
        if counted == slots {
            self.count(Kind::BudgetFull);
        }
        if counted > slots {
            for flight in &busy {
                self.trace(flight.owner, || {
                    format!(
                        "in flight since {:.6}s: key {}",
                        seconds(flight.began),
                        flight.key
                    )
                });
            }
            self.violated(
                flight.owner,
                "B1",
                format!("the origin has {counted} requests at once, and {slots} are allowed"),
            );
        }
        let local = settings.local_slots as usize;
        for (owner, alone) in cut_off {
            if alone > slots + local {
                self.violated(
                    owner,
                    "B1",
                    format!(
                        "the origin has {alone} requests of one instance that was cut off from \
                         the store; {slots} and {local} more are allowed"
                    ),
                );
            }
        }
        self.within_limit(flight, &busy);
        self.within_rate(flight);
    }

    /// A request is sent.
    pub(crate) fn sends(&self) {
        self.state.borrow_mut().budget.sent += 1;
    }

    fn rate(&self) -> Option<RateLimit> {
        let settings = &self.scenario.settings;
        RateLimit::new(settings.per_hour, settings.skew)
    }

    /// B6: no time up to now has more requests than its part of the hour. Those of
    /// instances that were cut off from the store count apart.
    fn within_rate(&self, flight: &Flight) {
        // A store that refuses long values may refuse the record: then instances send
        // requests without it.
        let keeps_record = !self.scenario.is_emptied() && self.scenario.value_max.is_none();
        let Some(limit) = self.rate().filter(|_| keeps_record) else {
            return;
        };
        let all: Vec<Rc<Flight>> = self.state.borrow().flights.clone();
        let counted = all.iter().filter(|flight| !self.is_cut_off(flight));
        let mut sent: Vec<Micros> = counted.map(|flight| flight.sent).collect();
        sent.sort_unstable();
        let last = sent.last().copied().unwrap_or_default();
        for (before, from) in sent.iter().enumerate() {
            let span = Duration::from_micros(last - from);
            let (there, most) = (sent.len() - before, limit.most_in(span));
            if there > most as usize {
                let what = format!("{there} requests were sent within {span:?}; at most {most}");
                return self.violated(flight.owner, "B6", what);
            }
        }
    }

    /// B6: at the end no more tokens are missing than requests were sent: one that only
    /// waited takes none.
    pub(super) fn tokens_are_spent(&self) {
        let Some(limit) = self.rate() else { return };
        let (missing, sent) = {
            let state = self.state.borrow();
            let Some(record) = &state.budget.record else {
                return;
            };
            // What an instance that ends has reserved counts as used.
            let calm = state.accidents.is_empty() && state.hampered.is_empty();
            if !calm || !self.has_swaps() || self.scenario.has_jumps() {
                return;
            }
            let missing = record.rate.missing(self.clocks.truth(), limit);
            (missing as usize, state.budget.sent)
        };
        if missing > sent {
            let what = format!("{missing} tokens are missing after {sent} requests");
            self.violated(Owner::World, "B6", what);
        }
    }

    /// B6 of an answer: the hour is the reason only after some of its requests.
    pub(super) fn refused_rate(&self, got: &Got<'_>) {
        self.count(Kind::RefusedRate);
        let least = self.rate().map_or(u32::MAX, |limit| {
            // Of one class.
            limit.most_in(Duration::ZERO) / u32::try_from(Class::COUNTED.len()).unwrap_or(1)
        });
        let excused = {
            let state = self.state.borrow();
            let accidents = !state.accidents.is_empty() || !state.hampered.is_empty();
            // A request that has a token, and is not sent yet, counts as well.
            let record = state.budget.record.as_ref();
            let taken = record.zip(self.rate()).map_or(0, |(record, limit)| {
                let missing = record.rate.missing(self.clocks.truth(), limit);
                missing.saturating_add(record.rate.reserved())
            });
            accidents || taken >= least || state.flights.len() >= least as usize
        };
        if excused || !self.has_swaps() || self.scenario.has_jumps() {
            return;
        }
        let what = format!(
            "visitor {} was told that the hour is used up, and it was not",
            got.visitor
        );
        self.violated(got.owner, "B6", what);
    }

    /// Whether the instance of a request in flight could not know what the others do.
    fn is_cut_off(&self, flight: &Flight) -> bool {
        let lease = self.scenario.settings.lease;
        let since = flight.began.saturating_sub(micros(CUT_OFF + lease));
        let stalled = flight
            .owner
            .node()
            .is_some_and(|node| self.executor.is_stalled(node));
        let left_alone = {
            let state = self.state.borrow();
            let recovered = state.recovered.get(&flight.owner);
            recovered.is_some_and(|at| *at >= flight.began)
                || state
                    .leaving_alone
                    .iter()
                    .any(|(owner, _)| *owner == flight.owner)
        };
        let refused = self.record_refused_since(flight.owner, since);
        stalled || left_alone || refused || self.hampered_since(flight.owner, since) > 0
    }

    /// B2: while the breaker is open nothing goes out, and half open little does.
    fn within_limit(&self, flight: &Flight, busy: &[Rc<Flight>]) {
        let slack = KNOWN_FOR + ELECTION + self.scenario.write_delay * 10;
        let (phase, since) = {
            let budget = &self.state.borrow().budget;
            let Some(opened) = budget.opened else { return };
            (budget.phase, opened + micros(slack))
        };
        if flight.sent < since || self.is_cut_off(flight) {
            return;
        }
        let sent = busy.iter().filter(|flight| flight.sent >= since);
        let sent = sent.filter(|flight| !self.is_cut_off(flight)).count();
        match phase {
            Phase::Closed => {}
            Phase::HalfOpen { limit, .. } => {
                if sent > limit as usize {
                    let what = format!("half open, {sent} requests were sent; at most {limit}");
                    self.violated(flight.owner, "B2", what);
                }
            }
            Phase::Open { until } => {
                let skew = self.scenario.settings.skew;
                if self.clocks.truth().plus(skew) < until {
                    let what =
                        format!("a request was sent while the breaker is open until {until}");
                    self.violated(flight.owner, "B2", what);
                }
            }
        }
    }

    /// B3: at the end nobody holds a slot but for what is in flight.
    pub(super) fn slots_are_free(&self) {
        if self.scenario.has_jumps() || self.scenario.late().is_some() {
            return;
        }
        let now = self.executor.now();
        let (held, busy) = {
            let state = self.state.borrow();
            let Some(record) = &state.budget.record else {
                return;
            };
            let skew = self.scenario.settings.skew;
            let live = |deadline: Time| self.clocks.truth() < deadline.plus(skew * 2);
            let holders = record.holders.iter();
            let held: u32 = holders
                .filter(|holder| live(holder.deadline))
                .map(|holder| holder.slots.counted())
                .sum();
            let busy = state
                .flights
                .iter()
                .filter(|flight| flight.is_at_origin(now));
            (held as usize, busy.count())
        };
        if held > busy {
            let what = format!("{held} slots are held at the end, with {busy} requests in flight");
            self.violated(Owner::World, "B3", what);
        }
    }

    /// Whether the record told instances in the time of a request to send nothing.
    pub(super) fn was_open(&self, from: Micros) -> bool {
        let now = self.executor.now();
        let open = &self.state.borrow().budget.open;
        open.iter()
            .any(|(since, until)| *since <= now && *until >= from)
    }

    /// Whether a request got no slot for a reason.
    pub(super) fn found_no_slot(&self, got: &Got<'_>) -> bool {
        let waited =
            micros(self.scenario.settings.budget - ELECTION.min(self.scenario.settings.budget));
        let now = self.executor.now();
        self.scenario.has_jumps()
            || self.scenario.settings.per_hour > 0
            || self.was_open(got.arrived)
            || now.saturating_sub(got.arrived) >= waited
            || self.alone_lately(got)
    }

    /// Whether the visitor's instance may have closed the way to the origin by a record of
    /// its own: where the store has no swap, an instance that cannot write the record for
    /// the others' writes goes by what it has seen itself.
    pub(super) fn closed_alone(&self, got: &Got<'_>) -> bool {
        let settings = &self.scenario.settings;
        let back = micros(settings.open_max * 2 + settings.lease);
        let from = got.arrived.saturating_sub(back);
        !self.has_swaps()
            && self.state.borrow().flights.iter().any(|flight| {
                flight.owner == got.owner && flight.has_failed() && flight.began >= from
            })
    }

    /// Whether an instance has left the store alone at some time.
    pub(super) fn has_been_alone(&self, owner: Owner) -> bool {
        let state = self.state.borrow();
        let left_alone = &state.leaving_alone;
        state.recovered.contains_key(&owner) || left_alone.iter().any(|(left, _)| *left == owner)
    }

    /// Whether the visitor's instance may have gone by a record of its own.
    fn alone_lately(&self, got: &Got<'_>) -> bool {
        let back = CUT_OFF + self.scenario.settings.open_max * 2;
        let since = got.arrived.saturating_sub(micros(back));
        self.hampered_since(got.owner, since) > 0 || self.record_refused_since(got.owner, since)
    }

    /// Whether the store has refused the origin's record from an instance since then: the
    /// record of many instances may be too long for it. The instance goes by a record of its
    /// own, as one that is cut off does.
    fn record_refused_since(&self, owner: Owner, since: Micros) -> bool {
        let state = self.state.borrow();
        let refused = state.record_refused.get(&owner);
        refused.is_some_and(|times| times.iter().any(|at| *at >= since))
    }

    /// B2 of an answer: the breaker is the reason only while the record says so.
    pub(super) fn refused_open(&self, got: &Got<'_>) {
        self.count(Kind::RefusedOpen);
        let excused = self.alone_lately(got) || self.scenario.has_jumps() || !self.has_swaps();
        if self.was_open(got.arrived) || excused {
            return;
        }
        let what = format!(
            "visitor {} was told that the breaker is open, and it was not",
            got.visitor
        );
        self.violated(got.owner, "B2", what);
    }

    /// B4: nobody is sent away for want of a slot unless the slots were used most of the
    /// time.
    pub(super) fn refused_busy(&self, got: &Got<'_>) {
        self.count(Kind::RefusedBusy);
        let settings = &self.scenario.settings;
        let lease = settings.lease + settings.skew * 2;
        let from = got.arrived.saturating_sub(micros(lease));
        let excused = {
            let state = self.state.borrow();
            state.accidents.iter().any(|at| *at >= from)
                || state.hampered.values().flatten().any(|at| *at >= from)
        };
        // Half open, few slots count.
        let is_half_open = self
            .state
            .borrow()
            .budget
            .record
            .as_ref()
            .is_some_and(|record| matches!(record.breaker.phase, Phase::HalfOpen { .. }));
        let excused = excused || is_half_open || self.was_open(from) || self.scenario.has_jumps();
        // Tokens that come back may be waited for.
        let excused = excused || settings.per_hour > 0;
        if excused || !self.has_swaps() || self.slots_were_used(got.arrived) {
            return;
        }
        let now = self.executor.now();
        let at_origin: Vec<Rc<Flight>> = {
            let state = self.state.borrow();
            let flights = state.flights.iter();
            let at_origin = flights.filter(|flight| flight.is_at_origin(now));
            at_origin.cloned().collect()
        };
        for flight in at_origin {
            self.trace(flight.owner, || {
                format!("at the origin since {:.6}s", seconds(flight.began))
            });
        }
        let waited = now.saturating_sub(got.arrived);
        self.violated(
            got.owner,
            "B4",
            format!(
                "visitor {} got no slot in {:.3}s, in which {} slots were free most of the time",
                got.visitor,
                seconds(waited),
                settings.slots
            ),
        );
    }

    /// Whether the slots were used for half of the time since `from`, with what each
    /// request needs besides its time at the origin.
    pub(super) fn slots_were_used(&self, from: Micros) -> bool {
        let now = self.executor.now();
        // Without a swap, taking a slot, the election and settling take more than two write
        // delays each.
        let overhead = micros(OVERHEAD + self.scenario.write_delay * 7);
        let state = self.state.borrow();
        let work: Micros = state
            .flights
            .iter()
            .map(|flight| (flight.began, flight.gone().unwrap_or(now).min(now)))
            .filter(|(_, ended)| *ended >= from)
            .map(|(began, ended)| ended.saturating_sub(began.max(from)) + overhead)
            .sum();
        work >= self.slot_time(&state.budget, from, now) / 2
    }

    /// How long all slots together counted from `from` to `now`: while the breaker is half
    /// open, few do.
    fn slot_time(&self, budget: &Budget, from: Micros, now: Micros) -> Micros {
        let mut sum = 0;
        let mut until = now;
        for (since, slots) in budget.counted.iter().rev() {
            let begin = (*since).max(from).min(until);
            sum += u64::from(*slots) * (until - begin);
            until = begin;
        }
        sum + u64::from(self.scenario.settings.slots) * until.saturating_sub(from)
    }
}

fn waiting(record: &Record) -> String {
    let mut text = String::new();
    for class in Class::COUNTED {
        if record.waiting.of(class).is_some() {
            text.push_str(" waiting ");
            text.push_str(class.token());
        }
    }
    text
}

/// The slots of each holder: fill, pass, unsafe, refresh, stream.
fn holders(record: &Record) -> String {
    let each = record.holders.iter().map(|holder| {
        let id = holder.id.to_string();
        let slots = holder.slots;
        format!(
            " {}:{}+{}+{}+{}+{}",
            id.get(..4).unwrap_or(&id),
            slots.fill,
            slots.pass,
            slots.unsafe_,
            slots.refresh,
            slots.stream
        )
    });
    each.collect()
}
