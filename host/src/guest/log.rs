//! What the guest prints, in the host's log, whole lines at a time.
//!
//! Many instances print at once; a line is written in one go, so that lines of
//! two never mix.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::observe::log;

/// Longest line that is kept together, in bytes; a longer one is cut.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// Most that a guest may write in one call, in bytes.
const WRITE_BYTES_MAX: usize = 1024 * 1024;

/// A stream of lines. Its clones share the line that is under way.
#[derive(Debug, Clone, Default)]
pub(super) struct LogStream(Arc<Mutex<Line>>);

impl LogStream {
    fn append(&self, bytes: &[u8]) {
        let mut line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        line.append(bytes, print);
    }
}

/// The line under way.
#[derive(Debug, Default)]
struct Line(Vec<u8>);

impl Line {
    /// Adds `bytes` and gives what is complete, with its line ends, to `print`.
    fn append(&mut self, bytes: &[u8], print: impl FnOnce(&[u8])) {
        self.0.extend_from_slice(bytes);
        let complete = match self.0.iter().rposition(|&byte| byte == b'\n') {
            Some(end) => end + 1,
            None if self.0.len() > LINE_BYTES_MAX => {
                self.0.push(b'\n');
                self.0.len()
            }
            None => return,
        };
        print(&self.0[..complete]);
        self.0.drain(..complete);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if !self.0.is_empty() {
            self.0.push(b'\n');
            print(&self.0);
        }
    }
}

fn print(lines: &[u8]) {
    let text = String::from_utf8_lossy(lines);
    for line in text.lines().filter(|line| !line.is_empty()) {
        log::component_line(line);
    }
}

impl StdoutStream for LogStream {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }

    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }
}

impl IsTerminal for LogStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl OutputStream for LogStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.append(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}

#[async_trait::async_trait]
impl Pollable for LogStream {
    async fn ready(&mut self) {}
}

impl AsyncWrite for LogStream {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.append(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_printed_whole_however_they_are_written() {
        let mut line = Line::default();
        let mut printed = Vec::new();
        for part in ["a", "b\nc", "\n", "\n", "d\ne\nf"] {
            line.append(part.as_bytes(), |lines| {
                printed.push(String::from_utf8_lossy(lines).into_owned());
            });
        }
        assert_eq!(printed, ["ab\n", "c\n", "\n", "d\ne\n"]);
        assert_eq!(line.0, b"f");
        line.0.clear();
    }

    #[test]
    fn a_line_without_an_end_is_cut() {
        let mut line = Line::default();
        let mut printed = 0;
        line.append(&vec![b'x'; LINE_BYTES_MAX + 1], |lines| {
            printed = lines.len()
        });
        assert_eq!(printed, LINE_BYTES_MAX + 2);
        assert!(line.0.is_empty());
    }
}
