//! Storing a body while it comes: in the cell if it is short, else in chunks.

use super::Shield;
use super::platform::{Body, OriginError, Platform};
use super::tee::{Sink, tee};
use crate::cell::{self, Coming, Draft, Manifest, Nonce};
use crate::cells::{Loaded, Place, Settled};
use crate::config::{CHUNKS_MAX, Config};
use crate::origin::{Pace, TRICKLE_WINDOW, read};
use crate::time::Time;
use bytes::{Bytes, BytesMut};
use futures::future::{Either, select};
use futures::stream::LocalBoxStream;
use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

/// The least time between two notes of how far a body is.
const NOTE_PAUSE: Duration = Duration::from_millis(500);

/// Such notes take at most one part in this number of a writer's time.
const NOTE_PART: u32 = 8;

/// What a body is stored under.
pub(super) struct Storing<'a> {
    /// The cell that the lease is on.
    pub(super) loaded: &'a Loaded,
    pub(super) holder: Nonce,
    /// Until when something may be started under the lease.
    pub(super) acts_until: &'a Cell<Time>,
    /// How many chunks are complete, for whoever renews the lease.
    pub(super) done: &'a Cell<u32>,
    /// To be called when others can read the first of it.
    pub(super) begun: Option<&'a dyn Fn()>,
    /// What others need to read it while it is written, if they may. The body is
    /// named when it is known to be in chunks.
    pub(super) coming: Option<Coming>,
    /// The length that the response announces.
    pub(super) announced: Option<u64>,
    /// Longest body that is stored, in bytes.
    pub(super) limit: u64,
    /// What is left of `origin.fill_timeout`.
    pub(super) time_left: Duration,
    pub(super) config: &'a Config,
}

/// How storing a body ended. The client gets the same in each case, as far as
/// the origin sends it.
pub(super) enum KeptBody {
    /// All of it is stored, or here to be stored inline.
    Whole(cell::Body),
    /// It is longer than may be stored.
    TooLong,
    /// It has no end that anybody would wait for.
    Stream,
    /// It is still coming after `origin.fill_timeout`.
    TooSlow,
    /// The store does not take one of its chunks.
    Refused,
    /// The store has not taken one of its chunks, or has not said so.
    Unwritten,
    /// It broke off; the client learns it.
    Broken(OriginError),
    /// The lease was lost on the way.
    Lost(&'static str),
}

/// A body as a stream.
pub(super) type ByteStream = LocalBoxStream<'static, Result<Bytes, OriginError>>;

impl<P: Platform> Shield<P> {
    /// Longest body that goes into the cell, in bytes.
    fn inline_limit(&self) -> usize {
        let limits = &self.config.limits;
        usize::try_from(limits.body).map_or(limits.inline, |body| body.min(limits.inline))
    }

    /// Stores `body`, and gives it to a client as well. Memory is bounded: by
    /// `limits.inline` or a chunk for what is not stored yet, and by what
    /// [`tee`](super::tee) says for what the client has not read yet.
    pub(super) fn store_body<'a, B: Body>(
        self: &Rc<Self>,
        storing: Storing<'a>,
        body: B,
    ) -> (impl Future<Output = KeptBody> + 'a, ByteStream) {
        let (sink, source) = tee();
        let place = Place::of(storing.loaded);
        // Only where the limit is below can the body be in chunks; how long it
        // is, is known at its end, and a reader of its first chunks need not
        // know.
        let manifest = Manifest {
            body: self.cells.nonce(),
            length: u64::MAX,
            chunk_size: self.cells.chunk_size(),
        };
        let copy = Copy {
            shield: Rc::clone(self),
            loaded: storing.loaded.clone(),
            noted: None,
            place: place.clone(),
            manifest,
            in_chunks: false,
            pending: BytesMut::new(),
            length: 0,
            chunks: 0,
            ends: Rc::default(),
        };
        let (shield, ends) = (Rc::clone(self), Rc::clone(&copy.ends));
        let stream = source.into_stream(async move |chunk| {
            // The last chunk is shorter than the others.
            let length = ends.get().unwrap_or(u64::MAX);
            let manifest = Manifest { length, ..manifest };
            let read = shield.cells.chunk(&place, &manifest, chunk).await;
            read.map_err(|_| OriginError::Failed("the store lost what was put into it".into()))
        });
        (copy.run(storing, body, sink), stream)
    }
}

