//! What one instance knows about slots: which it has, which requests wait for one, and
//! what is to be written into the shared record. Nothing here waits.

use super::slot::{Pool, Slot};
use super::tokens::{Settled, Taken, Token, Tokens};
use crate::budget::{
    BreakerSettings, Class, Halt, HaltedBy, Holder, KnownGood, Limit, Limits, Outcome, PerClass,
    Phase, RENEWED_WITHIN, Rate, Record, Report, SettingsMark,
};
use crate::cell::Nonce;
use crate::cells::Backing;
use crate::time::Time;
use bytes::Bytes;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

/// How long the record counts after it was read.
pub(super) const KNOWN_FOR: Duration = Duration::from_secs(1);

/// No pause between two looks for a free slot is longer.
const LOOK_PAUSE_MAX: Duration = Duration::from_secs(1);

/// How long an instance keeps its slots while others wait for one.
const QUANTUM: Duration = Duration::from_secs(1);

/// How long an idle slot is kept for the next request before it is given back or left
/// to expire.
pub(super) const LINGER: Duration = Duration::from_millis(100);

/// A request is not started with a slot in the last part of its lease, this one: its
/// first renewal has to be in time though others write the record as well.
const START_BEFORE: u32 = 3;

/// Most outcomes that wait to be written. Beyond this the oldest is forgotten.
const REPORTS_MAX: usize = 64;

/// A waiting class is served at the latest after this many slots went to others.
const SKIPPED_MAX: u32 = 3;

const ALL: [Class; 5] = [
    Class::Fill,
    Class::Pass,
    Class::Unsafe,
    Class::Refresh,
    Class::Stream,
];

/// How the budget is set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) limits: Limits,
    /// Most requests in flight of this instance while the store fails.
    pub(super) local_slots: u32,
    pub(super) breaker: BreakerSettings,
    /// Whether a slot that is idle may be kept for the next request. Not where the
    /// instance ends with its request.
    pub(super) keeps_idle: bool,
    /// Tells the node's settings from those of others.
    pub(super) mark: SettingsMark,
}

impl Settings {
    /// How long an idle slot is kept.
    fn linger(&self) -> Duration {
        match self.keeps_idle {
            true => LINGER,
            false => Duration::ZERO,
        }
    }

    pub(super) fn limits(&self, backing: Backing) -> Limits {
        Limits {
            slots: match backing {
                Backing::Shared => self.limits.slots,
                Backing::Local => self.local_slots,
            },
            ..self.limits
        }
    }

    /// When a slot that ends at `deadline` is to be renewed.
    fn renewal(&self, deadline: Time) -> Time {
        let lease = self.limits.lease;
        deadline.minus(lease.saturating_sub(lease / RENEWED_WITHIN))
    }

    /// Until when a request may be started with a slot that ends at `deadline`.
    fn acts_until(&self, deadline: Time) -> Time {
        self.lapses(deadline)
            .minus(self.limits.lease / START_BEFORE)
    }

    /// From when on others may take a slot that ends at `deadline`.
    fn lapses(&self, deadline: Time) -> Time {
        deadline.minus(self.limits.clock_skew)
    }
}

/// What an instance knows.
pub(super) struct Slots<W> {
    /// Identifies the instance among those that wait.
    me: Nonce,
    waiters: PerClass<VecDeque<Waiter<W>>>,
    /// How many slots in a row went to other classes while this one waited.
    skipped: PerClass<u32>,
    /// The slots from which requests are served.
    grant: Option<Grant>,
    tokens: Tokens,
    /// Earlier ones whose requests are still in flight, or that are being given back.
    old: Vec<Grant>,
    pub(super) known: Option<Known>,
    /// The record while the store fails.
    pub(super) alone: Record,
    reports: VecDeque<Report>,
    /// A page that has just worked, unless the record has one that is as useful.
    found: Option<KnownGood>,
    /// The last number of a waiter or grant.
    last: u64,
    /// No look for a free slot before this.
    pub(super) look_after: Time,
    /// Whether the task is reading or writing the record.
    pub(super) acting: bool,
    /// No renewal before this: the last write failed.
    pub(super) write_after: Time,
}

/// Slots that were taken together.
struct Grant {
    number: u64,
    id: Nonce,
    backing: Backing,
    epoch: u32,
    /// What this instance has. The record may say more, never less.
    held: PerClass<u32>,
    /// How many of them requests use.
    used: PerClass<u32>,
    deadline: Time,
    since: Time,
    /// Other instances wait, or the epoch is over: slots that become free are given
    /// back.
    yields: bool,
    /// When a request last ended, or slots were taken.
    idle_since: Time,
    /// The idle slots are left to expire.
    rests: bool,
    /// The record has other counts.
    differs: bool,
}

impl Grant {
    fn idle(&self) -> u32 {
        self.held.counted().saturating_sub(self.used.counted())
    }

