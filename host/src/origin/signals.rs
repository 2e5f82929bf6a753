//! Being asked to stop: SIGTERM, SIGINT (Ctrl-C) and SIGHUP (terminal closed).

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that ask a command to stop cleanly. From `listen` on they no
/// longer end the process by themselves.
#[derive(Debug)]
pub(crate) struct Signals {
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Starts to listen.
    pub(crate) fn listen() -> io::Result<Signals> {
        Ok(Signals {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits until one of them comes; nothing bounds that but the operator.
    pub(crate) async fn stop(&mut self) {
        tokio::select! {
            _ = self.hangup.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
