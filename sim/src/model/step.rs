//! Taking a step: the same sequence of store operations, looks at the clock
//! and transitions as in the shield's `cells` and the store's `Guarded`.
//!
//! A comment names the shipping function that a part stands for.

use super::action::{Action, Clock, Fate, Origin};
use super::record::{Contents, Mark, Record, Taint, nonce, time};
use super::settings::{
    BUCKET, Behaviour, Detail, LEASE, PATIENCE, Purges, RETRY, SKEW, Safeguard, Settings,
};
use super::state::{At, Fetch, Goal, Held, Kind, Outcome, PURGER, State, Then, Word, Write};
use leeward::cell::transition::{self, Backoff, Claim, Failure, Fenced, Purge, Stamp};
use leeward::cell::{Cell, Lease, Nonce};
use std::time::Duration;

/// A step being taken.
#[derive(Debug)]
pub struct Stepper<'a> {
    pub(super) settings: &'a Settings,
    /// The state so far.
    pub state: State,
    /// Whether an entry has been published in this step.
    pub published: bool,
}

/// The state after `action`, in its normal form; none if it is not possible.
pub fn step(settings: &Settings, state: &State, action: Action) -> Option<State> {
    let mut stepper = Stepper::new(settings, *state);
    stepper.take(action).then_some(stepper.state)
}

impl<'a> Stepper<'a> {
    /// Starts from `state`.
    pub fn new(settings: &'a Settings, state: State) -> Self {
        Stepper {
            settings,
            state,
            published: false,
        }
    }

    /// Takes a step; says whether it was possible.
    pub fn take(&mut self, action: Action) -> bool {
        if !self.possible(action) {
            return false;
        }
        self.state.normalise(self.settings);
        if self.settings.detail != Detail::Full && self.refuse_the_lost() {
            self.state.normalise(self.settings);
        }
        true
    }

    fn possible(&mut self, action: Action) -> bool {
        match action {
            Action::Tick => self.tick(),
            Action::Purge(kind) => {
                self.taint(kind.into(), Taint::Clean, Taint::Suspect);
                self.state.processes[PURGER] = At::Purging(kind);
                true
            }
            Action::Step(place, clock) => self.advance(place, clock),
            Action::Twice(place) => self.twice(place),
            Action::Contend(place) => self.contend(place),
            Action::Lose(place, fate) => self.lose(place, fate),
            Action::Answer(place, origin, clock, fate) => self.answer(place, origin, clock, fate),
            Action::Renew(place, clock) => self.renew(place, clock),
            Action::Crash(place, fate) => self.crash(place, fate),
            Action::Land => self.land(),
        }
    }

    /// Whoever reads back, with a lease that another has taken, will be refused
    /// whenever it is: now as well as later.
    fn refuse_the_lost(&mut self) -> bool {
        let mut any = false;
        for place in 0..self.settings.nodes {
            if let At::Reading {
                write,
                word: Word::Done,
            } = self.state.processes[place]
                && write.new.mark == Mark::Other
                && self.has(Safeguard::Nonce)
                && let Some(cell) = self.state.cell
                && let Goal::Renew {
                    held: Held { holder, .. },
                    ..
                }
                | Goal::Settle { holder, .. } = write.goal
                && cell.lease.is_none_or(|lease| lease.holder != holder)
            {
                self.state.processes[place] = self.conflict(write, cell, Clock::True);
                any = true;
            }
        }
        any
    }

    pub(super) fn has(&self, safeguard: Safeguard) -> bool {
        self.settings.has(safeguard)
    }

    fn record(&self, cell: &Cell) -> Record {
        Record::of_cell(cell, self.has(Safeguard::Nonce))
    }

    fn reading(&self, clock: Clock) -> u8 {
        match clock {
            Clock::True => self.state.now,
            Clock::Ahead => self.state.now + SKEW,
        }
    }

    /// Time passes, unless a creation has to reach the store first.
    fn tick(&mut self) -> bool {
        let now = self.state.now;
        let due = |write: &Write| write.until == now && write.expected.is_none();
        let held_up = self.state.processes.iter().any(|at| match at {
            At::Creating(write) | At::Overwriting(write) => due(write),
            _ => false,
        });
        if held_up || self.state.late.is_some_and(|late| due(&late.write)) {
            return false;
        }
        self.state.now += 1;
        true
    }

