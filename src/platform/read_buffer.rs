//! Reading a body without keeping more memory than its bytes need.

use bytes::Bytes;

/// Most bytes that one read asks the host for.
pub const READ_BYTES: usize = 64 << 10;

/// The buffer that a body is read into.
///
/// `Bytes` that are made of a `Vec` keep its whole capacity. If every read had a
/// buffer of its own, each piece of a body that comes in small pieces would cost
/// [`READ_BYTES`] of memory for as long as it waits for a slow reader. So a read
/// that fills less than half of the buffer is copied, and the buffer is used
/// again. The bytes of a body then take at most twice their length.
#[derive(Debug, Default)]
pub struct ReadBuffer(Vec<u8>);

impl ReadBuffer {
    /// An empty buffer to read into. The caller gives it to
    /// [`ReadBuffer::filled`] afterwards.
    pub fn take(&mut self) -> Vec<u8> {
        let mut buffer = std::mem::take(&mut self.0);
        buffer.clear();
        // Does nothing to a buffer that is used again.
        buffer.reserve_exact(READ_BYTES);
        buffer
    }

    /// The bytes that were read into `buffer`.
    pub fn filled(&mut self, buffer: Vec<u8>) -> Bytes {
        if buffer.len() < buffer.capacity() / 2 {
            let bytes = Bytes::copy_from_slice(&buffer);
            self.0 = buffer;
            bytes
        } else {
            buffer.into()
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    /// Reads `pieces` pieces of `length` bytes, and returns how many bytes of
    /// memory they take together.
    fn capacity(buffer: &mut ReadBuffer, pieces: usize, length: usize) -> usize {
        let waiting: Vec<Bytes> = (0..pieces)
            .map(|_| {
                let mut read = buffer.take();
                assert!(read.is_empty() && read.capacity() >= READ_BYTES);
                read.resize(length, b'x');
                buffer.filled(read)
            })
            .collect();
        assert!(waiting.iter().all(|bytes| bytes.len() == length));
        waiting
            .into_iter()
            .map(|bytes| bytes.try_into_mut().unwrap().capacity())
            .sum()
    }

    #[test]
    fn ten_thousand_small_reads_take_as_much_memory_as_they_have_bytes() {
        let mut buffer = ReadBuffer::default();
        assert_eq!(capacity(&mut buffer, 10_000, 200), 2_000_000);
    }

    #[test]
    fn a_read_takes_at_most_twice_its_length() {
        let mut buffer = ReadBuffer::default();
        let half = READ_BYTES / 2;
        for length in [1, 200, half - 1, half, half + 1, READ_BYTES] {
            let capacity = capacity(&mut buffer, 3, length);
            assert!(capacity <= 3 * 2 * length, "{length}: {capacity}");
        }
    }

    #[test]
    fn small_reads_use_one_buffer() {
        let mut buffer = ReadBuffer::default();
        let mut read = buffer.take();
        read.extend_from_slice(b"abc");
        let place = read.as_ptr();
        assert_eq!(buffer.filled(read), "abc");
        let next = buffer.take();
        assert_eq!(next.as_ptr(), place);
    }
}
