//! The budget as one instance uses it: requests take slots from it, and one task per
//! instance talks to the store.
//!
//! A request takes an idle slot of the instance at once. Otherwise it waits, in arrival
//! order within its class. The task ([`Broker::tend`]) takes slots from the shared
//! record, keeps them alive, and gives them back. So an instance has at most one swap
//! of the record under way. The task ends when no request waits and no slot is in use.
//!
//! What a request to the origin costs in swaps of the record: one to take a slot, if
//! the instance has none. A slot is used for one request after another while there
//! are any. It is given back by a swap if the budget is scarce, and left to expire if
//! it is not. A request that is longer than half a lease costs a renewal for each
//! half, all slots of the instance together.

use super::check::{Checker, checked};
use super::send::Turn;
use super::slot::{Pool, Slot};
use super::slots::{Draft, KNOWN_FOR, Known, Settings, Slots, Verdict, phase_name};
use super::time::time_left;
use super::tokens::Token;
use crate::budget::{
    CHECK_TIME, Class, ClocksApart, Halt, KnownGood, Outcome, Phase, Record, Report, SettingsMark,
    Sightings, Unreadable, decode,
};
use crate::cell::Nonce;
use crate::cells::{Backing, Cells, Unwritten};
use crate::store::Swap;
use crate::time::{Time, millis};
use crate::world::{OriginError, Platform, event};
use bytes::Bytes;
use futures::future::{Either, select};
use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::time::Duration;

/// First pause between two looks at a record without a free slot. It grows by half
/// each time, and is spread at random.
const LOOK_FIRST: Duration = Duration::from_millis(20);

/// What that pause may become.
const LOOK_MAX: Duration = Duration::from_millis(250);

/// How often a swap that lost to another instance's is repeated at once.
const SWAP_ATTEMPTS: u32 = 8;

/// First pause before such a repetition; doubles, and is spread at random.
const SWAP_PAUSE: Duration = Duration::from_millis(4);

/// A pause before the repetition of a swap that renews slots is at most this part of the
/// time until they lapse: whose slots lapse first has precedence.
const RENEWAL_PAUSE: u32 = 8;

/// The log says once in this time that clocks are apart.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// After a write that failed the next one waits for this part of a lease.
const WRITE_PAUSE: u32 = 12;

/// How a wait for a slot ended.
#[derive(Debug)]
pub(crate) enum Admission {
    /// The request may go.
    Granted(Slot),
    /// Nothing is sent for now.
    Halted(Halt),
    /// No slot became free in time.
    Busy,
    /// The client has gone meanwhile.
    Gone,
}

/// The budget of one instance.
pub(super) struct Broker<P: Platform> {
    platform: Rc<P>,
    cells: Rc<Cells<P>>,
    /// The record's name in the store.
    name: String,
    settings: Settings,
    checker: Checker,
    /// Whether this instance does without the record of a store that works: the store is
    /// too slow for all that write it, or refuses it, or a newer version of the shield has
    /// written it.
    without_record: Cell<bool>,
    slots: RefCell<Slots<P::Wake>>,
    /// What this instance has seen of the record.
    sightings: RefCell<Sightings>,
    /// The log has said at this time that clocks are apart.
    told_apart: Cell<Option<Time>>,
    /// Whether the task runs.
    tended: Cell<bool>,
    /// Wakes the task.
    nudge: RefCell<Option<P::Wake>>,
    /// The next pause between two looks.
    look: Cell<Duration>,
    /// Itself, for slots and the task.
    this: Weak<Broker<P>>,
}

impl<P: Platform> std::fmt::Debug for Broker<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").finish_non_exhaustive()
    }
}

/// Takes a waiter out of its queue when its request gives up.
struct Queued<'a, P: Platform> {
    broker: &'a Broker<P>,
    class: Class,
    number: u64,
}

impl<P: Platform> Drop for Queued<'_, P> {
    fn drop(&mut self) {
        let mut slots = self.broker.slots.borrow_mut();
        let waiter = slots.forget(self.class, self.number);
        // Waking may run code of the platform: not while the state is borrowed.
        drop(slots);
        drop(waiter);
    }
}

