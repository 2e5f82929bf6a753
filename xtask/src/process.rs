//! Running programs: in the foreground until they end, or beside this one until
//! it ends.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How long a program may take to end cleanly before it is killed.
const GRACE: Duration = Duration::from_secs(5);

/// How often to look whether a program has ended.
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// A command as one would type it.
struct Line<'a>(&'a Command);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let program = std::path::Path::new(self.0.get_program());
        let program = program.file_name().unwrap_or(program.as_os_str());
        write!(f, "{}", program.to_string_lossy())?;
        self.0
            .get_args()
            .try_for_each(|arg| write!(f, " {}", arg.to_string_lossy()))
    }
}

/// Says what it runs, runs it, and returns how it ended.
///
/// # Errors
///
/// If it cannot be started.
pub(crate) fn status(command: &mut Command) -> Result<ExitStatus> {
    eprintln!("$ {}", Line(command));
    command
        .status()
        .with_context(|| format!("cannot start `{}`", Line(command)))
}

/// Says what it runs, and runs it to its good end.
///
/// # Errors
///
/// If it cannot be started, or ends with another exit status than 0.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = status(command)?;
    if !status.success() {
        bail!("`{}` failed ({status})", Line(command));
    }
    Ok(())
}

/// Runs `cargo test` to its good end, shows what it prints, and returns how many
/// tests were run.
///
/// # Errors
///
/// If it cannot be started, or ends with another exit status than 0.
pub(crate) fn run_tests(command: &mut Command) -> Result<u64> {
    eprintln!("$ {}", Line(command));
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{}`", Line(command)))?;
    let tests = match child.stdout.take() {
        Some(output) => pass_on(BufReader::new(output), &mut std::io::stdout())?,
        None => 0,
    };
    let status = child.wait()?;
    if !status.success() {
        bail!("`{}` failed ({status})", Line(command));
    }
    Ok(tests)
}

/// Passes on what `cargo test` prints, line by line, and returns how many tests
/// that says were run.
fn pass_on(output: impl BufRead, to: &mut impl Write) -> Result<u64> {
    let mut tests = 0;
    for line in output.split(b'\n') {
        let line = line?;
        tests += tests_run(&String::from_utf8_lossy(&line)).unwrap_or(0);
        to.write_all(&[&line[..], b"\n"].concat())?;
    }
    Ok(tests)
}

/// How many tests one program has run, from the line with its result:
/// `test result: ok. 42 passed; 0 failed; …`.
fn tests_run(line: &str) -> Option<u64> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let count = |what: &str| {
        counts
            .split("; ")
            .find_map(|part| part.strip_suffix(what)?.trim().parse::<u64>().ok())
    };
    Some(count("passed")? + count("failed")?)
}

/// Whether a command can be started and ends well; shows nothing of it.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// A program that runs beside this one, and is ended with it.
#[derive(Debug)]
pub(crate) struct Beside(Child);

impl Beside {
    /// Starts it.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let child = command
            .spawn()
            .with_context(|| format!("cannot start `{}`", Line(command)))?;
        Ok(Beside(child))
    }

    /// Starts it, and waits for a line on its standard output that begins with
    /// `ready`. Returns what follows there, as far as white space. Its output is
    /// shown if so asked, and read in any case.
    ///
    /// # Errors
    ///
    /// If it cannot be started, ends without having been ready, or is not after
    /// `limit`.
    pub(crate) fn start_until(
        command: &mut Command,
        ready: &'static str,
        limit: Duration,
        show: bool,
    ) -> Result<(Self, String)> {
        let mut beside = Self::start(command.stdin(Stdio::null()).stdout(Stdio::piped()))?;
        let (sender, receiver) = channel();
        if let Some(output) = beside.child().stdout.take() {
            thread::spawn(move || {
                // Ends when the program does; then nothing is left to read.
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    if show {
                        println!("{line}");
                    }
                    if let Some(rest) = line.strip_prefix(ready) {
                        let word = rest.split_whitespace().next().unwrap_or_default();
                        // Nobody listens for a second one.
                        let _ = sender.send(word.to_owned());
                    }
                }
            });
        }
        match receiver.recv_timeout(limit) {
            Ok(word) => Ok((beside, word)),
            Err(RecvTimeoutError::Timeout) => {
                bail!("`{}` was not ready after {limit:?}", Line(command))
            }
            Err(RecvTimeoutError::Disconnected) => {
                bail!("`{}` ended before it was ready", Line(command))
            }
        }
    }

    /// The process, for its pipes.
    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.0
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    ///
    /// If the system does not say.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.0.try_wait()?)
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // If it has been waited for, its process id may be somebody else's.
        if !matches!(self.0.try_wait(), Ok(None)) {
            return;
        }
        // Each of these fails only if it has ended, which is what is wanted.
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let deadline = Instant::now() + GRACE;
        while Instant::now() < deadline {
            if !matches!(self.0.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(BETWEEN_LOOKS);
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_one_would_type_it() {
        let mut command = Command::new("/usr/bin/cargo");
        command.args(["build", "--release"]);
        assert_eq!(Line(&command).to_string(), "cargo build --release");
    }

    #[test]
    fn tests_are_counted_from_the_line_with_their_result() {
        for (line, tests) in [
            (
                "test result: ok. 42 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.30s",
                Some(42),
            ),
            (
                "test result: FAILED. 3 passed; 2 failed; 1 ignored; 0 measured; 7 filtered out; finished in 0.00s",
                Some(5),
            ),
            (
                "test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 9 filtered out; finished in 0.00s",
                Some(0),
            ),
            ("test tests::the_result ... ok", None),
            ("running 42 tests", None),
            ("", None),
        ] {
            assert_eq!(tests_run(line), tests, "{line}");
        }
    }

    #[test]
    fn the_tests_of_several_programs_add_up_and_all_is_passed_on() -> Result<()> {
        let output = "running 2 tests\n\
                      test result: ok. 2 passed; 0 failed; 0 ignored\n\
                      \u{fffd}\n\
                      test result: ok. 1 passed; 0 failed; 0 ignored\n";
        let mut passed_on = Vec::new();
        assert_eq!(pass_on(output.as_bytes(), &mut passed_on)?, 3);
        assert_eq!(String::from_utf8_lossy(&passed_on), output);
        Ok(())
    }

    #[test]
    fn a_program_beside_this_one_ends_with_it() -> Result<()> {
        let mut beside = Beside::start(Command::new("sleep").arg("60"))?;
        assert_eq!(beside.ended()?, None);
        let pid = Pid::from_child(beside.child());
        drop(beside);
        assert!(
            kill_process(pid, Signal::CONT).is_err(),
            "it is still there"
        );
        Ok(())
    }
}
