//! What the service manager is told (`sd_notify(3)`), if there is one: that the node serves,
//! reads its settings again, or stops.

use sd_notify::NotifyState;

/// Requests are answered now.
pub(crate) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The settings are being read again. Afterwards, [`ready`] has to follow.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        // systemd from version 253 on compares the time with that of its signal.
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// The process is about to end.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Without a service manager nobody is told. One that cannot be told is no reason to stop.
fn tell(states: &[NotifyState<'_>]) {
    drop(sd_notify::notify(false, states));
}