/// How an attempt to write ended.
enum Written {
    Done,
    /// Another instance writes: look again soon.
    Contended,
}

/// The record as it was read.
struct Read {
    raw: Option<Bytes>,
    /// What `raw` says. Decoded once: with hundreds of instances it is long.
    record: Option<Record>,
    backing: Backing,
    /// The store had it at this time or later.
    asked: Time,
}

impl Read {
    /// The store fails, or a newer version of the shield uses the record.
    const ALONE: Read = Read {
        raw: None,
        record: None,
        backing: Backing::Local,
        asked: Time::from_unix_millis(0),
    };
}

impl<P: Platform> Broker<P> {
    pub(super) fn new(
        platform: Rc<P>,
        cells: Rc<Cells<P>>,
        name: String,
        settings: Settings,
        checker: Checker,
    ) -> Rc<Self> {
        let me = Nonce::new(platform.random());
        Rc::new_cyclic(|this| Broker {
            platform,
            cells,
            name,
            settings,
            checker,
            without_record: Cell::new(false),
            slots: RefCell::new(Slots::new(me)),
            sightings: RefCell::new(Sightings::new(settings.keeps_idle)),
            told_apart: Cell::new(None),
            tended: Cell::new(false),
            nudge: RefCell::default(),
            look: Cell::new(LOOK_FIRST),
            this: Weak::clone(this),
        })
    }

    pub(super) fn platform(&self) -> &P {
        &self.platform
    }

    pub(super) fn cells(&self) -> &Rc<Cells<P>> {
        &self.cells
    }

    /// The settings as they count now. A store that works is no reason to send nothing: at
    /// least one request of an instance goes while it does without the record.
    fn settings(&self) -> Settings {
        let mut settings = self.settings;
        if self.without_record.get() {
            settings.local_slots = settings.local_slots.max(1);
        }
        settings
    }

    /// Waits until `limit` for a slot for a request to `target`, and for its token of the
    /// rate.
    pub(super) async fn acquire(&self, class: Class, target: u32, limit: Time) -> Admission {
        match self.halted(class, target, self.platform.now()) {
            Some(halt) => Admission::Halted(halt),
            None => self.wait(class, target, true, limit).await,
        }
    }

    /// Waits until `limit` for another slot for a request to `target` that is under way: it
    /// has its token.
    pub(super) async fn acquire_again(&self, class: Class, target: u32, limit: Time) -> Admission {
        self.wait(class, target, false, limit).await
    }

    /// Most requests at once, of all instances.
    pub(super) fn slots_max(&self) -> u32 {
        self.settings.limits.slots
    }

    /// The record as it counts now, read for who watches; none while the store fails.
    pub(super) async fn overview(&self) -> Option<Record> {
        let asked = self.platform.now();
        let raw = self.cells.load_record(&self.name).await?;
        let stored = match raw.as_ref().map(|raw| decode(raw)) {
            Some(Ok(record)) => record,
            Some(Err(Unreadable::Newer)) => return None,
            Some(Err(Unreadable::Corrupt)) | None => Record::default(),
        };
        Some(self.as_seen(stored, asked, self.platform.now()))
    }

    /// Whether each request takes a token of the rate.
    pub(super) fn is_rated(&self) -> bool {
        self.settings.limits.rate.is_some()
    }

    async fn wait(&self, class: Class, target: u32, needs_token: bool, limit: Time) -> Admission {
        let now = self.platform.now();
        let (wake, ended) = self.platform.signal();
        let verdict = Rc::new(RefCell::new(None));
        let number = self
            .slots
            .borrow_mut()
            .queue((class, target), needs_token, wake, &verdict);
        let queued = Queued {
            broker: self,
            class,
            number,
        };
        self.serve();
        let waits = verdict.borrow().is_none();
        // The task has to know of a slot in use as well: it keeps it alive.
        self.wake();
        if waits {
            let timeout = self.platform.sleep(limit.since(now));
            select(pin!(ended), pin!(timeout)).await;
        }
        drop(queued);
        let decided = verdict.borrow_mut().take();
        match decided {
            Some(Verdict::Slot(slot)) => Admission::Granted(slot),
            Some(Verdict::Halted(halt)) => Admission::Halted(halt),
            None => Admission::Busy,
        }
    }

