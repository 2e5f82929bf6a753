//! What becomes of an answer if the instance that makes it dies.
//!
//! A body whose instance dies just ends, as if it were complete. Before the instance and
//! what it holds are removed, [`Fate::instance_died`] looks at the body: if it is complete,
//! the client gets it all. An instance may well die of what it does behind its
//! answer.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use tokio::sync::Notify;
use wasmtime_wasi_http::{Error, WasiBody};

/// Longest that an instance that died is kept for an answer that nobody has taken yet.
const TAKEN_MAX: Duration = Duration::from_secs(1);

/// Most parts that a body is asked for after its instance died. Channels between an
/// instance and its body hold fewer.
const PARTS_MAX: usize = 64;

/// The answer to one request, and what became of its instance.
#[derive(Default)]
pub(crate) struct Fate {
    answer: Mutex<Answer>,
    taken: Notify,
}

#[derive(Default)]
struct Answer {
    body: Option<WasiBody>,
    is_taken: bool,
    end: End,
    /// What was left of the body when its instance died.
    rest: VecDeque<Frame<Bytes>>,
    waker: Option<Waker>,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The body says.
    #[default]
    Open,
    Complete,
    Broken,
}

impl Fate {
    fn answer(&self) -> MutexGuard<'_, Answer> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the body of the answer into care.
    pub(crate) fn take(&self, body: WasiBody) {
        {
            let mut answer = self.answer();
            answer.body = Some(body);
            answer.is_taken = true;
        }
        self.taken.notify_waiters();
    }

    /// Waits until the answer was taken, for a bounded time. The instance has died, but
    /// is still there.
    pub(crate) async fn taken(&self) {
        let mut taken = std::pin::pin!(self.taken.notified());
        taken.as_mut().enable();
        if !self.answer().is_taken {
            drop(tokio::time::timeout(TAKEN_MAX, taken).await);
        }
    }

    /// Decides whether the answer is complete. What the instance holds must still be
    /// there.
    pub(crate) fn instance_died(&self) {
        let waker = {
            let mut answer = self.answer();
            if answer.end != End::Open {
                return;
            }
            answer.end = answer.settle();
            answer.body = None;
            answer.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The next part of the body. A body whose instance died before it was complete
    /// ends with an error. That breaks the connection, so that the client sees that the answer is
    /// incomplete.
    pub(crate) fn poll_frame(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let mut answer = self.answer();
        if let Some(frame) = answer.rest.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        match answer.end {
            End::Complete => return Poll::Ready(None),
            End::Broken => return Poll::Ready(Some(Err(Error::HttpResponseIncomplete))),
            End::Open => {}
        }
        let Some(body) = &mut answer.body else {
            return Poll::Ready(None);
        };
        let frame = std::pin::Pin::new(body).poll_frame(cx);
        match &frame {
            Poll::Pending => answer.waker = Some(cx.waker().clone()),
            Poll::Ready(None) => {
                answer.end = End::Complete;
                answer.body = None;
            }
            Poll::Ready(Some(_)) => {}
        }
        frame
    }

    /// Whether nothing is left of the body.
    pub(crate) fn is_end_stream(&self) -> bool {
        let answer = self.answer();
        answer.rest.is_empty()
            && match answer.end {
                End::Complete => true,
                End::Broken => false,
                End::Open => (answer.body.as_ref()).is_some_and(|body| body.is_end_stream()),
            }
    }

    /// How much is left of the body, as far as that is known.
    pub(crate) fn size_hint(&self) -> SizeHint {
        let answer = self.answer();
        match &answer.body {
            Some(body) => body.size_hint(),
            None => {
                let rest = answer
                    .rest
                    .iter()
                    .filter_map(Frame::data_ref)
                    .map(Bytes::len);
                let mut hint = SizeHint::new();
                hint.set_lower(rest.sum::<usize>() as u64);
                hint
            }
        }
    }
}

impl Answer {
    /// Reads what is left of the body. Nothing comes any more, so a body that would wait
    /// is incomplete.
    fn settle(&mut self) -> End {
        let Some(body) = &mut self.body else {
            return End::Broken;
        };
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..PARTS_MAX {
            match std::pin::Pin::new(&mut *body).poll_frame(&mut cx) {
                Poll::Ready(Some(Ok(frame))) => self.rest.push_back(frame),
                Poll::Ready(None) => return End::Complete,
                Poll::Ready(Some(Err(_))) | Poll::Pending => return End::Broken,
            }
        }
        End::Broken
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use futures::channel::mpsc;
    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;

    type Part = Result<Frame<Bytes>, Error>;

    fn body() -> (mpsc::UnboundedSender<Part>, WasiBody) {
        let (parts, body) = mpsc::unbounded();
        (parts, StreamBody::new(body).boxed_unsync())
    }

    fn part(text: &'static str) -> Part {
        Ok(Frame::data(Bytes::from_static(text.as_bytes())))
    }

    async fn next(fate: &Fate) -> Option<Result<Bytes, ()>> {
        let frame = std::future::poll_fn(|cx| fate.poll_frame(cx)).await?;
        Some(frame.map(|it| it.into_data().unwrap()).map_err(drop))
    }

    #[tokio::test]
    async fn an_answer_that_was_complete_when_its_instance_died_is_given_whole() {
        let fate = Fate::default();
        let (parts, body) = body();
        fate.take(body);
        parts.unbounded_send(part("a")).unwrap();
        assert_eq!(next(&fate).await, Some(Ok("a".into())));
        parts.unbounded_send(part("b")).unwrap();
        drop(parts);
        fate.instance_died();
        assert!(!fate.is_end_stream());
        assert_eq!(next(&fate).await, Some(Ok("b".into())));
        assert!(fate.is_end_stream());
        assert_eq!(next(&fate).await, None);
    }

    #[tokio::test]
    async fn an_answer_that_was_incomplete_when_its_instance_died_breaks() {
        let fate = Fate::default();
        let (parts, body) = body();
        fate.take(body);
        parts.unbounded_send(part("a")).unwrap();
        fate.instance_died();
        // The end that comes with the removal of the instance changes nothing.
        drop(parts);
        assert_eq!(next(&fate).await, Some(Ok("a".into())));
        assert_eq!(next(&fate).await, Some(Err(())));
        assert!(!fate.is_end_stream());
    }

    #[tokio::test]
    async fn a_reader_that_waits_learns_that_the_instance_died() {
        let fate = Fate::default();
        let (_parts, body) = body();
        fate.take(body);
        let died = async { fate.instance_died() };
        let (got, ()) = tokio::join!(next(&fate), died);
        assert_eq!(got, Some(Err(())));
    }

    #[tokio::test]
    async fn an_instance_that_dies_after_the_end_changes_nothing() {
        let fate = Fate::default();
        let (parts, body) = body();
        fate.take(body);
        drop(parts);
        assert_eq!(next(&fate).await, None);
        fate.instance_died();
        assert_eq!(next(&fate).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_instance_that_died_is_kept_until_its_answer_was_taken() {
        let fate = Fate::default();
        let (parts, body) = body();
        parts.unbounded_send(part("a")).unwrap();
        drop(parts);
        let died = async {
            fate.taken().await;
            fate.instance_died();
        };
        let taken = async {
            tokio::task::yield_now().await;
            fate.take(body);
            next(&fate).await
        };
        let ((), got) = tokio::join!(died, taken);
        assert_eq!(got, Some(Ok("a".into())));
        // An answer that nobody takes does not keep it.
        Fate::default().taken().await;
    }
}
