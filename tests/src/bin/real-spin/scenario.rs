//! What a scenario is, and running them.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use anyhow::{Result, bail};
use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use leeward_tests::spin::{Platform, Spin, SpinWorld};

use crate::report::Report;
use crate::{connections, endurance, outages, visitors};

/// Every scenario, in the order in which they run and are told.
pub(crate) const ALL: [&[Scenario]; 4] = [
    visitors::ALL,
    endurance::ALL,
    outages::ALL,
    connections::ALL,
];

/// The longest that a scenario may take beyond what it is told to take.
const LIMIT: Duration = Duration::from_secs(300);

/// How long scenarios take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    /// Those that are about time.
    pub(crate) span: Duration,
}

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Whether what the scenario promises holds.
    pub(crate) holds: bool,
    /// What was seen, in a few words.
    pub(crate) what: String,
}

impl Seen {
    pub(crate) fn new(holds: bool, what: impl Into<String>) -> Self {
        Seen {
            holds,
            what: what.into(),
        }
    }
}

/// The nodes that a scenario needs. Scenarios with the same needs run on the same nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Needs {
    /// How many nodes.
    pub(crate) nodes: usize,
    /// Settings, as TOML.
    pub(crate) settings: &'static str,
}

impl Needs {
    /// This many nodes with the settings that everybody gets.
    pub(crate) const fn nodes(nodes: usize) -> Self {
        Needs {
            nodes,
            settings: "",
        }
    }
}

/// What a scenario is given.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) platform: Platform,
    pub(crate) world: SpinWorld,
    pub(crate) timing: Timing,
}

/// What is asked of nodes, and when what they do holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    /// What is asked. It names the scenario, also in the documents' tables.
    pub(crate) asked: &'static str,
    /// When it holds.
    pub(crate) promise: &'static str,
    pub(crate) needs: Needs,
    /// Whether it leaves the nodes such that no other scenario can use them.
    pub(crate) spoils: bool,
    /// Whether it only runs when there is time.
    pub(crate) long: bool,
    /// On which platforms it says something.
    pub(crate) applies: fn(Platform) -> bool,
    pub(crate) run: for<'a> fn(&'a mut Stage) -> LocalBoxFuture<'a, Seen>,
}

/// For a scenario that says something everywhere.
pub(crate) fn everywhere(_: Platform) -> bool {
    true
}

/// The names of all scenarios, one a line.
pub(crate) fn names() -> String {
    let name = |scenario: &Scenario| match scenario.long {
        true => format!("{} (with --long)", scenario.asked),
        false => scenario.asked.to_owned(),
    };
    let names = ALL.iter().copied().flatten().map(name);
    names.collect::<Vec<_>>().join("\n")
}

/// Runs these scenarios on a platform.
///
/// # Errors
///
/// If its nodes do not start even once.
pub(crate) async fn run_all(
    spin: &Spin,
    platform: Platform,
    scenarios: &[&Scenario],
    timing: Timing,
    report: &mut Report,
) -> Result<()> {
    let mut stage: Option<(Needs, Stage)> = None;
    let applying = scenarios
        .iter()
        .filter(|scenario| (scenario.applies)(platform));
    for (number, scenario) in applying.enumerate() {
        if number == 0 {
            eprintln!("\n=== {}", platform.name());
        }
        let needs = scenario.needs;
        if stage.as_ref().is_none_or(|(kept, _)| *kept != needs) {
            // Ended before others start: they may want its ports.
            drop(stage.take());
            let name = format!("{number:02}");
            let start = SpinWorld::start(spin, platform, needs.nodes, needs.settings, &name);
            match caught(start).await {
                Ok(world) => {
                    let fresh = Stage {
                        platform,
                        world,
                        timing,
                    };
                    stage = Some((needs, fresh));
                }
                Err(why) if number == 0 => {
                    bail!("the nodes of {} do not start: {why}", platform.name());
                }
                Err(why) => {
                    let why = format!("the nodes did not start: {}", first_line(&why));
                    report.add(platform, scenario, Seen::new(false, why));
                    continue;
                }
            }
        }
        let Some((_, ready)) = stage.as_mut() else {
            continue;
        };
        let limit = LIMIT + timing.span;
        let ran = tokio::time::timeout(limit, caught((scenario.run)(ready))).await;
        let seen = match ran {
            Ok(Ok(seen)) => seen,
            Ok(Err(why)) => Seen::new(false, first_line(&why)),
            Err(_) => Seen::new(false, format!("it was not over after {limit:?}")),
        };
        let ended = scenario.spoils || !seen.holds;
        report.add(platform, scenario, seen);
        if ended {
            stage = None;
        }
    }
    Ok(())
}

/// What the future makes, or why it panicked.
async fn caught<T>(work: impl Future<Output = T>) -> std::result::Result<T, String> {
    let caught = AssertUnwindSafe(work).catch_unwind().await;
    caught.map_err(|panic| text(&*panic))
}

fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic").trim().to_owned()
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