    /// When the slots end unless renewed, as it counts at `now`: a clock that was set back
    /// does not lengthen a lease.
    fn ends(&self, now: Time, settings: &Settings) -> Time {
        self.deadline.within(settings.limits.lease, now)
    }

    /// Whether a request may be started with a slot of it at `now`. While the store
    /// fails nobody else can take the slots of an instance, so they do not expire.
    fn is_live(&self, now: Time, settings: &Settings) -> bool {
        self.backing == Backing::Local || now < settings.acts_until(self.ends(now, settings))
    }
}

/// The record as it was read or written last.
pub(super) struct Known {
    pub(super) record: Record,
    pub(super) raw: Option<Bytes>,
    pub(super) backing: Backing,
    pub(super) at: Time,
}

impl Known {
    /// Whether it is new enough at `now`.
    fn counts(&self, now: Time) -> bool {
        self.at.was_within(KNOWN_FOR, now)
    }
}

/// A request that waits.
pub(super) struct Waiter<W> {
    number: u64,
    target: u32,
    /// Whether it is to be sent, and not under way already.
    needs_token: bool,
    verdict: Rc<RefCell<Option<Verdict>>>,
    _wake: W,
}

/// What a request that waits is told.
pub(super) enum Verdict {
    Slot(Slot),
    Halted(Halt),
}

/// A change of the record, and what it means for this instance once it is stored.
pub(super) struct Draft {
    pub(super) record: Record,
    /// Whether it is worth a write.
    pub(super) writes: bool,
    /// Whether the breaker opened, closed, or let the probe go.
    pub(super) turns: bool,
    /// How many reports are in it.
    reported: usize,
    /// The grants that are renewed, with their slots.
    renewed: Vec<(u64, Nonce, PerClass<u32>)>,
    /// The grants that are given back.
    returned: Vec<u64>,
    /// The slots that are taken, and the grant that they belong to.
    taken: PerClass<u32>,
    /// The tokens that are reserved, and under which name.
    tokens: Taken,
    reservation: Nonce,
    /// What it says of those that this instance had.
    settled: Settled,
    /// The page that this instance asks for to check the origin, once the draft is
    /// stored.
    pub(super) checks: Option<KnownGood>,
    id: Nonce,
    /// The end of what is taken or renewed.
    deadline: Time,
    /// When the first of the slots lapses that are renewed and in use.
    pub(super) lapses: Option<Time>,
}

impl Draft {
    /// Whether a record that another instance has written since contains this draft:
    /// its swap happened before.
    pub(super) fn is_in(&self, record: &Record) -> bool {
        record.holders.iter().any(|holder| {
            let took = !self.taken.is_empty() && holder.id == self.id;
            let renewed = self.renewed.iter().any(|renewed| renewed.1 == holder.id);
            (took || renewed) && holder.deadline == self.deadline
        }) || record.rate.is_reserved(self.reservation)
    }
}

impl Draft {
    /// Reserves the tokens for `requests` of a class, of which this instance holds some.
    fn take_tokens(
        &mut self,
        class: Class,
        requests: u32,
        held: &mut u32,
        now: Time,
        limits: &Limits,
    ) {
        let lacking = requests.saturating_sub(*held);
        *held = held.saturating_sub(requests);
        let id = self.reservation;
        let taken = self.record.take_tokens(id, class, lacking, now, limits);
        let tokens = self.tokens.of_mut(class);
        for from in Class::COUNTED {
            let tokens = tokens.of_mut(from);
            *tokens = tokens.saturating_add(*taken.of(from));
        }
        self.writes |= !taken.is_empty();
    }
}

impl<W> Slots<W> {
    pub(super) fn new(me: Nonce) -> Self {
        Slots {
            me,
            waiters: PerClass {
                fill: VecDeque::new(),
                pass: VecDeque::new(),
                unsafe_: VecDeque::new(),
                refresh: VecDeque::new(),
                stream: VecDeque::new(),
            },
            skipped: PerClass::default(),
            grant: None,
            tokens: Tokens::default(),
            old: Vec::new(),
            known: None,
            alone: Record::default(),
            reports: VecDeque::new(),
            found: None,
            last: 0,
            look_after: Time::default(),
            acting: false,
            write_after: Time::default(),
        }
    }

    /// The record while the store fails: what this instance has is all that counts.
    pub(super) fn alone(&self, now: Time, settings: &Settings) -> Record {
        let grants = self.grant.iter().chain(&self.old);
        let local = grants.filter(|grant| grant.backing == Backing::Local);
        Record {
            holders: local
                .map(|grant| Holder {
                    id: grant.id,
                    epoch: grant.epoch,
                    slots: grant.held,
                    deadline: now.plus(settings.limits.lease),
                })
                .collect(),
            ..self.alone.clone()
        }
    }

    fn number(&mut self) -> u64 {
        self.last = self.last.wrapping_add(1);
        self.last
    }

