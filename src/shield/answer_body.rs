//! The body of an answer: from the store, from the origin, or both.

use super::store_body::ByteStream;
use crate::origin::OriginBody;
use crate::world::{Body, OriginError};
use bytes::Bytes;
use futures::{StreamExt, stream};
use std::ops::Range;

/// An answer to a visitor.
pub type Answer<B> = http::Response<AnswerBody<B>>;

/// The body of an answer.
pub enum AnswerBody<B> {
    /// None.
    Empty,
    /// All of it.
    Full(Bytes),
    /// From the store, or from the origin while it is being stored.
    Stream(ByteStream),
    /// From the origin, as it comes.
    Origin(OriginBody<B>),
}

impl<B> std::fmt::Debug for AnswerBody<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            AnswerBody::Empty => "Empty",
            AnswerBody::Full(_) => "Full",
            AnswerBody::Stream(_) => "Stream",
            AnswerBody::Origin(_) => "Origin",
        })
    }
}

impl<B: Body> AnswerBody<B> {
    /// The bytes `range` of it.
    pub(super) fn slice(self, range: Range<u64>) -> Self {
        let state = (self, 0_u64, range);
        let stream = stream::unfold(state, async |(mut body, position, range)| {
            let mut position = position;
            while position < range.end {
                let bytes = match body.chunk().await? {
                    Ok(bytes) => bytes,
                    Err(error) => {
                        let over = range.end;
                        return Some((Err(error), (body, over, range)));
                    }
                };
                let (start, length) = (position, bytes.len());
                position = position.saturating_add(length as u64);
                let within = |at: u64| {
                    usize::try_from(at.saturating_sub(start)).map_or(length, |at| at.min(length))
                };
                let (from, to) = (within(range.start), within(range.end));
                if from < to {
                    return Some((Ok(bytes.slice(from..to)), (body, position, range)));
                }
            }
            None
        });
        AnswerBody::Stream(stream.boxed_local())
    }
}

/// An error has to break the answer off: it must not look complete to the client.
impl<B: Body> Body for AnswerBody<B> {
    async fn chunk(&mut self) -> Option<Result<Bytes, OriginError>> {
        match self {
            AnswerBody::Empty => None,
            AnswerBody::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = AnswerBody::Empty;
                (!bytes.is_empty()).then_some(Ok(bytes))
            }
            AnswerBody::Stream(stream) => stream.next().await,
            AnswerBody::Origin(body) => body.chunk().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::executor::block_on;
    use std::collections::VecDeque;

    struct Script(VecDeque<Result<Bytes, OriginError>>);

    impl Body for Script {
        async fn chunk(&mut self) -> Option<Result<Bytes, OriginError>> {
            self.0.pop_front()
        }
    }

    fn read(range: Range<u64>, parts: &[Result<&'static str, OriginError>]) -> (String, bool) {
        let parts = parts.iter().map(|part| part.clone().map(Bytes::from));
        let mut body =
            AnswerBody::Origin(OriginBody::without_slot(Script(parts.collect()))).slice(range);
        block_on(async {
            let mut text = String::new();
            while let Some(bytes) = body.chunk().await {
                match bytes {
                    Ok(bytes) => text.push_str(&String::from_utf8_lossy(&bytes)),
                    Err(_) => return (text, false),
                }
            }
            (text, true)
        })
    }

    #[test]
    fn a_body_is_cut_wherever_its_parts_end() {
        let parts = [Ok("ab"), Ok(""), Ok("cde"), Ok("f")];
        for start in 0..6 {
            for end in start..=6 {
                let expected = &"abcdef"[start..end];
                let got = read(start as u64..end as u64, &parts);
                assert_eq!(got, (expected.to_owned(), true), "{start} {end}");
            }
        }
    }

    #[test]
    fn a_body_that_breaks_off_before_the_end_does_not_look_complete() {
        let parts = [Ok("ab"), Err(OriginError::Timeout)];
        assert_eq!(read(0..3, &parts), ("ab".to_owned(), false));
        assert_eq!(read(0..2, &parts), ("ab".to_owned(), true));
    }
}