    fn advance(&mut self, place: usize, clock: Clock) -> bool {
        let next = match self.state.processes[place] {
            At::Idle => match self.state.cell {
                // Reading and claiming are one step here: what is read and
                // replaced before the claim cannot be swapped any more.
                Some(cell) => match self.claim(Some(cell), clock) {
                    Some(at) => at,
                    None => return false,
                },
                None => At::Claiming,
            },
            At::Claiming => self.claim(None, clock).unwrap_or(At::Idle),
            At::Guarding { write, second } => {
                let count = self.increment(&write, second);
                self.guarded(write, second, count == 1)
            }
            At::Rereading(write) => match self.state.cell {
                Some(_) => leave_guards(&write),
                None if self.has(Safeguard::ClockCheck) => At::Checking(write),
                None => self.issue(write),
            },
            At::Checking(write) if self.reading(clock) < write.until => self.issue(write),
            At::Checking(write) => leave_guards(&write),
            At::Creating(write) if self.settings.behaviour.upserts() => match self.state.cell {
                Some(_) => self.said(write, Word::Conflict),
                None => At::Overwriting(write),
            },
            At::Creating(mut write) | At::Overwriting(mut write) | At::Swapping(mut write) => {
                let word = if self.apply(&mut write) {
                    Word::Done
                } else {
                    Word::Conflict
                };
                self.said(write, word)
            }
            At::Reading { write, word } => self.read_back(write, word, clock),
            At::Reloading(write) => self.reload(write, clock),
            At::Cleaning {
                bucket,
                second,
                then,
            } => {
                self.remove_guard(bucket, second);
                cleaned(bucket, second, then)
            }
            At::Holding(held, base) => {
                // `run_job`: `may_begin`.
                let margin = ticks(self.settings.margin());
                let end = Lease::acts_until(time(held.deadline), margin);
                if time(self.reading(clock)) < end {
                    At::Fetching(
                        held,
                        Fetch {
                            base,
                            taint: Taint::Clean,
                        },
                    )
                } else {
                    At::Idle
                }
            }
            At::Fetching(..) => return false,
            At::Purging(kind) => match self.state.cell {
                // `purge`: nothing stored, nothing to do.
                None => self.acknowledge(kind.into()),
                // Reading and swapping are one step here: if the cell changed
                // in between, the purger would start again.
                Some(cell) => {
                    let mut write = self.purge(kind.into(), cell);
                    self.apply(&mut write);
                    self.said(write, Word::Done)
                }
            },
        };
        self.state.processes[place] = next;
        true
    }

    /// `elect`, up to the swap.
    fn claim(&mut self, loaded: Option<Record>, clock: Clock) -> Option<At> {
        let now = self.reading(clock);
        let holder = if self.has(Safeguard::Nonce) {
            self.state.next_holder()
        } else {
            1
        };
        let claim = Claim {
            holder: nonce(holder),
            now: time(now),
            duration: ticks(LEASE),
            clock_skew: ticks(self.settings.margin()),
            // Leases that were not settled are not counted here: they can only make a
            // lease refused.
            backoff: transition::Backoff::default(),
            random: 0,
        };
        let cell = loaded.map(Record::to_cell);
        let new = transition::lease(cell.as_ref(), "", None, &claim, Nonce::new(0)).ok()?;
        let write = Write {
            goal: Goal::Elect {
                holder,
                deadline: now + LEASE,
            },
            expected: loaded,
            new: self.record(&new),
            bucket: 0,
            until: 0,
        };
        Some(if loaded.is_some() {
            At::Swapping(write)
        } else if self.has(Safeguard::Guard) {
            // `win`
            At::Guarding {
                write: Write {
                    bucket: now / BUCKET,
                    until: now + PATIENCE,
                    ..write
                },
                second: false,
            }
        } else {
            self.issue(write)
        })
    }

    pub(super) fn increment(&mut self, write: &Write, second: bool) -> u8 {
        let bucket = write.bucket + u8::from(second);
        match self.state.guard(bucket).filter(|_| write.bucket > 0) {
            Some(count) => {
                *count = (*count + 1).min(2);
                *count
            }
            // Long over: whatever it hears, the clock check refuses.
            None => 1,
        }
    }

    pub(super) fn guarded(&self, write: Write, second: bool, won: bool) -> At {
        if !won {
            // Reads the cell, and waits for it or for the bucket's end.
            leave_first_guard(&write, second)
        } else if !second && self.has(Safeguard::SecondBucket) {
            At::Guarding {
                write,
                second: true,
            }
        } else {
            At::Rereading(write)
        }
    }