    /// Queues a request. The host bounds the requests of an instance, and so the
    /// queues.
    pub(super) fn queue(
        &mut self,
        (class, target): (Class, u32),
        needs_token: bool,
        wake: W,
        verdict: &Rc<RefCell<Option<Verdict>>>,
    ) -> u64 {
        let number = self.number();
        self.waiters.of_mut(class).push_back(Waiter {
            number,
            target,
            needs_token,
            verdict: Rc::clone(verdict),
            _wake: wake,
        });
        number
    }

    /// Takes a request out of its queue, if it still waits.
    pub(super) fn forget(&mut self, class: Class, number: u64) -> Option<Waiter<W>> {
        let queue = self.waiters.of_mut(class);
        let position = queue.iter().position(|waiter| waiter.number == number)?;
        queue.remove(position)
    }

    /// How many requests of each class wait for a token as well.
    fn wanting(&self) -> PerClass<u32> {
        let mut wanting = PerClass::default();
        for class in Class::COUNTED {
            let waiters = self.waiters.of(class).iter();
            let needing = waiters.filter(|waiter| waiter.needs_token).count();
            *wanting.of_mut(class) = u32::try_from(needing).unwrap_or(u32::MAX);
        }
        wanting
    }

    /// Whether a request waits.
    pub(super) fn has_waiters(&self) -> bool {
        Class::COUNTED
            .iter()
            .any(|class| !self.waiters.of(*class).is_empty())
    }

    /// Why no request of `class` to `target` goes out for now, if this instance has looked
    /// lately.
    pub(super) fn halted(
        &self,
        class: Class,
        target: u32,
        now: Time,
        settings: &Settings,
    ) -> Option<Halt> {
        let known = self.known.as_ref()?;
        if !known.counts(now) {
            return None;
        }
        let limits = settings.limits(known.backing);
        let rate = self.known_rate(&known.record, &limits);
        let asked = (class, target, true);
        match self.limit(&known.record, &rate, asked, now, &limits) {
            Limit::Halted(halt) => Some(halt),
            Limit::Whole | Limit::Slots(_) => None,
        }
    }

    /// Whether the record is to be read before a refresh is started that may turn out to
    /// be refused: this instance has not looked lately, and the rate is bounded, or the
    /// breaker was not closed when it looked last, or it never has.
    pub(super) fn has_to_look(&self, now: Time, settings: &Settings) -> bool {
        match &self.known {
            None => true,
            Some(known) if known.counts(now) => false,
            Some(known) => {
                settings.limits.rate.is_some()
                    || !matches!(known.record.breaker.phase, Phase::Closed)
            }
        }
    }

    /// Notes the record as it was read, if this instance has no slots that it says
    /// something about.
    pub(super) fn look(&mut self, known: Known) {
        if self.grant.is_none() && self.old.is_empty() && !self.acting {
            self.known = Some(known);
        }
    }

    /// What is left of the rate, as far as this instance knows.
    fn known_rate(&self, record: &Record, limits: &Limits) -> Rate {
        match limits.rate {
            Some(limit) => self.tokens.known(&record.rate, limit),
            None => Rate::default(),
        }
    }

    /// What a request has to wait for. The tokens that this instance has reserved do not
    /// count in the record any more.
    fn limit(
        &self,
        record: &Record,
        rate: &Rate,
        (class, target, needs_token): (Class, u32, bool),
        now: Time,
        limits: &Limits,
    ) -> Limit {
        if limits.slots == 0 {
            return Limit::Halted(Halt {
                until: now.plus(KNOWN_FOR),
                by: HaltedBy::Store,
            });
        }
        match needs_token && self.tokens.free(class, now) == 0 {
            true => record.limit(rate, class, target, now, limits),
            false => record.breaker.limit(target, now, limits.slots),
        }
    }

    /// Notes what became of a request.
    pub(super) fn report(&mut self, report: Report) {
        if self.reports.len() >= REPORTS_MAX {
            self.reports.pop_front();
        }
        self.reports.push_back(report);
    }

    /// Whether the record, as this instance knows it, has no page that worked and is as
    /// useful as `page`; as any page if `page` is none.
    pub(super) fn seeks(&self, page: Option<&KnownGood>) -> bool {
        let known = self.known.as_ref();
        known.is_some_and(|known| known.record.breaker.checks.prefers(page))
    }

    /// Notes a page that has just worked.
    pub(super) fn found(&mut self, page: KnownGood) {
        let is_better = match &self.found {
            Some(found) => page.is_better_than(found),
            None => true,
        };
        if is_better && self.seeks(Some(&page)) {
            self.found = Some(page);
        }
    }

    fn grant_mut(&mut self, number: u64) -> Option<&mut Grant> {
        self.grant
            .iter_mut()
            .chain(&mut self.old)
            .find(|grant| grant.number == number)
    }

