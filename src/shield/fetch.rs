//! What is said about a fetch: why it is made, what the request that waits for it
//! gets, what it came to, and what followers get of it.

use super::answer_body::AnswerBody;
use super::flight::{Flight, Handed};
use super::served::Own;
use crate::cell::{Entry, Nonce, Selecting};
use crate::cells::{Held, Loaded};
use crate::config::Config;
use crate::origin::{Named, Slot};
use crate::question::{Question, fields};
use crate::semantics::{Audience, Preset, Reason as NotStored};
use crate::time::Time;
use crate::world::Platform;
use futures::channel::oneshot;
use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderName, response};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// Why the origin is asked; the word in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// Nothing stored.
    Miss,
    /// Something stored that must be validated first.
    Revalidate,
    /// Something stale, refreshed behind an answer.
    Refresh,
    /// Something about to expire, refreshed behind an answer.
    Early,
    /// A passed answer showed that the question may be cacheable.
    HitForMiss,
}

impl Reason {
    pub(super) fn token(self) -> &'static str {
        match self {
            Reason::Miss => "miss",
            Reason::Revalidate => "revalidate",
            Reason::Refresh => "refresh",
            Reason::Early => "early",
            Reason::HitForMiss => "hit-for-miss",
        }
    }
}

/// A fetch under a lease.
pub(super) struct Job<P: Platform> {
    pub(super) held: Box<Held>,
    /// The place in the origin's budget; none where the request has been answered, and
    /// the fetch waits for one.
    pub(super) slot: Option<Slot>,
    /// What the origin is asked.
    pub(super) question: Question,
    /// The visitor's request that caused it, for the log.
    pub(super) named: Named,
    /// The key of the question's target.
    pub(super) key: String,
    /// The selecting fields of the key, as far as they are known.
    pub(super) known: Vec<Selecting>,
    pub(super) config: Rc<Config>,
    pub(super) reason: Reason,
    /// The request that waits for the head; none where it has been answered.
    pub(super) head: Option<oneshot::Sender<Head<P::Body>>>,
    /// Keeps other requests of this instance waiting until there is an answer
    /// that they may have too, or the lease is settled.
    pub(super) flight: Flight<P::Wake, Brought>,
}

/// What the request that waits for a fetch gets.
pub(super) enum Head<B> {
    /// The origin's response, while it comes.
    Response(Box<Fetched<B>>),
    /// An entry that the origin has confirmed, and what the answer said about the
    /// moment.
    Entry(Box<Entry>, Moment),
    /// Nothing of use: the stale entry, if there is one. The origin asks to be left
    /// alone for so long, at most `origin.retry.after_max`.
    Failed(Own, Option<Duration>),
    /// The origin works, and its answer may not be stored. The stale entry, for as long as
    /// that is not believed; the request goes to the origin itself if it cannot have it.
    Doubted,
}

/// The origin's response to a question.
pub(super) struct Fetched<B> {
    pub(super) parts: response::Parts,
    pub(super) body: AnswerBody<B>,
    /// Why it is not stored; none where it is being stored.
    pub(super) not_kept: Option<NotKept>,
    pub(super) audience: Audience,
    /// The selecting fields that it names.
    pub(super) names: Vec<HeaderName>,
}

/// Fields of an answer for the request alone that caused the fetch.
#[derive(Debug, Default)]
pub(super) struct Moment(HeaderMap);

impl Moment {
    /// Takes them out of the fields of a 304. Preset `strict` stores all of them but
    /// `Set-Cookie`.
    pub(super) fn take_from(headers: &mut HeaderMap, preset: Preset) -> Self {
        let uptime = preset == Preset::Uptime;
        let mut moment = HeaderMap::new();
        let names: Vec<HeaderName> = headers
            .keys()
            .filter(|name| **name == SET_COOKIE || (uptime && fields::is_momentary(name)))
            .cloned()
            .collect();
        for name in names {
            for value in headers.get_all(&name) {
                let _full = moment.try_append(name.clone(), value.clone());
            }
            headers.remove(name);
        }
        Moment(moment)
    }

    /// Adds them to an answer.
    pub(super) fn add_to(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.0 {
            let _full = headers.try_append(name.clone(), value.clone());
        }
    }
}

/// Sends the head once, if a request waits for it.
pub(super) struct HeadSender<B>(pub(super) Option<oneshot::Sender<Head<B>>>);

impl<B> HeadSender<B> {
    pub(super) fn new(sender: oneshot::Sender<Head<B>>) -> Self {
        HeadSender(Some(sender))
    }

    pub(super) fn send(&mut self, head: Head<B>) {
        if let Some(sender) = self.0.take() {
            // The request may have been answered with a stale entry, or be gone.
            let _ = sender.send(head);
        }
    }
}

/// What a fetch came to, and so how the lease is settled.
pub(super) enum Outcome {
    /// A response that may be stored and is whole, or an entry renewed by a 304.
    Store(Box<Entry>),
    /// The refresh failed. The text is for the log.
    Fail {
        why: String,
        /// The origin asks to be left alone until then.
        not_before: Option<Time>,
        /// It answered, with what may not be stored.
        doubt: bool,
        /// An error page that is shared for a moment.
        brief: Option<Box<Entry>>,
    },
    /// A response that may not be stored: requests need not queue.
    Pass(NotKept),
    /// Nothing is known about later answers. The text is for the log.
    Release(String),
    /// The store has not taken a part of the body. It may refuse it each time.
    Unpublished,
}

