//! Which process a node is: the file in which `leeward up` says so, and `leeward reload`,
//! which signals it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::report;

/// Longest content of a file with a process id, in bytes.
const FILE_BYTES_MAX: u64 = 64;

/// The file with the id of this process. It is locked as long as this process lives, so
/// that a file of a process that has ended is not believed.
#[derive(Debug)]
pub(crate) struct PidFile {
    path: PathBuf,
    _locked: File,
}

impl PidFile {
    /// Writes the file. The error says what to do.
    pub(crate) fn write(path: &Path) -> anyhow::Result<Self> {
        let written = || -> std::io::Result<Option<File>> {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            file.set_len(0)?;
            writeln!(file, "{}", std::process::id())?;
            Ok(Some(file))
        };
        match written() {
            Ok(Some(locked)) => Ok(Self {
                path: path.to_owned(),
                _locked: locked,
            }),
            Ok(None) => bail!(
                "another node has the file {}; write another --pid-file PATH for each node",
                path.display()
            ),
            Err(error) => Err(error).with_context(|| {
                format!(
                    "cannot write {}; write --pid-file with a path in a folder that exists and \
                     may be written",
                    path.display()
                )
            }),
        }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // A file that stays does no harm: nobody holds its lock.
        drop(std::fs::remove_file(&self.path));
    }
}

/// The options of `leeward reload`.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Args {
    /// The file that the node writes its process id to: the one of `leeward up --pid-file`
    #[arg(long, value_name = "PATH")]
    pid_file: Option<PathBuf>,

    /// The process id of the node
    #[arg(long, value_name = "N")]
    pid: Option<i32>,
}

/// Runs `leeward reload`: sends SIGHUP to the node.
pub(crate) fn reload(args: &Args) -> anyhow::Result<ExitCode> {
    let pid = match (&args.pid_file, args.pid) {
        (Some(path), _) => read(path)?,
        (None, Some(pid)) => process(pid)?,
        (None, None) => bail!("write --pid-file PATH or --pid N"),
    };
    let number = pid.as_raw_nonzero();
    kill_process(pid, Signal::HUP).with_context(|| {
        format!("cannot signal the process {number}; write the process id of a running node")
    })?;
    report::plain(format_args!(
        "the node with the process id {number} reads its configuration again; its log says whether \
         it was accepted"
    ));
    Ok(ExitCode::SUCCESS)
}

fn process(number: i32) -> anyhow::Result<Pid> {
    // Zero and negative numbers are groups of processes.
    let pid = Some(number).filter(|&number| number > 1);
    let pid = pid.and_then(Pid::from_raw);
    pid.with_context(|| {
        format!("{number} is no process id of a node; write --pid N with the one that it has")
    })
}

/// The process that has written the file at `path`, if it still runs.
fn read(path: &Path) -> anyhow::Result<Pid> {
    let file = File::open(path).with_context(|| {
        format!(
            "cannot read {}; write --pid-file with the path that the node was started with",
            path.display()
        )
    })?;
    if file.try_lock_shared().is_ok() {
        bail!(
            "no node runs that has the file {}: the one that wrote it has ended",
            path.display()
        );
    }
    let mut text = String::new();
    (&file)
        .take(FILE_BYTES_MAX)
        .read_to_string(&mut text)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let number = text.trim().parse::<i32>().ok();
    let number = number.with_context(|| format!("there is no process id in {}", path.display()))?;
    process(number)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn the_file_names_this_process_as_long_as_it_is_held() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("leeward.pid");
        let held = PidFile::write(&path).unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!(read(&path).unwrap(), process(own).unwrap());
        let second = PidFile::write(&path).unwrap_err().to_string();
        assert!(second.contains("another node has the file"), "{second}");
        assert_eq!(read(&path).unwrap(), process(own).unwrap());
        drop(held);
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_a_node_left_behind_is_not_believed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("leeward.pid");
        std::fs::write(&path, "4711\n").unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("has ended"), "{error}");
        // The next node takes it over.
        drop(PidFile::write(&path).unwrap());
    }

    #[test]
    fn a_file_or_a_process_that_is_none_is_refused_with_a_remedy() {
        for (args, remedy) in [
            (
                Args {
                    pid_file: Some("/no/such".into()),
                    pid: None,
                },
                "write --pid-file",
            ),
            (
                Args {
                    pid_file: None,
                    pid: Some(0),
                },
                "write --pid N",
            ),
            (
                Args {
                    pid_file: None,
                    pid: Some(-1),
                },
                "write --pid N",
            ),
            (
                Args {
                    pid_file: None,
                    pid: Some(1),
                },
                "write --pid N",
            ),
            (
                Args {
                    pid_file: None,
                    pid: Some(i32::MAX),
                },
                "write the process id",
            ),
        ] {
            let text = format!("{:#}", reload(&args).unwrap_err());
            assert!(text.contains(remedy), "{args:?}: {text}");
        }
        let folder = Path::new("/no/such/leeward.pid");
        let text = format!("{:#}", PidFile::write(folder).unwrap_err());
        assert!(text.contains("write --pid-file"), "{text}");
    }
}