    /// Notes that the request of a token is sent.
    pub(super) fn spend(&mut self, token: Token) {
        self.tokens.spend(token);
    }

    /// Takes back a slot that is no longer used, and a token that was not.
    pub(super) fn give_back(&mut self, number: u64, class: Class, token: Option<Token>, now: Time) {
        if let Some(token) = token {
            self.tokens.take_back(token, now);
        }
        if let Some(grant) = self.grant_mut(number) {
            let used = grant.used.of_mut(class);
            *used = used.saturating_sub(1);
            if class == Class::Stream {
                grant.held.stream = grant.held.stream.saturating_sub(1);
                grant.differs = true;
            }
            grant.idle_since = now;
            grant.rests = false;
        }
    }

    /// Counts a slot as one of an answer that does not end; `false` if there are too
    /// many.
    pub(super) fn become_stream(&mut self, number: u64, class: Class, settings: &Settings) -> bool {
        let known = self.known.as_ref();
        let open = known.map_or(0, |known| known.record.held(Class::Stream));
        let most = settings.limits.streams;
        let Some(grant) = self.grant_mut(number) else {
            return false;
        };
        if open.max(grant.used.stream) >= most {
            return false;
        }
        for counts in [&mut grant.used, &mut grant.held] {
            let from = counts.of_mut(class);
            *from = from.saturating_sub(1);
            counts.stream = counts.stream.saturating_add(1);
        }
        grant.differs = true;
        true
    }

    /// When there is something to do; `None` if there is nothing.
    pub(super) fn next(&self, now: Time, settings: &Settings) -> Option<Time> {
        let mut next: Option<Time> = None;
        let mut due = |at: Time| next = Some(next.map_or(at, |next| next.min(at)));
        if self.has_waiters() {
            due(self.look_after.within(LOOK_PAUSE_MAX, now));
        }
        let write_after = self.write_after.within(settings.limits.lease, now);
        if self.has_urgent_report() || self.has_first_page() {
            due(write_after);
        }
        let linger = settings.linger();
        if let Some(at) = self.tokens.next(&self.wanting(), linger, now) {
            due(at.max(write_after));
        }
        for grant in self.grant.iter().chain(&self.old) {
            let deadline = grant.ends(now, settings);
            if grant.used.is_empty() && now >= settings.acts_until(deadline) {
                continue;
            }
            if !grant.used.is_empty() && grant.backing == Backing::Shared {
                due(settings.renewal(deadline).max(write_after));
            }
            if grant.differs {
                due(write_after);
            } else if (grant.idle() > 0 || grant.used.is_empty()) && !grant.rests {
                let pause = match grant.yields {
                    true => Duration::ZERO,
                    false => settings.linger(),
                };
                let rested = grant.idle_since.plus(pause).within(pause, now);
                due(rested.max(write_after));
            }
        }
        next
    }

    /// Whether a page was found that worked, and the record has none.
    fn has_first_page(&self) -> bool {
        let known = self.known.as_ref();
        self.found.is_some()
            && known.is_some_and(|known| known.record.breaker.checks.known_good.is_none())
    }

    fn has_urgent_report(&self) -> bool {
        let known = self.known.as_ref();
        let wants_success = known.is_some_and(|known| known.record.breaker.wants_success());
        match wants_success {
            true => !self.reports.is_empty(),
            false => self.reports.iter().any(is_failure),
        }
    }

    /// The class whose first waiter is next, in the order of precedence, except that
    /// no class is passed over too often.
    fn next_class(&self, may: impl Fn(Class) -> bool) -> Option<Class> {
        let waiting = || {
            Class::COUNTED
                .into_iter()
                .filter(|class| !self.waiters.of(*class).is_empty() && may(*class))
        };
        waiting()
            .filter(|class| *self.skipped.of(*class) >= SKIPPED_MAX)
            .max_by_key(|class| *self.skipped.of(*class))
            .or_else(|| waiting().next())
    }