    fn issue(&self, write: Write) -> At {
        At::Creating(Write {
            until: self.settings.stall_limit(self.state.now).unwrap_or(0),
            ..write
        })
    }

    /// The store applies a swap, or does not.
    pub(super) fn apply(&mut self, write: &mut Write) -> bool {
        let fits = match write.expected {
            Some(expected) => self.state.cell == Some(expected),
            None => self.settings.behaviour.upserts() || self.state.cell.is_none(),
        };
        if fits {
            self.put(write);
        }
        fits
    }

    fn put(&mut self, write: &mut Write) {
        if let Some(old) = self.state.cell.and_then(|cell| cell.entry) {
            let kept = match write.new.entry {
                Some(new) => new.lease >= old.lease,
                None => matches!(write.goal, Goal::Purge(Kind::Hard)),
            };
            self.state.alarms.replaced |= !kept;
        }
        if let Some(old) = self.state.cell.and_then(|cell| cell.lease)
            && self.state.now < old.deadline
        {
            let stays = write
                .new
                .lease
                .is_some_and(|lease| lease.holder == old.holder);
            let settled = matches!(write.goal, Goal::Settle { holder, .. } if holder == old.holder);
            self.state.alarms.overridden |= !stays && !settled;
        }
        self.published |= matches!(
            write.goal,
            Goal::Settle {
                outcome: Outcome::Publish(_),
                ..
            }
        );
        write.until = 0;
        if self.has(Safeguard::Nonce) {
            self.state.each_copy(&mut |copy| {
                if copy.mark == Mark::Stored {
                    *copy = Record::GONE;
                }
            });
            write.new.mark = Mark::Stored;
            if write.expected.is_some() {
                write.expected = Some(Record::GONE);
            }
            if let Goal::Renew { held, .. } = &mut write.goal {
                held.loaded = Record::GONE;
            }
        }
        self.state.cell = Some(write.new);
    }

    /// The store has replied.
    pub(super) fn said(&mut self, write: Write, word: Word) -> At {
        let word = match (word, self.settings.behaviour) {
            (Word::Error, _) => Word::Error,
            (_, Behaviour::FalseConflict) => Word::Conflict,
            (word, _) => word,
        };
        let write = Write {
            until: 0,
            // Needed after an error only.
            expected: match word {
                Word::Error => write.expected,
                Word::Done | Word::Conflict => Some(Record::GONE),
            },
            ..write
        };
        match word {
            Word::Done if !self.has(Safeguard::ReadBack) => self.done(write, write.new),
            Word::Conflict if !self.has(Safeguard::ReadBack) => self.failed(write),
            Word::Done | Word::Conflict => At::Reading {
                write,
                word: Word::Done,
            },
            Word::Error => At::Reading { write, word },
        }
    }

    /// `Guarded::swap`, from the read-back on.
    fn read_back(&mut self, write: Write, word: Word, clock: Clock) -> At {
        let current = self.state.cell;
        let next = match current {
            Some(cell) if cell == write.new => self.done(write, cell),
            _ if word == Word::Error && (write.expected.is_some() || current.is_none()) => {
                At::Reloading(write)
            }
            Some(cell) => self.conflict(write, cell, clock),
            None => self.failed(write),
        };
        if write.bucket == 0 || current.is_none() {
            return next;
        }
        At::Cleaning {
            bucket: write.bucket,
            second: false,
            then: match next {
                At::Holding(held, base) => Then::Hold(held, base),
                _ => Then::Leave,
            },
        }
    }

    /// The shield's `swap`, after an error.
    fn reload(&mut self, write: Write, clock: Clock) -> At {
        match self.state.cell {
            Some(cell) if cell == write.new => self.done(write, cell),
            current if current == write.expected => self.failed(write),
            Some(cell) => self.conflict(write, cell, clock),
            None => self.failed(write),
        }
    }

    fn done(&mut self, write: Write, current: Record) -> At {
        match write.goal {
            Goal::Elect { holder, deadline } => hold(current, holder, deadline),
            Goal::Renew {
                held,
                fetch,
                deadline,
            } => At::Fetching(
                Held {
                    loaded: current,
                    deadline,
                    ..held
                },
                fetch,
            ),
            Goal::Settle { .. } => At::Idle,
            Goal::Purge(kind) => self.acknowledge(kind.into()),
        }
    }