/// A body on its way into the store.
struct Copy<P: Platform> {
    shield: Rc<Shield<P>>,
    place: Place,
    /// The cell as this writer knows it.
    loaded: Loaded,
    /// When to note next how far the body is; none where nobody reads it yet.
    noted: Option<Time>,
    manifest: Manifest,
    /// It is too long to be inline.
    in_chunks: bool,
    /// What has come and is not stored.
    pending: BytesMut,
    /// Bytes that have come.
    length: u64,
    /// Chunks that are stored.
    chunks: u64,
    /// The length of the whole, once that is known, for the client's end.
    ends: Rc<Cell<Option<u64>>>,
}

impl<P: Platform> Copy<P> {
    async fn run<B: Body>(mut self, storing: Storing<'_>, body: B, mut sink: Sink<B>) -> KeptBody {
        let platform = Rc::clone(&self.shield.platform);
        let pause = storing.config.origin.between_bytes_timeout;
        let mut time = pin!(platform.sleep(storing.time_left));
        let mut pace = Pace::default();
        let mut window = Box::pin(platform.sleep(TRICKLE_WINDOW));
        let inline = self.shield.inline_limit() as u64;
        if storing.announced.is_some_and(|all| all > inline)
            && let Err(kept) = self.begin(&storing).await
        {
            let reading = read(&platform, body, pause);
            sink.hand_over(Bytes::new(), reading);
            return kept;
        }
        let mut reading = read(&platform, body, pause);
        loop {
            let over = select(time.as_mut(), window.as_mut());
            let (body, next) = match select(reading, over).await {
                Either::Left((read, _)) => read,
                Either::Right((Either::Left(_), reading)) => {
                    sink.hand_over(self.pending.freeze(), reading);
                    return KeptBody::TooSlow;
                }
                // A body that says how long it is has an end.
                Either::Right((Either::Right(_), unread)) => {
                    if pace.trickled() && storing.announced.is_none() {
                        sink.hand_over(self.pending.freeze(), unread);
                        return KeptBody::Stream;
                    }
                    reading = unread;
                    window = Box::pin(platform.sleep(TRICKLE_WINDOW));
                    continue;
                }
            };
            let bytes = match next {
                Some(Ok(bytes)) => bytes,
                None if storing.announced.is_some_and(|all| all != self.length) => {
                    let error = OriginError::Failed("the body is not as long as announced".into());
                    sink.break_off(error.clone());
                    return KeptBody::Broken(error);
                }
                None => return self.end(&storing, sink).await,
                Some(Err(error)) => {
                    sink.break_off(error.clone());
                    return KeptBody::Broken(error);
                }
            };
            pace.came(&bytes);
            self.length = self.length.saturating_add(bytes.len() as u64);
            self.pending.extend_from_slice(&bytes);
            sink.push(&bytes, self.in_chunks);
            let stored = if self.length > storing.limit {
                Err(KeptBody::TooLong)
            } else {
                self.store(&storing, &mut sink).await
            };
            reading = read(&platform, body, pause);
            if let Err(kept) = stored {
                sink.hand_over(self.pending.freeze(), reading);
                return kept;
            }
        }
    }

    /// Stores as many chunks as have come.
    async fn store<B: Body>(
        &mut self,
        storing: &Storing<'_>,
        sink: &mut Sink<B>,
    ) -> Result<(), KeptBody> {
        if !self.in_chunks {
            if self.pending.len() <= self.shield.inline_limit() {
                return Ok(());
            }
            self.begin(storing).await?;
        }
        let size = usize::try_from(self.manifest.chunk_size).unwrap_or(usize::MAX);
        while self.pending.len() >= size {
            self.write(storing, size, sink).await?;
            let done = u32::try_from(self.chunks).unwrap_or(u32::MAX);
            storing.done.set(done);
            self.note_progress(storing, done).await?;
        }
        Ok(())
    }

