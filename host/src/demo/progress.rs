//! A phase while it runs, on standard error: a bar on a terminal, a line now and
//! then elsewhere, nothing if so asked.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::tally::Counts;
use crate::origin::Stats;

/// Time between two updates of the bar.
const BAR_EVERY: Duration = Duration::from_millis(200);

/// Time between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// The view of one phase.
#[derive(Debug)]
pub(super) struct Progress {
    name: &'static str,
    started: Instant,
    view: View,
}

#[derive(Debug)]
enum View {
    Bar(ProgressBar),
    Lines,
    Nothing,
}

impl Progress {
    /// Begins to show a phase of this length.
    pub(super) fn start(name: &'static str, length: Duration, wanted: bool) -> Progress {
        let view = if !wanted {
            View::Nothing
        } else if std::io::stderr().is_terminal() {
            let target = ProgressDrawTarget::stderr();
            let bar = ProgressBar::with_draw_target(Some(ms(length)), target);
            // A wrong template would be seen at the first run; without one the
            // bar is only plainer.
            if let Ok(style) = ProgressStyle::with_template("{prefix:<8} {bar:10.cyan/dim} {msg}") {
                bar.set_style(style.progress_chars("━━─"));
            }
            bar.set_prefix(name);
            View::Bar(bar)
        } else {
            View::Lines
        };
        Progress {
            name,
            started: Instant::now(),
            view,
        }
    }

    /// Waits until the next update is due.
    pub(super) async fn due(&self) {
        match self.view {
            View::Bar(_) => tokio::time::sleep(BAR_EVERY).await,
            View::Lines => tokio::time::sleep(LINE_EVERY).await,
            View::Nothing => std::future::pending().await,
        }
    }

    /// Shows how things stand.
    pub(super) fn show(&self, counts: &Counts, origin: &Stats) {
        match &self.view {
            View::Bar(bar) => {
                bar.set_position(ms(self.started.elapsed()));
                bar.set_message(state(counts, origin));
            }
            View::Lines => {
                let seconds = self.started.elapsed().as_secs();
                // Whoever closed our standard error does not want to know.
                let _ = writeln!(
                    std::io::stderr(),
                    "{:<8} {seconds:>4} s  {}",
                    self.name,
                    state(counts, origin)
                );
            }
            View::Nothing => {}
        }
    }

    /// Says what happens meanwhile.
    pub(super) fn note(&self, what: &str) {
        match &self.view {
            View::Bar(bar) => bar.println(format!("{:<8} {what}", self.name)),
            View::Lines => note(self.name, what),
            View::Nothing => {}
        }
    }

    /// Shows how things stand in the end, and leaves it standing.
    pub(super) fn finish(&self, counts: &Counts, origin: &Stats) {
        self.show(counts, origin);
        if let View::Bar(bar) = &self.view {
            bar.abandon();
        }
    }
}

/// Tells what happens before a phase can be shown.
pub(super) fn note(name: &str, what: &str) {
    let _ = writeln!(std::io::stderr(), "{name:<8} {what}");
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn state(counts: &Counts, origin: &Stats) -> String {
    format!(
        "{} answered, {} refused, {} errors; origin: {} in flight, {} crash{}",
        HumanCount(counts.answered()),
        HumanCount(counts.refused),
        HumanCount(counts.errors.total()),
        origin.in_flight,
        origin.crashes,
        if origin.crashes == 1 { "" } else { "es" },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::tally::Errors;

    #[test]
    fn the_state_is_one_line() {
        let mut counts = Counts {
            requests: 12_345,
            refused: 0,
            errors: Errors {
                timeout: 1_000,
                ..Errors::default()
            },
        };
        for (crashes, word) in [(0, "0 crashes"), (1, "1 crash"), (2, "2 crashes")] {
            let origin = Stats {
                in_flight: 8,
                crashes,
                ..Stats::default()
            };
            let expected =
                format!("11,345 answered, 0 refused, 1,000 errors; origin: 8 in flight, {word}");
            assert_eq!(state(&counts, &origin), expected);
        }
        counts.refused = 2_000;
        let text = state(&counts, &Stats::default());
        assert!(
            text.starts_with("9,345 answered, 2,000 refused, 1,000 errors; origin: "),
            "{text}"
        );
    }
}
