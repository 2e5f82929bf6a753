//! `cargo xtask up` and `cargo xtask demo`.

use std::env;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::build;
use crate::process::{Beside, status};

/// What the demo origin and a node print when they are ready.
const READY: &str = "Serving ";

/// The variable that names the origin where no argument does.
const ORIGIN_VARIABLE: &str = "SPIN_VARIABLE_ORIGIN";

/// How long the demo origin may take to start.
const START: Duration = Duration::from_secs(30);

/// How often to look whether a program has ended by itself.
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);

/// What can happen while programs run.
#[derive(Debug)]
enum Event {
    /// One of them is ready, at this URL.
    Ready(String),
    /// Ctrl-C, or another request to end.
    End,
}

/// Serves a demo origin, or the one that the arguments or the variable name,
/// through the shield.
///
/// # Errors
///
/// If something does not build or start.
pub(crate) fn up(args: &[String]) -> Result<ExitCode> {
    let built = build::all()?;
    let (events, happened) = channel();
    let interrupted = events.clone();
    // Nobody listens any more once this function has returned: then all is over.
    ctrlc::set_handler(move || drop(interrupted.send(Event::End)))?;

    let mut node = Command::new(&built.host);
    node.arg("up");
    if !names(args, "--component") {
        node.arg("--component").arg(&built.component);
    }
    // Ended, when this function returns, in the order node, origin.
    let _origin = if has_origin(args, env::var_os(ORIGIN_VARIABLE)) {
        None
    } else {
        let mut command = Command::new(&built.host);
        command.args(["origin", "--listen", "127.0.0.1:0"]);
        let origin = start(&mut command, &events)?;
        match happened
            .recv_timeout(START)
            .context("the demo origin did not start")?
        {
            Event::End => return Ok(ExitCode::SUCCESS),
            Event::Ready(url) => {
                eprintln!("The demo origin is at {url}");
                node.args(["--origin", &url]);
            }
        }
        Some(origin)
    };
    let mut node = start(node.args(args), &events)?;
    watch(&mut node, &happened)
}

/// Whether `leeward up` is told which server to protect, by its arguments or, as
/// on Spin, by a variable.
fn has_origin(args: &[String], variable: Option<OsString>) -> bool {
    names(args, "--origin") || variable.is_some_and(|origin| !origin.is_empty())
}

/// Whether an option is among the arguments.
fn names(args: &[String], option: &str) -> bool {
    args.iter().any(|arg| {
        arg.strip_prefix(option)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    })
}

/// Starts a program, passes on what it prints, and tells when it is ready.
fn start(command: &mut Command, events: &Sender<Event>) -> Result<Beside> {
    let mut program = Beside::start(command.stdin(Stdio::null()).stdout(Stdio::piped()))?;
    if let Some(output) = program.child().stdout.take() {
        let events = events.clone();
        thread::spawn(move || pass_on(output, &events));
    }
    Ok(program)
}

fn pass_on(output: impl Read, events: &Sender<Event>) {
    let mut out = std::io::stdout();
    for line in BufReader::new(output).lines() {
        let Ok(line) = line else { return };
        let told = match line.strip_prefix(READY) {
            Some(url) => events.send(Event::Ready(url.trim().to_owned())).is_ok(),
            None => writeln!(out, "{line}").is_ok(),
        };
        if !told {
            return;
        }
    }
}

/// Says what to try once the node is ready, and waits for the end.
fn watch(node: &mut Beside, happened: &Receiver<Event>) -> Result<ExitCode> {
    loop {
        match happened.recv_timeout(BETWEEN_LOOKS) {
            Ok(Event::Ready(url)) => say_what_to_try(&url),
            Ok(Event::End) => {
                eprintln!("Ending.");
                return Ok(ExitCode::SUCCESS);
            }
            Err(RecvTimeoutError::Timeout) => {
                if let Some(status) = node.ended()? {
                    bail!("the node ended ({status})");
                }
            }
            Err(RecvTimeoutError::Disconnected) => bail!("nobody is left to tell what happens"),
        }
    }
}

fn say_what_to_try(url: &str) {
    println!(
        "Serving {url}

  curl -i {url}/hello    a miss: the origin is asked, the answer stored
  curl -i {url}/hello    again, a hit: see Cache-Status and Age

Ctrl-C ends it."
    );
}

/// Runs `leeward demo`.
///
/// # Errors
///
/// If something does not build or start.
pub(crate) fn demo(args: &[String]) -> Result<ExitCode> {
    let built = build::all()?;
    let ended = status(Command::new(&built.host).arg("demo").args(args))?;
    let code = ended.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_demo_origin_is_started_unless_there_is_another() {
        for (args, variable, has) in [
            (&[][..], None, false),
            (&[], Some(""), false),
            (&[], Some("http://a"), true),
            (&["--origin", "http://a"], None, true),
            (&["--origin=http://a"], None, true),
            (
                &["--listen", "127.0.0.1:0", "--origin", "http://a"],
                None,
                true,
            ),
            (&["--original"], None, false),
        ] {
            let args: Vec<_> = args.iter().map(|&arg| arg.to_owned()).collect();
            assert_eq!(
                has_origin(&args, variable.map(OsString::from)),
                has,
                "{args:?} {variable:?}"
            );
        }
    }
}