    fn conflict(&mut self, write: Write, current: Record, clock: Clock) -> At {
        match write.goal {
            Goal::Elect { holder, .. } => match current.lease {
                Some(lease) if lease.holder == holder => hold(current, holder, lease.deadline),
                Some(_) | None => At::Idle,
            },
            Goal::Renew { held, deadline, .. } => {
                let lease = current.lease.filter(|lease| lease.holder == held.holder);
                let ours = if self.has(Safeguard::RenewalGrows) {
                    lease.is_some_and(|lease| lease.deadline >= deadline)
                } else {
                    lease.is_some_and(|lease| lease.deadline == deadline)
                };
                if ours {
                    self.done(write, current)
                } else {
                    self.renew_from(write, current)
                }
            }
            Goal::Settle {
                holder,
                outcome: Outcome::Publish(_),
            } if current.entry.is_some_and(|entry| entry.lease == holder) => At::Idle,
            Goal::Settle { holder, outcome } => self.settle(holder, outcome, current, clock),
            Goal::Purge(kind) => At::Purging(kind),
        }
    }

    /// The outcome is not known, and will not be.
    pub(super) fn failed(&mut self, write: Write) -> At {
        match write.goal {
            Goal::Elect { .. } | Goal::Settle { .. } => At::Idle,
            Goal::Renew { held, fetch, .. } => At::Fetching(held, fetch),
            Goal::Purge(kind) => {
                self.taint(kind.into(), Taint::Suspect, Taint::Clean);
                At::Idle
            }
        }
    }

    fn renew(&mut self, place: usize, clock: Clock) -> bool {
        let At::Fetching(held, fetch) = self.state.processes[place] else {
            return false;
        };
        let deadline = self.reading(clock) + LEASE;
        if deadline <= held.deadline {
            return false;
        }
        let write = Write {
            goal: Goal::Renew {
                held,
                fetch,
                deadline,
            },
            expected: Some(held.loaded),
            new: Record::GONE,
            bucket: 0,
            until: 0,
        };
        self.state.processes[place] = if held.loaded == Record::GONE {
            refused(write)
        } else {
            self.renew_from(write, held.loaded)
        };
        true
    }

    fn renew_from(&mut self, write: Write, loaded: Record) -> At {
        let Goal::Renew { held, deadline, .. } = write.goal else {
            return At::Idle;
        };
        let cell = loaded.to_cell();
        let renewed = transition::renew(
            Some(&cell),
            nonce(held.holder),
            time(deadline),
            Nonce::new(0),
        );
        match renewed {
            Ok(mut cell) => {
                if !self.has(Safeguard::RenewalGrows)
                    && let Some(lease) = &mut cell.lease
                {
                    lease.deadline = time(deadline);
                }
                At::Swapping(Write {
                    expected: Some(loaded),
                    new: self.record(&cell),
                    ..write
                })
            }
            // The exchange goes on for its visitor; the cell hears no more.
            Err(Fenced::Lost | Fenced::Purged) => At::Idle,
        }
    }

    fn answer(&mut self, place: usize, origin: Origin, clock: Clock, fate: Fate) -> bool {
        let (held, fetch) = match self.state.processes[place] {
            At::Fetching(held, fetch) => (held, fetch),
            At::Swapping(write) | At::Reading { write, .. } | At::Reloading(write) => {
                let Goal::Renew { held, fetch, .. } = write.goal else {
                    return false;
                };
                (held, fetch)
            }
            _ => return false,
        };
        self.leave(place, fate);
        let outcome = match (origin, fetch.base, self.settings.purges) {
            (Origin::Failure, ..) => Outcome::Fail,
            // A 304 says that the entry is good now, but its content was made
            // before.
            (Origin::NotModified, Some(base), Purges::Only(Purge::Hard) | Purges::Mixed) => {
                Outcome::Publish(fetch.taint.max(base))
            }
            (Origin::NotModified, None, _) => return false,
            (Origin::NotModified | Origin::Full, ..) => Outcome::Publish(fetch.taint),
        };
        self.state.processes[place] = if held.loaded == Record::GONE {
            // The first swap fails, and shows what is stored.
            let write = Write {
                goal: Goal::Settle {
                    holder: held.holder,
                    outcome,
                },
                expected: Some(Record::GONE),
                new: Record::GONE,
                bucket: 0,
                until: 0,
            };
            match self.state.cell {
                Some(cell) => self.conflict(write, cell, clock),
                None => At::Idle,
            }
        } else {
            self.settle(held.holder, outcome, held.loaded, clock)
        };
        true
    }