    /// Gives an idle slot to the next request. `is_alone` says that the store fails at
    /// `now`, or that this instance does without the record. The caller drops the waiter, which wakes the request, when
    /// this is no longer borrowed.
    pub(super) fn serve_one(
        &mut self,
        pool: &Rc<dyn Pool>,
        is_alone: bool,
        now: Time,
        settings: &Settings,
    ) -> Option<Waiter<W>> {
        let known = self.known.as_ref()?;
        let grant = self.grant.as_ref()?;
        let usable = !grant.yields
            && grant.backing == known.backing
            && grant.epoch == known.record.breaker.epoch
            && grant.is_live(now, settings)
            && match known.backing {
                Backing::Shared => known.counts(now),
                // An attempt to reach a store that fails may hang: until it has ended, what
                // this instance has alone is all that there is. A store that works again
                // answers soon, and what this instance has alone is not in its record.
                Backing::Local => is_alone && (known.counts(now) || self.acting),
            };
        if !usable || grant.idle() == 0 {
            return None;
        }
        let limits = settings.limits(grant.backing);
        let source = |to: Class| {
            let is_idle = |class: Class| grant.held.of(class) > grant.used.of(class);
            [to].into_iter()
                .chain(Class::COUNTED)
                .find(|from| is_idle(*from) && known.record.may_reuse(*from, to, now, &limits))
        };
        let needs_token = |class| {
            let first = self.waiters.of(class).front();
            limits.rate.is_some() && first.is_some_and(|waiter: &Waiter<W>| waiter.needs_token)
        };
        let has_token = |class| !needs_token(class) || self.tokens.free(class, now) > 0;
        let class = self.next_class(|class| has_token(class) && source(class).is_some())?;
        let from = source(class)?;
        let token = match needs_token(class) {
            true => Some(self.tokens.give(class, now)?),
            false => None,
        };
        let waiter = self.waiters.of_mut(class).pop_front()?;
        for other in Class::COUNTED {
            let waits = other != class && !self.waiters.of(other).is_empty();
            let skipped = self.skipped.of_mut(other);
            *skipped = match waits {
                true => skipped.saturating_add(1),
                false => 0,
            };
        }
        let grant = self.grant.as_mut()?;
        if from != class {
            let left = grant.held.of_mut(from);
            *left = left.saturating_sub(1);
            let more = grant.held.of_mut(class);
            *more = more.saturating_add(1);
            // The store learns it with the next write.
            let record = self.known.as_mut().map(|known| &mut known.record);
            if let Some(holder) =
                record.and_then(|record| record.holders.iter_mut().find(|h| h.id == grant.id))
            {
                holder.slots = grant.held;
            }
        }
        let used = grant.used.of_mut(class);
        *used = used.saturating_add(1);
        grant.rests = false;
        let slot = Slot::new(
            Rc::clone(pool),
            grant.number,
            (class, waiter.target),
            grant.epoch,
            token,
        );
        *waiter.verdict.borrow_mut() = Some(Verdict::Slot(slot));
        Some(waiter)
    }

    /// The record after all that this instance has to say. What it gives back is no
    /// longer used from now on, whatever becomes of the write.
    pub(super) fn draft(
        &mut self,
        current: &Record,
        backing: Backing,
        now: Time,
        random: u128,
        settings: &Settings,
    ) -> Draft {
        let mut draft = Draft {
            record: current.clone(),
            writes: false,
            turns: false,
            reported: 0,
            renewed: Vec::new(),
            returned: Vec::new(),
            taken: PerClass::default(),
            tokens: Taken::default(),
            reservation: Nonce::new(random.rotate_left(64)),
            settled: Settled::new(),
            checks: None,
            id: Nonce::new(random),
            deadline: now.plus(settings.limits.lease),
            lapses: None,
        };
        self.draft_reports(&mut draft, backing, now, random, settings);
        let yielded = self.draft_grants(&mut draft, current, backing, now, settings);
        if let Some(limit) = settings.limits.rate {
            let wanting = self.wanting();
            let (rate, when) = (&mut draft.record.rate, (settings.linger(), now));
            let (settled, gives_back) = self.tokens.settle(rate, backing, &wanting, when, limit);
            draft.settled = settled;
            draft.writes |= gives_back;
        }
        // Those to whom slots were yielded look first, unless there are enough.
        if !yielded || !current.is_scarce(&settings.limits(backing)) {
            self.draft_wants(&mut draft, backing, now, settings);
        }
        draft.turns = std::mem::discriminant(&draft.record.breaker.phase)
            != std::mem::discriminant(&current.breaker.phase);
        draft
    }

    fn draft_reports(
        &self,
        draft: &mut Draft,
        backing: Backing,
        now: Time,
        random: u128,
        settings: &Settings,
    ) {
        let breaker = &mut draft.record.breaker;
        let before = breaker.checks.state;
        let is_urgent = match breaker.wants_success() {
            true => !self.reports.is_empty(),
            false => self.reports.iter().any(is_failure),
        };
        if let Some(found) = &self.found
            && breaker.checks.prefers(Some(found))
        {
            draft.writes |= breaker.checks.known_good.is_none();
            breaker.checks.known_good = Some(found.clone());
        }
        let slots = settings.limits(backing).slots;
        let mut random = (random >> 64) as u64;
        for report in &self.reports {
            // A target that could not be reached counts as one of its own.
            random = random.rotate_left(17).wrapping_add(0x9e37_79b9_7f4a_7c15);
            breaker.report(*report, now, slots, &settings.breaker, random);
        }
        let begins = breaker.checks.state != before && breaker.checks.state.is_under_way();
        draft.checks = breaker.checks.known_good.clone().filter(|_| begins);
        draft.writes |= is_urgent;
        draft.reported = self.reports.len();
    }