    /// Has the cell say how many chunks are complete: at once after the first, then at
    /// most once in [`NOTE_PAUSE`], and for a small part of the time where swaps are
    /// slow. Renewals of the lease say it as well.
    async fn note_progress(&mut self, storing: &Storing<'_>, done: u32) -> Result<(), KeptBody> {
        let now = self.shield.platform.now();
        if self.noted.is_none_or(|due| now < due) {
            return Ok(());
        }
        let loaded = self.loaded.clone();
        let (settled, loaded) = self
            .shield
            .cells
            .note_progress(loaded, storing.holder, done)
            .await;
        let then = self.shield.platform.now();
        let pause = then.since(now).saturating_mul(NOTE_PART).max(NOTE_PAUSE);
        self.noted = Some(then.plus(pause));
        match settled {
            Settled::Done => {
                self.loaded = loaded;
                if let Some(begun) = storing.begun {
                    begun();
                }
                Ok(())
            }
            Settled::Fenced(_) => Err(KeptBody::Lost("the lease was lost")),
            // The next chunk shows whether the store fails.
            Settled::Failed | Settled::Refused => Ok(()),
        }
    }

    /// Has the cell remember that chunks are about to be written: whatever
    /// becomes of this instance, they will be cleaned up.
    async fn begin(&mut self, storing: &Storing<'_>) -> Result<(), KeptBody> {
        let most = storing.announced.unwrap_or(storing.limit);
        let manifest = Manifest {
            length: most,
            ..self.manifest
        };
        let chunks = u32::try_from(manifest.chunks()).unwrap_or(u32::MAX);
        if chunks > CHUNKS_MAX {
            return Err(KeptBody::TooLong);
        }
        let draft = Draft {
            body: self.manifest.body,
            chunks,
            done: 0,
        };
        let coming = storing.coming.as_ref().map(|coming| self.named(coming));
        let loaded = self.loaded.clone();
        let (noted, loaded) = self
            .shield
            .cells
            .note_draft(loaded, storing.holder, Some(draft), coming.as_ref())
            .await;
        match noted {
            Settled::Done => {
                self.in_chunks = true;
                self.loaded = loaded;
                self.noted = coming.map(|_| Time::default());
                Ok(())
            }
            Settled::Fenced(_) => Err(KeptBody::Lost("the lease was lost")),
            Settled::Failed => Err(KeptBody::Unwritten),
            Settled::Refused => Err(KeptBody::Refused),
        }
    }

    /// What is coming, with the name of this body.
    fn named(&self, coming: &Coming) -> Coming {
        let mut coming = coming.clone();
        if let cell::Body::Chunked(manifest) = &mut coming.entry.body {
            manifest.body = self.manifest.body;
        }
        coming
    }

    /// Writes the first `length` pending bytes as a chunk.
    async fn write<B: Body>(
        &mut self,
        storing: &Storing<'_>,
        length: usize,
        sink: &mut Sink<B>,
    ) -> Result<(), KeptBody> {
        // Whoever took over may have cleaned up already.
        if self.shield.platform.now() >= storing.acts_until.get() {
            return Err(KeptBody::Lost("the lease was lost"));
        }
        let content = self.pending.get(..length).unwrap_or_default();
        let chunk = self.chunks;
        self.shield
            .cells
            .put_chunk(&self.place, self.manifest.body, chunk, content)
            .await
            .map_err(|error| match error.is_refusal() {
                true => KeptBody::Refused,
                false => KeptBody::Unwritten,
            })?;
        let _ = self.pending.split_to(length.min(self.pending.len()));
        self.chunks += 1;
        sink.stored(chunk, self.manifest.start_of(chunk));
        Ok(())
    }

    async fn end<B: Body>(mut self, storing: &Storing<'_>, mut sink: Sink<B>) -> KeptBody {
        if !self.in_chunks {
            return KeptBody::Whole(cell::Body::Inline(self.pending.freeze()));
        }
        self.ends.set(Some(self.length));
        let length = self.pending.len();
        if length > 0
            && let Err(kept) = self.write(storing, length, &mut sink).await
        {
            sink.end_with(self.pending.freeze());
            return kept;
        }
        KeptBody::Whole(cell::Body::Chunked(Manifest {
            length: self.length,
            ..self.manifest
        }))
    }
}
