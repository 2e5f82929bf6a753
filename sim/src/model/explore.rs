//! Explorations, and what came of them.

use super::settings::{Behaviour, Detail, Purges, Safeguard, Settings};
use super::words;
use super::world::{NONE_REPLACED, ONE_LEASE, PURGED_IS_GONE, SOON_PUBLISHED, World};
use comfy_table::{Table, presets::ASCII_MARKDOWN};
use leeward::cell::transition::Purge;
use stateright::{Checker, HasDiscoveries, Model};
use std::time::{Duration, Instant};

/// What came of an exploration that ran to its end.
#[derive(Debug)]
pub struct Report {
    /// What was explored.
    pub settings: Settings,
    /// Distinct states.
    pub states: usize,
    /// Steps taken between them.
    pub steps: usize,
    /// The longest shortest way to a state.
    pub depth: usize,
    /// How long it took.
    pub time: Duration,
    /// The violated property, and a way there in words. If there is none, every
    /// reachable state was visited.
    pub violation: Option<(&'static str, String)>,
}

/// Explores all that can happen, or until a property is violated: the one that
/// `only` names, or any. With one thread, the way to a violation is a shortest
/// one.
pub fn explore(settings: Settings, only: Option<&'static str>, threads: usize) -> Report {
    let start = Instant::now();
    let checker = World::new(settings, only)
        .checker()
        .threads(threads)
        .finish_when(HasDiscoveries::Any)
        .spawn_bfs()
        .join();
    let violation = checker
        .discoveries()
        .into_iter()
        .next()
        .map(|(name, path)| (name, words::tell(&path.into_vec())));
    Report {
        settings,
        states: checker.unique_state_count(),
        steps: checker.state_count(),
        depth: checker.max_depth(),
        time: start.elapsed(),
        violation,
    }
}

/// The reports as a table.
pub fn table(reports: &[Report]) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN).set_header([
        "nodes",
        "store",
        "purges",
        "states kept",
        "checked",
        "states",
        "steps",
        "depth",
        "seconds",
        "result",
    ]);
    for report in reports {
        let Settings {
            nodes,
            behaviour,
            purges,
            liveness,
            ..
        } = report.settings;
        let mut checked = vec!["S1", "S2"];
        checked.extend((purges != Purges::None).then_some("S6"));
        checked.extend(liveness.then_some("L1"));
        table.add_row([
            nodes.to_string(),
            behaviour.name().to_owned(),
            purges.name().to_owned(),
            if report.settings.detail == Detail::Full {
                "unfolded".to_owned()
            } else {
                "folded".to_owned()
            },
            checked.join(" "),
            report.states.to_string(),
            report.steps.to_string(),
            report.depth.to_string(),
            format!("{:.1}", report.time.as_secs_f64()),
            match &report.violation {
                None => "exhausted, all hold".to_owned(),
                Some((name, _)) => format!("{name} VIOLATED"),
            },
        ]);
    }
    table
}

/// How much is explored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// What continuous integration has time for.
    Quick,
    /// Everything that ten minutes on two processors are enough for.
    Full,
    /// What takes longer than that, and is not in the others.
    Deep,
}

/// The configurations that the protocol has to hold in.
pub fn configurations(extent: Extent) -> Vec<Settings> {
    match extent {
        Extent::Quick => quick(),
        Extent::Full => quick().into_iter().chain(beyond_quick()).collect(),
        Extent::Deep => deep(),
    }
}

fn quick() -> Vec<Settings> {
    let mut found = Vec::new();
    for behaviour in [Behaviour::Exact, Behaviour::Upsert] {
        found.extend([
            with_liveness(2, behaviour, Purges::None),
            with_liveness(2, behaviour, Purges::Only(Purge::Hard)),
        ]);
    }
    found.push(with_liveness(3, Behaviour::Upsert, Purges::None));
    for behaviour in [
        Behaviour::FalseConflict,
        Behaviour::LostReply,
        Behaviour::DoubledGuard,
        Behaviour::ContendedGuard,
    ] {
        found.push(with_liveness(2, behaviour, Purges::None));
    }
    found
}

fn beyond_quick() -> Vec<Settings> {
    let hard = Purges::Only(Purge::Hard);
    let mut found = Vec::new();
    for behaviour in [Behaviour::Exact, Behaviour::Upsert] {
        found.extend([
            with_liveness(2, behaviour, Purges::Only(Purge::Soft)),
            with_liveness(2, behaviour, Purges::Only(Purge::Invalidate)),
            with_liveness(2, behaviour, Purges::Mixed),
            with_liveness(3, behaviour, hard),
        ]);
    }
    found.extend([
        with_liveness(3, Behaviour::Exact, Purges::None),
        with_liveness(2, Behaviour::FalseConflict, hard),
        with_liveness(3, Behaviour::FalseConflict, Purges::None),
        with_liveness(2, Behaviour::LostReply, hard),
        with_liveness(3, Behaviour::LostReply, Purges::None),
        with_liveness(2, Behaviour::DoubledGuard, hard),
        with_liveness(3, Behaviour::DoubledGuard, Purges::None),
        with_liveness(2, Behaviour::ContendedGuard, hard),
        with_liveness(3, Behaviour::ContendedGuard, Purges::None),
        with_liveness(2, Behaviour::UpsertLostReply, Purges::None),
        with_liveness(3, Behaviour::UpsertLostReply, Purges::None),
        // The folding itself: the same without it.
        Settings {
            detail: Detail::Full,
            ..protocol(2, Behaviour::Upsert, Purges::None)
        },
    ]);
    found
}

fn deep() -> Vec<Settings> {
    vec![protocol(3, Behaviour::LostReply, Purges::Only(Purge::Hard))]
}

fn with_liveness(nodes: usize, behaviour: Behaviour, purges: Purges) -> Settings {
    Settings {
        liveness: true,
        ..protocol(nodes, behaviour, purges)
    }
}

/// The whole protocol.
pub fn protocol(nodes: usize, behaviour: Behaviour, purges: Purges) -> Settings {
    Settings {
        nodes,
        behaviour,
        purges,
        crashes: true,
        late: true,
        failures: true,
        without: None,
        detail: Detail::Folded,
        liveness: false,
    }
}

/// The protocol without one of its measures, in a world that needs it, and the
/// property that does not hold there.
pub fn without(safeguard: Safeguard) -> (Settings, &'static str) {
    let hard = Purges::Only(Purge::Hard);
    let (behaviour, purges, violated) = match safeguard {
        Safeguard::Guard
        | Safeguard::SecondBucket
        | Safeguard::ClockCheck
        | Safeguard::BoundedStall => (Behaviour::Upsert, Purges::None, ONE_LEASE),
        Safeguard::ReadBack => (Behaviour::FalseConflict, Purges::None, SOON_PUBLISHED),
        Safeguard::Fencing => (Behaviour::Exact, Purges::None, NONE_REPLACED),
        Safeguard::SkewMargin | Safeguard::Nonce => (Behaviour::Exact, Purges::None, ONE_LEASE),
        Safeguard::Revocation => (Behaviour::Exact, hard, PURGED_IS_GONE),
        Safeguard::RenewalGrows => (Behaviour::LostReply, Purges::None, ONE_LEASE),
        Safeguard::PurgeReport => (Behaviour::LostReply, hard, PURGED_IS_GONE),
    };
    let settings = Settings {
        crashes: false,
        failures: false,
        without: Some(safeguard),
        detail: Detail::Named,
        liveness: violated == SOON_PUBLISHED,
        ..protocol(2, behaviour, purges)
    };
    (settings, violated)
}