    /// Why no request of `class` to `target` goes out for now, if this instance has looked
    /// lately.
    pub(super) fn halted(&self, class: Class, target: u32, now: Time) -> Option<Halt> {
        let slots = self.slots.borrow();
        slots.halted(class, target, now, &self.settings())
    }

    /// Whether no refresh of `target` goes out now. Reads the record where it may say so:
    /// that costs less than an election for a refresh that is refused.
    pub(super) async fn refuses_refresh(&self, target: u32) -> bool {
        let now = self.platform.now();
        let has_to_look = self.slots.borrow().has_to_look(now, &self.settings());
        if has_to_look {
            let read = self.read().await;
            if let (Backing::Shared, Some(record)) = (read.backing, read.record) {
                let now = self.platform.now();
                let record = self.as_seen(record, read.asked, now);
                self.slots.borrow_mut().look(Known {
                    record,
                    raw: read.raw,
                    backing: read.backing,
                    at: now,
                });
            }
        }
        self.halted(Class::Refresh, target, self.platform.now())
            .is_some()
    }

    /// Notes what became of a request.
    pub(super) fn report(&self, report: Report) {
        self.slots.borrow_mut().report(report);
        self.wake();
    }

    /// Starts the task, or wakes it.
    fn wake(&self) {
        if !self.tended.replace(true)
            && let Some(this) = self.this.upgrade()
        {
            self.platform.spawn(async move { this.tend().await });
        }
        let nudge = self.nudge.borrow_mut().take();
        drop(nudge);
    }

    /// Gives idle slots to waiting requests.
    fn serve(&self) {
        let Some(pool) = self.this.upgrade() else {
            return;
        };
        let pool: Rc<dyn Pool> = pool;
        let now = self.platform.now();
        let is_alone = self.without_record.get() || self.cells.store_fails();
        let mut served = Vec::new();
        {
            let mut slots = self.slots.borrow_mut();
            while let Some(waiter) = slots.serve_one(&pool, is_alone, now, &self.settings()) {
                served.push(waiter);
            }
        }
        // Wakes the requests.
        drop(served);
    }

    /// Keeps the instance's slots until there is nothing to do.
    async fn tend(self: Rc<Self>) {
        loop {
            let now = self.platform.now();
            let next = self.slots.borrow().next(now, &self.settings());
            match next {
                None => {
                    self.tended.set(false);
                    return;
                }
                Some(next) if next <= now => self.act().await,
                Some(next) => {
                    let (wake, nudged) = self.platform.signal();
                    let before = self.nudge.replace(Some(wake));
                    drop(before);
                    let pause = self.platform.sleep(next.since(now));
                    select(pin!(nudged), pin!(pause)).await;
                    let wake = self.nudge.take();
                    drop(wake);
                }
            }
        }
    }

    /// Reads the record, applies what there is to apply, and writes it if it changed.
    async fn act(&self) {
        self.slots.borrow_mut().acting = true;
        let written = self.write().await;
        self.slots.borrow_mut().acting = false;
        self.serve();
        let random = u32::try_from(self.platform.random() % 512).unwrap_or(0);
        let now = self.platform.now();
        let mut slots = self.slots.borrow_mut();
        if slots.has_waiters() {
            let look = self.look.get();
            let pause = look / 2 + look.saturating_mul(random) / 512;
            slots.look_after = now.plus(pause);
            self.look.set((look + look / 2).min(LOOK_MAX));
        } else {
            slots.look_after = now;
            self.look.set(LOOK_FIRST);
        }
        let later = now.plus(self.settings.limits.lease / WRITE_PAUSE);
        slots.write_after = match written {
            Written::Done => now,
            Written::Contended => later,
        };
        // What could not be done now, for instance because the store fails, is not
        // tried again at once.
        let next = slots.next(now, &self.settings());
        if next.is_some_and(|next| next <= now) {
            slots.write_after = later;
        }
    }