    /// Says whether idle slots were given back for others that wait.
    fn draft_grants(
        &mut self,
        draft: &mut Draft,
        current: &Record,
        backing: Backing,
        now: Time,
        settings: &Settings,
    ) -> bool {
        let mut yielded = false;
        let limits = settings.limits(backing);
        let is_scarce = current.is_scarce(&limits);
        let others_wait = current.others_wait(self.me, now, &limits);
        let has_waiters = self.has_waiters();
        let epoch = draft.record.breaker.epoch;
        for grant in self.grant.iter_mut().chain(&mut self.old) {
            if grant.backing != backing {
                continue;
            }
            grant.yields |= grant.epoch != epoch
                || (has_waiters && others_wait && !grant.since.was_within(QUANTUM, now));
            let rested = !grant.idle_since.was_within(settings.linger(), now);
            let deadline = grant.ends(now, settings);
            // One slot at most is left to expire: others may need the rest soon.
            let is_scarce = is_scarce || grant.idle() > 1;
            // Others may have taken what was idle.
            let lapsed = backing == Backing::Shared && now >= settings.lapses(deadline);
            // Idle slots are too old to start a request with.
            let is_wanted = has_waiters && !lapsed && !grant.yields && grant.idle() > 0;
            let is_due = match grant.used.is_empty() {
                true => is_wanted && !grant.is_live(now, settings),
                false => now >= settings.renewal(deadline),
            };
            let gives = grant.differs
                || grant.yields
                || lapsed
                // The store may work again by the next request.
                || (rested
                    && (is_scarce
                        || others_wait
                        || backing == Backing::Local
                        || (!settings.keeps_idle && !is_wanted)))
                || (rested && is_due && !is_wanted);
            let gives_back = gives && (grant.idle() > 0 || grant.used.is_empty());
            if gives_back {
                yielded |= grant.yields && grant.epoch == epoch && grant.idle() > 0;
                for class in Class::COUNTED {
                    *grant.held.of_mut(class) = *grant.used.of(class);
                }
                grant.differs = true;
            }
            if grant.used.is_empty() && gives_back {
                draft
                    .record
                    .set(grant.id, grant.epoch, PerClass::default(), now);
                draft.returned.push(grant.number);
                draft.writes = true;
            } else if is_due || grant.differs {
                draft
                    .record
                    .set(grant.id, grant.epoch, grant.held, draft.deadline);
                draft.renewed.push((grant.number, grant.id, grant.held));
                draft.writes = true;
                if !grant.used.is_empty() {
                    let lapses = settings.lapses(deadline);
                    let first = draft.lapses.map_or(lapses, |first| first.min(lapses));
                    draft.lapses = Some(first);
                }
            } else {
                grant.rests = rested;
                let holders = &mut draft.record.holders;
                if let Some(holder) = holders.iter_mut().find(|holder| holder.id == grant.id) {
                    holder.slots = grant.held;
                }
            }
        }
        yielded
    }

    fn draft_wants(&self, draft: &mut Draft, backing: Backing, now: Time, settings: &Settings) {
        let limits = settings.limits(backing);
        let usable = self.grant.as_ref().filter(|grant| {
            // One that yields takes no more. It may live as long as its longest request,
            // so the requests that wait meanwhile need another.
            grant.backing == backing
                && !grant.yields
                && grant.epoch == draft.record.breaker.epoch
                && (grant.is_live(now, settings)
                    || draft
                        .renewed
                        .iter()
                        .any(|(number, ..)| *number == grant.number))
                && !draft.returned.contains(&grant.number)
        });
        if let Some(grant) = usable {
            draft.id = grant.id;
        }
        let mut idle = usable.map_or(0, Grant::idle);
        let wanting = self.wanting();
        for class in Class::COUNTED {
            let queue = self.waiters.of(class);
            let Some(first) = queue.front() else {
                continue;
            };
            let waiting = u32::try_from(queue.len()).unwrap_or(u32::MAX);
            let mut held = self.tokens.free(class, now);
            let tokens = held.saturating_add(draft.record.tokens(class, now, &limits));
            let wanting = *wanting.of(class);
            // A slot without a token is of no use to most.
            let waiting = waiting.min(tokens.saturating_add(waiting.saturating_sub(wanting)));
            let want = waiting.saturating_sub(idle);
            let reused = waiting.min(idle);
            idle = idle.saturating_sub(waiting);
            draft.take_tokens(class, reused.min(wanting), &mut held, now, &limits);
            let wanting = wanting.saturating_sub(reused);
            if want == 0 {
                continue;
            }
            let free = draft.record.free(class, first.target, now, &limits);
            // Leaves something to other instances.
            let most = match draft.record.others_wait(self.me, now, &limits) {
                true => 1,
                false => free.div_ceil(2),
            };
            let target = (class, first.target);
            let taken = draft
                .record
                .take(draft.id, target, want.min(most), now, &limits);
            *draft.taken.of_mut(class) = taken;
            draft.take_tokens(class, taken.min(wanting), &mut held, now, &limits);
            draft.writes |= taken > 0;
            let open = matches!(
                draft.record.breaker.limit(first.target, now, limits.slots),
                Limit::Halted(_)
            );
            if taken == 0 && !open && backing == Backing::Shared {
                draft.writes |= draft.record.note_waiting(self.me, class, now);
            }
        }
    }