    /// `settle`, one round up to the swap; `publish` with its release.
    fn settle(&mut self, holder: u8, outcome: Outcome, loaded: Record, clock: Clock) -> At {
        let mut cell = loaded.to_cell();
        let new = match outcome {
            Outcome::Publish(taint) => {
                let entry = Contents {
                    lease: holder,
                    taint,
                    invalidated: false,
                    softened: false,
                }
                .to_entry();
                if !self.has(Safeguard::Revocation)
                    && let Some(lease) = &mut cell.lease
                {
                    lease.revoked = false;
                }
                if self.has(Safeguard::Fencing) {
                    transition::publish(
                        Some(&cell),
                        nonce(holder),
                        entry,
                        None,
                        stamp(leeward::time::Time::default()),
                    )
                } else {
                    cell.entry = Some(entry);
                    cell.lease = None;
                    cell.marks.retry = None;
                    Ok(cell)
                }
            }
            Outcome::Fail => {
                let delay = ticks(RETRY);
                let failure = Failure {
                    backoff: Backoff {
                        first: delay,
                        // A delay is at most four fifths of this.
                        max: delay * 5 / 4,
                    },
                    random: 0,
                    not_before: None,
                    doubt: false,
                    brief: None,
                };
                let now = time(self.reading(clock));
                transition::fail(Some(&cell), nonce(holder), &failure, None, stamp(now))
            }
            Outcome::Release => transition::release(
                Some(&cell),
                nonce(holder),
                stamp(leeward::time::Time::default()),
            ),
        };
        match new {
            Ok(new) => At::Swapping(Write {
                goal: Goal::Settle { holder, outcome },
                expected: Some(loaded),
                new: self.record(&new),
                bucket: 0,
                until: 0,
            }),
            Err(Fenced::Purged) => self.settle(holder, Outcome::Release, loaded, clock),
            Err(Fenced::Lost) => At::Idle,
        }
    }

    pub(super) fn purge(&self, kind: Purge, loaded: Record) -> Write {
        let now = time(self.state.now);
        let new = transition::purge(&loaded.to_cell(), kind, stamp(now));
        Write {
            goal: Goal::Purge(kind.into()),
            expected: Some(loaded),
            new: self.record(&new),
            bucket: 0,
            until: 0,
        }
    }

    pub(super) fn acknowledge(&mut self, kind: Purge) -> At {
        self.taint(kind, Taint::Suspect, Taint::Doomed);
        At::Idle
    }

    pub(super) fn taint(&mut self, kind: Purge, from: Taint, to: Taint) {
        if self.settings.purges.follows(kind) {
            self.state.each_taint(&mut |taint| {
                if *taint == from {
                    *taint = to;
                }
            });
        }
    }

    fn remove_guard(&mut self, bucket: u8, second: bool) {
        if bucket > 0
            && let Some(count) = self.state.guard(bucket + u8::from(second))
        {
            *count = 0;
        }
    }
}

fn hold(current: Record, holder: u8, deadline: u8) -> At {
    At::Holding(
        Held {
            loaded: current,
            holder,
            deadline,
        },
        current.entry.map(|entry| entry.taint),
    )
}

pub(super) fn cleaned(bucket: u8, second: bool, then: Then) -> At {
    match then {
        _ if !second => At::Cleaning {
            bucket,
            second: true,
            then,
        },
        Then::Hold(held, base) => At::Holding(held, base),
        Then::Leave => At::Idle,
    }
}

/// Removes the guards that a creator won, which does not create.
pub(super) fn leave_guards(write: &Write) -> At {
    if write.bucket == 0 {
        return At::Idle;
    }
    At::Cleaning {
        bucket: write.bucket,
        second: false,
        then: Then::Leave,
    }
}

/// `win`, after an increment that failed or was lost: removes the first guard if it
/// was won, and only that.
pub(super) fn leave_first_guard(write: &Write, second: bool) -> At {
    if !second || write.bucket == 0 {
        return At::Idle;
    }
    At::Cleaning {
        bucket: write.bucket - 1,
        second: true,
        then: Then::Leave,
    }
}

/// The swap of a cell that has certainly been replaced.
fn refused(write: Write) -> At {
    At::Reading {
        write,
        word: Word::Done,
    }
}

/// What the model does not tell apart by nonces, it tells apart by marks.
fn stamp(now: leeward::time::Time) -> Stamp {
    Stamp {
        nonce: Nonce::new(0),
        now,
    }
}

fn ticks(count: u8) -> Duration {
    Duration::from_millis(count.into())
}