    async fn write(&self) -> Written {
        let mut pause = SWAP_PAUSE;
        let mut read = self.read().await;
        for _ in 0..SWAP_ATTEMPTS {
            let now = self.platform.now();
            let backing = read.backing;
            let limits = self.settings().limits(backing);
            let current = match backing {
                Backing::Shared => {
                    let stored = read.record.take().unwrap_or_default();
                    self.as_seen(stored, read.asked, now)
                }
                Backing::Local => {
                    let alone = self.slots.borrow().alone(now, &self.settings());
                    let unseen = Sightings::new(false);
                    alone.at(now, &limits, &self.settings().breaker, &unseen)
                }
            };
            let random = self.platform.random();
            let draft =
                self.slots
                    .borrow_mut()
                    .draft(&current, backing, now, random, &self.settings());
            if !draft.writes {
                let known = Known {
                    record: current,
                    raw: read.raw,
                    backing,
                    at: now,
                };
                self.note(known, draft, false);
                return Written::Done;
            }
            let nonce = Nonce::new(self.platform.random());
            let apart = self.sightings.borrow().apart();
            let mut record = draft.record.clone().written(nonce, now, apart);
            let differing = match backing {
                Backing::Shared => record.note_settings(self.settings.mark, now),
                Backing::Local => Vec::new(),
            };
            let new = match backing {
                Backing::Local => {
                    self.slots.borrow_mut().alone = record.clone();
                    None
                }
                Backing::Shared => record.stored(self.sightings.borrow().behind()),
            };
            let swapped = match (&new, backing) {
                (None, Backing::Local) => Ok(Swap::Done),
                (Some(new), Backing::Shared) => {
                    self.cells
                        .swap_record(&self.name, read.raw.as_ref(), new)
                        .await
                }
                _ => Err(Unwritten::Failed),
            };
            match swapped {
                Ok(Swap::Done) => {
                    if backing == Backing::Shared {
                        self.without_record.set(false);
                    }
                    self.log_differing(&differing);
                    if draft.turns {
                        self.log_breaker(&record.breaker.phase, now);
                    }
                    let known = Known {
                        record,
                        raw: new,
                        backing,
                        // The time that the decision was made for: the swap may have
                        // taken long.
                        at: now,
                    };
                    self.note(known, draft, true);
                    return Written::Done;
                }
                Ok(Swap::Conflict(raw)) => {
                    // It was read after the swap began.
                    read = self.readable(raw, now);
                    if let Some(record) = read.record.take_if(|record| draft.is_in(record)) {
                        let known = Known {
                            record: self.as_seen(record, now, self.platform.now()),
                            raw: read.raw,
                            backing,
                            at: now,
                        };
                        self.note(known, draft, true);
                        return Written::Done;
                    }
                    let part = u32::try_from(self.platform.random() % 1_000).unwrap_or(0);
                    let left = draft.lapses.map(|lapses| lapses.since(now));
                    let most = repetition(pause, left);
                    self.platform.sleep(most.saturating_mul(part) / 1_000).await;
                    pause = pause.saturating_mul(2);
                }
                // Another instance creates the record.
                Ok(Swap::Busy { .. }) => return Written::Contended,
                // The store fails, or it is too slow for a record that all instances write,
                // or it refuses this value: the instance goes on with what it may send
                // alone.
                Err(why) => {
                    let works = why == Unwritten::Contended || !self.cells.store_fails();
                    self.without_record.set(works);
                    read = Read::ALONE;
                }
            }
        }
        Written::Contended
    }

