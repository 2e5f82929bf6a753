//! Where the lines of the access log go: the thread that writes them.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use super::super::log;

/// Most bytes that are written in one go.
const BATCH_BYTES_MAX: usize = 64 * 1024;

/// How often the file is looked for under its name: it may have been moved.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The least time between two lines of the log about what was lost, or could not be written.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// What the thread is given.
#[derive(Debug)]
pub(super) enum Message {
    /// A line, with its end.
    Line(String),
    /// Answered when all lines before have been written.
    Finish(tokio::sync::oneshot::Sender<()>),
}

/// Lines that were lost and not said.
static LOST: AtomicU64 = AtomicU64::new(0);

/// Notes lines that were lost. The thread says so.
pub(super) fn note_lost(lines: u64) {
    LOST.fetch_add(lines, Ordering::Relaxed);
}

/// Where lines are written.
#[derive(Debug)]
pub(super) enum Sink {
    Output,
    File {
        path: PathBuf,
        /// None after it could not be opened.
        file: Option<File>,
        looked: Instant,
    },
}

impl Sink {
    pub(super) fn standard_output() -> Self {
        Sink::Output
    }

    /// A file, which lines are appended to.
    pub(super) fn file(path: PathBuf) -> io::Result<Self> {
        let file = Some(open(&path)?);
        Ok(Sink::File {
            path,
            file,
            looked: Instant::now(),
        })
    }

    fn name(&self) -> String {
        match self {
            Sink::Output => "standard output".to_owned(),
            Sink::File { path, .. } => path.display().to_string(),
        }
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Sink::Output => {
                let mut out = io::stdout().lock();
                out.write_all(lines)?;
                out.flush()
            }
            Sink::File { path, file, looked } => {
                if file.is_none() || looked.elapsed() >= LOOK_EVERY {
                    *looked = Instant::now();
                    let is_there = file.as_ref().is_some_and(|file| is_named(file, path));
                    if !is_there {
                        *file = None;
                        *file = Some(open(path)?);
                    }
                }
                match file {
                    Some(file) => file.write_all(lines),
                    None => Err(io::ErrorKind::NotFound.into()),
                }
            }
        }
    }
}

fn open(path: &std::path::Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// Whether `path` still names this file.
#[cfg(unix)]
fn is_named(file: &File, path: &std::path::Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let identity = |data: std::fs::Metadata| (data.dev(), data.ino());
    let named = std::fs::metadata(path).map(identity);
    named.is_ok_and(|named| file.metadata().map(identity).is_ok_and(|it| it == named))
}

#[cfg(not(unix))]
fn is_named(_: &File, path: &std::path::Path) -> bool {
    path.exists()
}

/// Writes lines until the process ends.
pub(super) fn run(mut sink: Sink, waiting: &Receiver<Message>) {
    let mut said: Option<Instant> = None;
    let mut batch = String::new();
    while let Ok(first) = waiting.recv() {
        let mut finished = Vec::new();
        let mut lines = 0;
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Line(line) => {
                    batch.push_str(&line);
                    lines += 1;
                }
                Message::Finish(sender) => finished.push(sender),
            }
            next = match batch.len() < BATCH_BYTES_MAX {
                true => waiting.try_recv().ok(),
                false => None,
            };
        }
        let written = sink.write(batch.as_bytes());
        batch.clear();
        if written.is_err() {
            super::lost(lines);
        }
        if said.is_none_or(|at| at.elapsed() >= SAY_EVERY) && say(&sink, written) {
            said = Some(Instant::now());
        }
        for sender in finished {
            let _nobody_waits = sender.send(());
        }
    }
}

/// Says what was lost, and why. Returns whether something was.
fn say(sink: &Sink, written: io::Result<()>) -> bool {
    let lost = LOST.swap(0, Ordering::Relaxed);
    let name = sink.name();
    match written {
        Err(error) => log::fields(
            "access-log-failed",
            &[
                ("file", name.into()),
                ("error", error.to_string().into()),
                ("lost", lost.into()),
                (
                    "remedy",
                    "make room on the disk, or correct the rights of the file and its folder"
                        .into(),
                ),
            ],
        ),
        Ok(()) if lost > 0 => log::fields(
            "access-log-lost",
            &[
                ("file", name.into()),
                ("lost", lost.into()),
                (
                    "remedy",
                    "the disk is too slow for this many requests: use a faster one, or do without \
                     the access log"
                        .into(),
                ),
            ],
        ),
        Ok(()) => return false,
    }
    true
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_file_that_was_moved_is_begun_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let mut sink = Sink::file(path.clone()).unwrap();
        sink.write(b"one\n").unwrap();
        let moved = directory.path().join("access.log.1");
        std::fs::rename(&path, &moved).unwrap();
        // The next look is due.
        if let Sink::File { looked, .. } = &mut sink {
            *looked = looked.checked_sub(LOOK_EVERY).unwrap();
        }
        sink.write(b"two\n").unwrap();
        assert_eq!(std::fs::read_to_string(&moved).unwrap(), "one\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\n");
    }

    #[test]
    fn a_file_that_cannot_be_written_is_tried_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("logs").join("access.log");
        assert!(Sink::file(path.clone()).is_err());
        let mut sink = Sink::File {
            path: path.clone(),
            file: None,
            looked: Instant::now(),
        };
        assert!(sink.write(b"lost\n").is_err());
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        sink.write(b"kept\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "kept\n");
    }
}
