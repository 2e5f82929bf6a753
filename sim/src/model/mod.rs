//! The cell protocol, explored exhaustively.
//!
//! Two or three nodes, a purger and one cell, in a store that behaves like one
//! of those that Leeward meets. A model checker visits every state that any
//! interleaving of their steps can lead to, and checks in each that
//!
//! - S1: no two nodes are at the origin under leases that have not ended, and
//!   nobody takes a lease away that has not;
//! - S2: no entry is replaced by that of an older lease, or lost but for a hard
//!   purge;
//! - S6: what was asked for before a purge is not in the store after it was
//!   acknowledged, or not without its mark;
//! - L1: an entry is published soon if nothing fails from there on.
//!
//! Transitions are the shipping code's: [`record`] makes real cells of what the
//! states hold, and [`step`] applies [`leeward::cell::transition`] to them. The
//! steps between them follow `cells` and `store::Guarded`, one store
//! operation or one look at the clock at a time.
//!
//! There is no horizon: time, purges, crashes and losses have no end. The space
//! is finite because states are kept in a normal form, which
//! [`State::normalise`](state::State::normalise) explains.
//!
//! What is not modelled: variants, pass marks, chunked bodies, the sweeper, the
//! instance's own store while the shared one fails, and more than one swap at a
//! time whose writer is gone. One tick is all of time's resolution.

pub mod action;
pub mod explore;
mod fault;
pub mod liveness;
mod losses;
mod normal;
pub mod record;
pub mod settings;
pub mod slots;
pub mod state;
pub mod step;
mod visit;
pub mod words;
pub mod world;

use anyhow::{Result, bail};
use explore::{Extent, configurations, explore, table, without};
use indicatif::HumanCount;
use settings::{Behaviour, Safeguard};
use std::time::Instant;

/// Explores the cell protocol exhaustively.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Only with this number of nodes: 2 or 3.
    #[arg(long, value_parser = clap::value_parser!(u8).range(2..=3))]
    nodes: Option<u8>,
    /// Only over stores that behave so.
    #[arg(long)]
    behaviour: Option<Behaviour>,
    /// Only with such purges: none, soft, invalidate, hard or all.
    #[arg(long)]
    purges: Option<String>,
    /// Only what takes a minute.
    #[arg(long)]
    quick: bool,
    /// What takes longer than all the rest, instead of that.
    #[arg(long, conflicts_with = "quick")]
    deep: bool,
    /// Take a measure away, and show what goes wrong.
    #[arg(long, conflicts_with_all = ["nodes", "behaviour", "purges", "quick", "deep"])]
    without: Option<Safeguard>,
    /// The slots of the origin's budget instead of the cells: two nodes with one and with
    /// two slots, three nodes with one; with --quick only the first, with --deep also
    /// three nodes with two.
    #[arg(long, conflicts_with_all = ["nodes", "behaviour", "purges", "without"])]
    slots: bool,
    /// Explore as many states at a time.
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

/// Explores the slots of the budget.
fn budget(args: &Args) -> Result<()> {
    let extents: &[(usize, u32)] = match (args.quick, args.deep) {
        (true, _) => &[(2, 1)],
        (false, false) => &[(2, 1), (2, 2), (3, 1)],
        (false, true) => &[(2, 1), (2, 2), (3, 1), (3, 2)],
    };
    println!("| nodes | slots | states | steps | seconds | result |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for &(nodes, slots) in extents {
        let began = Instant::now();
        let report = slots::explore(nodes, slots, None, args.threads);
        let result = match report.violated {
            true => "violated",
            false => "exhausted, holds",
        };
        println!(
            "| {nodes} | {slots} | {} | {} | {:.0} | {result} |",
            HumanCount(report.states as u64),
            HumanCount(report.steps as u64),
            began.elapsed().as_secs_f64()
        );
        if report.violated {
            bail!("the budget was exceeded");
        }
    }
    Ok(())
}

/// Runs the `model` subcommand.
///
/// # Errors
///
/// If a property does not hold, or, without a safeguard, if all do.
pub fn run(args: &Args) -> Result<()> {
    if args.slots {
        return budget(args);
    }
    if let Some(safeguard) = args.without {
        let report = {
            let (settings, violated) = without(safeguard);
            explore(settings, Some(violated), 1)
        };
        let Some((name, trace)) = report.violation else {
            bail!("{safeguard:?} seems not to be needed: no property is violated without it");
        };
        println!("Without {safeguard:?}, {name} does not hold:\n\n{trace}");
        return Ok(());
    }
    let extent = if args.quick {
        Extent::Quick
    } else if args.deep {
        Extent::Deep
    } else {
        Extent::Full
    };
    let mut reports = Vec::new();
    for settings in configurations(extent) {
        let asked = args
            .nodes
            .is_none_or(|nodes| usize::from(nodes) == settings.nodes)
            && args
                .behaviour
                .is_none_or(|behaviour| behaviour == settings.behaviour)
            && args
                .purges
                .as_ref()
                .is_none_or(|purges| purges == settings.purges.name());
        if asked {
            let report = explore(settings, None, args.threads);
            eprintln!(
                "{} nodes, {}, purges {}: {} states, {:.1} s",
                settings.nodes,
                settings.behaviour.name(),
                settings.purges.name(),
                report.states,
                report.time.as_secs_f64()
            );
            reports.push(report);
        }
    }
    if reports.is_empty() {
        bail!("nothing is explored with these --nodes, --behaviour and --purges");
    }
    println!("{}", table(&reports));
    let violated: Vec<_> = reports
        .iter()
        .filter_map(|report| report.violation.as_ref())
        .collect();
    for (name, trace) in &violated {
        println!("\n{name} does not hold:\n\n{trace}");
    }
    if !violated.is_empty() {
        bail!("{} configurations violate a property", violated.len());
    }
    Ok(())
}