    fn note(&self, known: Known, mut draft: Draft, written: bool) {
        let epoch = known.record.breaker.epoch;
        let page = draft.checks.take().filter(|_| written);
        let mut slots = self.slots.borrow_mut();
        let refused = slots.note(known, draft, written, &self.settings());
        drop(slots);
        // Wakes the requests.
        drop(refused);
        if let (Some(page), Some(this)) = (page, self.this.upgrade()) {
            self.platform
                .spawn(async move { this.check(&page, epoch).await });
        }
    }

    /// Asks for a page that worked before, and tells the breaker. `epoch` is the
    /// breaker's.
    async fn check(&self, page: &KnownGood, epoch: u32) {
        let began = self.platform.now();
        let limit = began.plus(CHECK_TIME);
        let outcome = match self.acquire(Class::Fill, page.target(), limit).await {
            Admission::Granted(slot) => {
                let left = time_left(CHECK_TIME, began, self.platform.now());
                let turn = Turn::new(slot, left);
                let sending = async {
                    let request = self.checker.request(page, left)?;
                    self.send(request, &turn, || true).await
                };
                let timeout = self.platform.sleep(left);
                let answered = match select(pin!(sending), pin!(timeout)).await {
                    Either::Left((answered, _)) => answered,
                    Either::Right(((), _)) => Err(OriginError::Timeout),
                };
                drop(turn);
                checked(&answered, self.platform.now())
            }
            Admission::Busy => Outcome::CheckBusy,
            Admission::Halted(_) | Admission::Gone => return,
        };
        let now = self.platform.now();
        self.report(Report {
            outcome,
            target: page.target(),
            epoch,
        });
        let works = outcome == Outcome::CheckPassed;
        self.platform.log(&event(
            "origin-check",
            &[
                ("path", page.path().into()),
                ("works", works.into()),
                ("millis", millis(now.since(began)).into()),
            ],
        ));
    }

    /// Whether the record, as this instance knows it, shows that the origin has answered
    /// another instance since then. While a request holds a slot, its instance writes the
    /// record, so it knows it.
    pub(super) fn has_worked_since(&self, moment: Time) -> bool {
        let slots = self.slots.borrow();
        let window = slots
            .known
            .as_ref()
            .map(|known| known.record.breaker.window);
        window.is_some_and(|window| window.good > 0 && window.start >= moment)
    }

    /// Whether a page that has just worked is to be [noted](Broker::found).
    pub(super) fn seeks(&self) -> bool {
        self.slots.borrow().seeks(None)
    }

    /// Notes a page that has just worked.
    pub(super) fn found(&self, page: KnownGood) {
        self.slots.borrow_mut().found(page);
    }

    async fn read(&self) -> Read {
        let now = self.platform.now();
        let known = {
            let slots = self.slots.borrow();
            // What this instance has just written is probably still there. A look for
            // a free slot has to be a new one.
            slots
                .known
                .as_ref()
                .filter(|known| {
                    now.since(known.at) < KNOWN_FOR
                        && known.backing == Backing::Shared
                        && !slots.has_waiters()
                })
                .map(|known| (known.raw.clone(), known.at))
        };
        match known {
            Some((raw, at)) => self.readable(raw, at),
            None => match self.cells.load_record(&self.name).await {
                Some(raw) => self.readable(raw, now),
                None => {
                    self.without_record.set(false);
                    Read::ALONE
                }
            },
        }
    }

    /// What a value says that the store had at `asked` or later.
    fn readable(&self, raw: Option<Bytes>, asked: Time) -> Read {
        let record = match raw.as_ref().map(|raw| decode(raw)) {
            None => None,
            Some(Ok(record)) => Some(record),
            // The next write replaces it.
            Some(Err(problem @ Unreadable::Corrupt)) => {
                self.platform.log(&event(
                    "budget-unreadable",
                    &[("problem", problem.to_string().into())],
                ));
                None
            }
            Some(Err(Unreadable::Newer)) => {
                self.without_record.set(true);
                return Read::ALONE;
            }
        };
        Read {
            raw,
            record,
            backing: Backing::Shared,
            asked,
        }
    }