    /// Notes what the store says now, and what this instance has by it. Returns the
    /// waiters whose requests the breaker refuses, to be dropped when this is no
    /// longer borrowed.
    pub(super) fn note(
        &mut self,
        known: Known,
        draft: Draft,
        written: bool,
        settings: &Settings,
    ) -> Vec<Waiter<W>> {
        let now = known.at;
        if written {
            let reported = draft.reported.min(self.reports.len());
            self.reports.drain(..reported);
            for (number, _, slots) in &draft.renewed {
                if let Some(grant) = self.grant_mut(*number) {
                    grant.deadline = draft.deadline;
                    // A request may have ended, or become a stream, meanwhile.
                    grant.differs = grant.held != *slots;
                }
            }
            let is_returned = |grant: &Grant| draft.returned.contains(&grant.number);
            self.old.retain(|grant| !is_returned(grant));
            if self.grant.as_ref().is_some_and(is_returned) {
                self.grant = None;
            }
            self.tokens.note(&draft.settled);
            self.tokens
                .add(draft.reservation, known.backing, draft.tokens, now);
            if !draft.taken.is_empty() {
                self.add_taken(&draft, known.backing, known.record.breaker.epoch, now);
            }
        }
        let is_over = |grant: &Grant| {
            let is_over = now >= grant.ends(now, settings);
            grant.used.is_empty() && (is_over || grant.backing != known.backing)
        };
        self.old.retain(|grant| !is_over(grant));
        if self.grant.as_ref().is_some_and(is_over) {
            self.grant = None;
        }
        let limits = settings.limits(known.backing);
        let rate = self.known_rate(&known.record, &limits);
        let mut refused = Vec::new();
        for class in Class::COUNTED {
            for waiter in std::mem::take(self.waiters.of_mut(class)) {
                let asked = (class, waiter.target, waiter.needs_token);
                match self.limit(&known.record, &rate, asked, now, &limits) {
                    Limit::Halted(halt) => {
                        *waiter.verdict.borrow_mut() = Some(Verdict::Halted(halt));
                        refused.push(waiter);
                    }
                    Limit::Whole | Limit::Slots(_) => {
                        self.waiters.of_mut(class).push_back(waiter);
                    }
                }
            }
        }
        let checks = &known.record.breaker.checks;
        self.found = self.found.take().filter(|page| checks.prefers(Some(page)));
        self.known = Some(known);
        refused
    }

    fn add_taken(&mut self, draft: &Draft, backing: Backing, epoch: u32, now: Time) {
        if let Some(grant) = self.grant.as_mut().filter(|grant| grant.id == draft.id) {
            for class in ALL {
                let held = grant.held.of_mut(class);
                *held = held.saturating_add(*draft.taken.of(class));
            }
            grant.deadline = draft.deadline;
            grant.idle_since = now;
            grant.rests = false;
            return;
        }
        let number = self.number();
        let before = self.grant.replace(Grant {
            number,
            id: draft.id,
            backing,
            epoch,
            held: draft.taken,
            used: PerClass::default(),
            deadline: draft.deadline,
            since: now,
            yields: false,
            idle_since: now,
            rests: false,
            differs: false,
        });
        // Its requests are in flight, or it has slots to give back.
        self.old
            .extend(before.filter(|grant| !grant.used.is_empty() || grant.differs));
    }
}

fn is_failure(report: &Report) -> bool {
    !matches!(report.outcome, Outcome::Good)
}

