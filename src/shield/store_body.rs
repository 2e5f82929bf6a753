//! Storing a body while it comes: in the cell if it is short, else in chunks.

use super::Shield;
use super::platform::{Body, OriginError, Platform};
use super::tee::{Sink, tee};
use crate::cell::{self, Draft, Manifest, Nonce};
use crate::cells::{Loaded, Place, Settled};
use crate::config::{CHUNKS_MAX, Config};
use crate::time::Time;
use bytes::{Bytes, BytesMut};
use futures::stream::LocalBoxStream;
use std::cell::Cell;
use std::rc::Rc;

/// What a body is stored under.
pub(super) struct Storing<'a> {
    /// The cell that the lease is on.
    pub(super) loaded: &'a Loaded,
    pub(super) holder: Nonce,
    /// Until when something may be started under the lease.
    pub(super) acts_until: &'a Cell<Time>,
    /// The length that the response announces.
    pub(super) announced: Option<u64>,
    /// Longest body that is stored, in bytes.
    pub(super) limit: u64,
    pub(super) config: &'a Config,
}

/// How storing a body ended. The client gets the same in each case, as far as
/// the origin sends it.
pub(super) enum KeptBody {
    /// All of it is stored, or here to be stored inline.
    Whole(cell::Body),
    /// It is longer than may be stored.
    TooLong,
    /// It broke off; the client learns it.
    Broken(OriginError),
    /// The store, or the lease, was lost on the way.
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
    async fn run<B: Body>(
        mut self,
        storing: Storing<'_>,
        mut body: B,
        mut sink: Sink<B>,
    ) -> KeptBody {
        loop {
            let next = async { body.chunk().await.transpose() };
            let bytes = match self.shield.door.in_time(storing.config, next).await {
                Ok(Some(bytes)) => bytes,
                Ok(None) if storing.announced.is_some_and(|all| all != self.length) => {
                    let error = OriginError::Failed("the body is not as long as announced".into());
                    sink.break_off(error.clone());
                    return KeptBody::Broken(error);
                }
                Ok(None) => return self.end(&storing, sink).await,
                Err(error) => {
                    sink.break_off(error.clone());
                    return KeptBody::Broken(error);
                }
            };
            self.length = self.length.saturating_add(bytes.len() as u64);
            self.pending.extend_from_slice(&bytes);
            sink.push(&bytes, self.in_chunks);
            let stored = if self.length > storing.limit {
                Err(KeptBody::TooLong)
            } else {
                self.store(&storing, &mut sink).await
            };
            if let Err(kept) = stored {
                sink.hand_over(self.pending.freeze(), body);
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
        }
        Ok(())
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
        };
        let noted = self
            .shield
            .cells
            .note_draft(storing.loaded.clone(), storing.holder, Some(draft))
            .await;
        match noted {
            Settled::Done => {
                self.in_chunks = true;
                Ok(())
            }
            Settled::Fenced(_) => Err(KeptBody::Lost("the lease was lost")),
            Settled::Failed | Settled::Refused => Err(KeptBody::Lost("the store failed")),
        }
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
            .map_err(|_| KeptBody::Lost("the store failed"))?;
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