/// Why a response is not stored.
#[derive(Clone, Copy, Debug)]
pub(super) enum NotKept {
    /// HTTP's rules say so.
    Because(NotStored),
    /// Its body is longer than `limits.body`, or its fields than the limits.
    TooLong,
    /// Its key would have a variant for nearly every visitor.
    TooManySelectingFields,
    /// It has no end that a visitor would wait for.
    Stream,
    /// It took longer than `origin.fill_timeout`.
    TooSlow,
    /// The store does not take a part of its body: it is too long for one value.
    Refused,
}

impl NotKept {
    /// A short name for logs and `Cache-Status` details.
    pub(super) fn token(self) -> &'static str {
        match self {
            NotKept::Because(reason) => reason.token(),
            NotKept::TooLong => "too-long",
            NotKept::TooManySelectingFields => "too-many-vary-fields",
            NotKept::Stream => "stream",
            NotKept::TooSlow => "fill-timeout",
            NotKept::Refused => "store-refused",
        }
    }
}

impl std::fmt::Display for NotKept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.token())
    }
}

/// What lets others read a body while it is written.
#[derive(Clone, Copy)]
pub(super) struct Shared<'a> {
    /// The key of the question's target.
    pub(super) key: &'a str,
    /// The selecting fields of the key.
    pub(super) known: &'a [Selecting],
    /// To be called when the first of it can be read: wakes the followers of this
    /// instance.
    pub(super) begun: &'a dyn Fn(),
}

/// What a fetch starts from.
#[derive(Clone, Copy)]
pub(super) struct Start<'a> {
    /// The cell as it was when the lease was taken.
    pub(super) loaded: &'a Loaded,
    pub(super) holder: Nonce,
    /// Until when something may be started under the lease; renewals move it.
    pub(super) acts_until: &'a Cell<Time>,
    /// How many chunks of its body are complete.
    pub(super) done: &'a Cell<u32>,
    /// None where nobody waits for what is fetched.
    pub(super) shared: Option<Shared<'a>>,
    pub(super) question: &'a Question,
    /// The visitor's request that caused it, for the log.
    pub(super) named: Option<&'a Named>,
    pub(super) config: &'a Config,
}

/// When an answer was asked for and came, and what was asked.
pub(super) struct Exchange<'a> {
    pub(super) asked: &'a HeaderMap,
    /// From when on `origin.fill_timeout` runs: when the first request of the fetch was
    /// sent, which may be another one, or later for a head that came after
    /// `origin.first_byte_timeout`.
    pub(super) began: Time,
    pub(super) request_time: Time,
    pub(super) response_time: Time,
}

/// What a fetch of this instance brought, for its followers. It says what they do
/// next.
#[derive(Debug)]
pub(super) enum Brought {
    /// An answer that is about to be stored, and whole: take it, if it is for you.
    Entry(Box<Entry>, Box<Question>),
    /// Answers to this question may not be stored: go alone.
    Uncacheable,
    /// A long body, of which the first is stored: look at the cell.
    Begun,
}

impl Brought {
    /// What followers are told of an outcome; none where they look at the cell
    /// again. A body in chunks is not relied on before it is published: it is
    /// garbage if it is never published.
    pub(super) fn from(outcome: &Outcome, question: &Question) -> Option<Brought> {
        match outcome {
            Outcome::Store(entry) if entry.body.manifest().is_none() => {
                Some(Brought::Entry(entry.clone(), Box::new(question.clone())))
            }
            Outcome::Fail {
                brief: Some(entry), ..
            } if entry.body.manifest().is_none() => {
                Some(Brought::Entry(entry.clone(), Box::new(question.clone())))
            }
            Outcome::Store(_)
            | Outcome::Fail { .. }
            | Outcome::Release(_)
            | Outcome::Unpublished => None,
            Outcome::Pass(_) => Some(Brought::Uncacheable),
        }
    }
}

impl Handed<Brought> {
    /// Whether followers need not look at the cell to know that they are passed.
    pub(super) fn is_uncacheable(&self) -> bool {
        matches!(self.get(), Some(Brought::Uncacheable))
    }

    /// Whether followers find in the cell what they may read.
    pub(super) fn has_begun(&self) -> bool {
        matches!(self.get(), Some(Brought::Begun))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn strict_stores_what_a_304_says_about_the_moment_but_no_cookie() {
        for (preset, expected) in [(Preset::Uptime, 0), (Preset::Strict, 1)] {
            let mut update = HeaderMap::new();
            update.insert(SET_COOKIE, HeaderValue::from_static("a=b"));
            update.insert("clear-site-data", HeaderValue::from_static("\"cookies\""));
            let moment = Moment::take_from(&mut update, preset);
            assert_eq!(update.len(), expected, "{preset:?}");
            let mut answer = HeaderMap::new();
            moment.add_to(&mut answer);
            assert_eq!(answer.len(), 2 - expected, "{preset:?}");
            assert_eq!(answer[SET_COOKIE], "a=b");
        }
    }
}