/// What the log says about the breaker.
pub(super) fn phase_name(phase: &Phase) -> &'static str {
    match phase {
        Phase::Closed => "closed",
        Phase::Open { .. } => "open",
        Phase::HalfOpen { .. } => "half-open",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::cell::transition::Backoff;
    use std::cell::Cell;

    const NOW: Time = Time::from_unix_millis(1_000_000);

    /// Notes the grant of a slot that comes back.
    #[derive(Default)]
    struct Back(Cell<Option<u64>>);

    impl Pool for Back {
        fn give_back(&self, grant: u64, _: Class, _: Option<Token>) {
            self.0.set(Some(grant));
        }

        fn spend(&self, _: Token) {}

        fn become_stream(&self, _: u64, _: Class) -> bool {
            false
        }
    }

    fn settings(keeps_idle: bool) -> Settings {
        Settings {
            limits: Limits {
                slots: 16,
                streams: 2,
                lease: Duration::from_secs(5),
                clock_skew: Duration::from_millis(500),
                rate: None,
            },
            local_slots: 2,
            breaker: BreakerSettings {
                failures: 5,
                pause: Backoff {
                    first: Duration::from_secs(5),
                    max: Duration::from_secs(60),
                },
                retry_after_max: Duration::from_secs(600),
            },
            keeps_idle,
            mark: SettingsMark::of("", ""),
        }
    }

    /// Writes what there is to write.
    fn write(slots: &mut Slots<()>, record: &Record, now: Time, settings: &Settings) -> Record {
        let draft = slots.draft(record, Backing::Shared, now, 7, settings);
        let (written, record) = (draft.writes, draft.record.clone());
        let known = Known {
            record: record.clone(),
            raw: None,
            backing: Backing::Shared,
            at: now,
        };
        slots.note(known, draft, written, settings);
        record
    }

    #[test]
    fn an_instance_that_ends_with_its_request_gives_its_slot_back_at_once() {
        for keeps_idle in [true, false] {
            let settings = settings(keeps_idle);
            let mut slots = Slots::new(Nonce::new(1));
            let verdict = Rc::default();
            slots.queue((Class::Fill, 7), true, (), &verdict);
            let record = write(&mut slots, &Record::default(), NOW, &settings);
            assert_eq!(record.holders.len(), 1);
            let back = Rc::new(Back::default());
            let pool: Rc<dyn Pool> = Rc::<Back>::clone(&back);
            assert!(slots.serve_one(&pool, false, NOW, &settings).is_some());
            // In use, it is kept.
            let record = write(&mut slots, &record, NOW, &settings);
            assert_eq!(record.holders.len(), 1);

            drop(verdict.borrow_mut().take());
            slots.give_back(back.0.get().unwrap(), Class::Fill, None, NOW);
            let pause = if keeps_idle { LINGER } else { Duration::ZERO };
            assert_eq!(slots.next(NOW, &settings), Some(NOW.plus(pause)));
            let record = write(&mut slots, &record, NOW, &settings);
            assert_eq!(record.holders.is_empty(), !keeps_idle);
            // Nothing keeps the instance.
            assert_eq!(slots.next(NOW, &settings).is_none(), !keeps_idle);
        }
    }

    #[test]
    fn a_slot_that_was_taken_slowly_is_kept_for_the_request_that_waits() {
        let settings = settings(false);
        let mut slots = Slots::new(Nonce::new(1));
        let verdict = Rc::default();
        slots.queue((Class::Fill, 7), true, (), &verdict);
        let record = write(&mut slots, &Record::default(), NOW, &settings);
        let pool: Rc<dyn Pool> = Rc::new(Back::default());
        // The swap took so long that what is known of the record is old.
        let later = NOW.plus(KNOWN_FOR);
        assert!(slots.serve_one(&pool, false, later, &settings).is_none());
        let record = write(&mut slots, &record, later, &settings);
        assert_eq!(record.holders.len(), 1);
        assert!(slots.serve_one(&pool, false, later, &settings).is_some());
    }

    #[test]
    fn without_a_local_share_nothing_is_sent_while_the_store_fails() {
        for local_slots in [0, 2] {
            let settings = Settings {
                local_slots,
                ..settings(false)
            };
            let mut slots = Slots::new(Nonce::new(1));
            let verdict: Rc<RefCell<Option<Verdict>>> = Rc::default();
            slots.queue((Class::Fill, 7), true, (), &verdict);
            let draft = slots.draft(&Record::default(), Backing::Local, NOW, 7, &settings);
            let known = Known {
                record: draft.record.clone(),
                raw: None,
                backing: Backing::Local,
                at: NOW,
            };
            let writes = draft.writes;
            slots.note(known, draft, writes, &settings);
            let halted = matches!(
                &*verdict.borrow(),
                Some(Verdict::Halted(Halt { until, by: HaltedBy::Store })) if *until > NOW
            );
            assert_eq!(halted, local_slots == 0);
            assert_eq!(slots.has_waiters(), local_slots != 0);
        }
    }

    #[test]
    fn slots_of_an_instance_alone_end_when_the_store_works_again() {
        let settings = settings(true);
        let mut slots = Slots::new(Nonce::new(1));
        let verdict = Rc::default();
        slots.queue((Class::Fill, 7), true, (), &verdict);
        let draft = slots.draft(&Record::default(), Backing::Local, NOW, 7, &settings);
        let known = Known {
            record: draft.record.clone(),
            raw: None,
            backing: Backing::Local,
            at: NOW,
        };
        slots.note(known, draft, true, &settings);
        let pool: Rc<dyn Pool> = Rc::new(Back::default());
        assert!(slots.serve_one(&pool, false, NOW, &settings).is_none());
        // The next look at the store has begun, and takes some time.
        slots.acting = true;
        let later = NOW.plus(KNOWN_FOR);
        assert!(slots.serve_one(&pool, false, later, &settings).is_none());
        assert!(slots.serve_one(&pool, true, later, &settings).is_some());
    }
}