    /// The record as it counts at `now`; the store had it at `asked` or later.
    fn as_seen(&self, record: Record, asked: Time, now: Time) -> Record {
        let settings = self.settings();
        let limits = settings.limits(Backing::Shared);
        let mut sightings = self.sightings.borrow_mut();
        let told = record.apart;
        if let Some(by) = sightings.look(&record, asked, now, &limits) {
            self.log_apart(by, told, now);
        }
        record.at(now, &limits, &settings.breaker, &sightings)
    }

    /// Says once a minute that clocks are apart, unless the record, by what it `told`, shows
    /// that an instance of this clock has just said it.
    fn log_apart(&self, by: Duration, told: Option<ClocksApart>, now: Time) {
        let is_told = told.is_some_and(|told| told.is_new(now))
            || self
                .told_apart
                .get()
                .is_some_and(|at| now.since(at) < TOLD_EVERY);
        if is_told {
            return;
        }
        self.told_apart.set(Some(now));
        let effect = match self.settings.keeps_idle {
            true => {
                "nodes keep to the budget, but each takes the other's leases and pages for old: \
                 pages are fetched more often"
            }
            false => {
                "each node may use the whole budget of the origin, and pages are fetched more often"
            }
        };
        self.platform.log(&event(
            "clocks-apart",
            &[
                ("millis", millis(by).into()),
                ("effect", effect.into()),
                (
                    "remedy",
                    "set the clocks of all nodes by NTP, or raise lease.clock_skew".into(),
                ),
            ],
        ));
    }

    /// Says that other nodes have other settings.
    fn log_differing(&self, others: &[SettingsMark]) {
        if others.is_empty() {
            return;
        }
        let others: Vec<String> = others.iter().map(ToString::to_string).collect();
        self.platform.log(&event(
            "settings-differ",
            &[
                ("settings", self.settings.mark.to_string().into()),
                ("others", others.into()),
                (
                    "effect",
                    "nodes on this store answer by different rules, for some minutes".into(),
                ),
                (
                    "remedy",
                    "give all nodes the same settings and reload them: `settings` in \
                     /.leeward/status tells them apart"
                        .into(),
                ),
            ],
        ));
    }

    fn log_breaker(&self, phase: &Phase, now: Time) {
        let mut fields = vec![("state", phase_name(phase).into())];
        if let Phase::Open { until } = phase {
            fields.push(("millis", millis(until.since(now)).into()));
        }
        self.platform.log(&event("breaker", &fields));
    }
}

impl<P: Platform> Pool for Broker<P> {
    fn give_back(&self, grant: u64, class: Class, token: Option<Token>) {
        let now = self.platform.now();
        self.slots.borrow_mut().give_back(grant, class, token, now);
        self.serve();
        self.wake();
    }

    fn spend(&self, token: Token) {
        self.slots.borrow_mut().spend(token);
    }

    fn become_stream(&self, grant: u64, class: Class) -> bool {
        let may = self
            .slots
            .borrow_mut()
            .become_stream(grant, class, &self.settings());
        if may {
            self.wake();
        }
        may
    }
}

/// The longest pause before a swap that was lost is repeated. `left` is the time until
/// slots in use lapse unless it succeeds.
fn repetition(pause: Duration, left: Option<Duration>) -> Duration {
    left.map_or(pause, |left| pause.min(left / RENEWAL_PAUSE))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Twelve instances renewed their slots of a short lease at once, and one lost every
    /// race: its pauses doubled until its slots had lapsed with requests in flight.
    #[test]
    fn whose_slots_lapse_first_repeats_its_swap_first() {
        let millis = Duration::from_millis;
        let taker = repetition(millis(512), None);
        let early = repetition(millis(512), Some(millis(640)));
        let late = repetition(millis(512), Some(millis(80)));
        assert_eq!(taker, millis(512));
        assert_eq!(early, millis(80));
        assert_eq!(late, millis(10));
        assert_eq!(repetition(millis(4), Some(millis(640))), millis(4));
    }
}
