//! `leeward check`: validates a configuration, also for a platform with limits.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use leeward::platform::limits::{self, Limits, Platform};

/// Longest configuration that is read, in bytes.
const CONFIG_MAX: u64 = 16 << 20;

/// Stands for standard input.
const STANDARD_INPUT: &str = "-";

/// The options of `leeward check`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The configuration, a TOML file; - reads standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// The platform that it is for: its defaults are used, and settings beyond its limits
    /// are refused
    #[arg(long, value_name = "NAME", default_value = "spin", value_parser = platforms())]
    platform: Platform,

    /// How many requests of the component the platform allows in an hour, where your plan
    /// differs from the smallest one
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    outbound_per_hour: Option<u32>,
}

/// The names of platforms.
fn platforms() -> impl clap::builder::TypedValueParser<Value = Platform> {
    let names = Platform::ALL.map(Platform::name);
    PossibleValuesParser::new(names).try_map(|name| {
        Platform::ALL
            .into_iter()
            .find(|platform| platform.name() == name)
            .ok_or("there is no such platform")
    })
}

/// Validates the file, and prints what the settings mean on the platform.
///
/// # Errors
///
/// If the file cannot be read, or settings are wrong: each with its place and what to
/// write instead.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let name = match args.file.to_str() {
        Some(STANDARD_INPUT) => "standard input".to_owned(),
        _ => args.file.display().to_string(),
    };
    let text = read(args).with_context(|| format!("cannot read {name}"))?;
    let platform = args.platform;
    let own = platform.limits();
    let plan = Limits {
        outbound_per_hour: args.outbound_per_hour.or(own.outbound_per_hour),
        ..own
    };
    let checked = limits::check(&text, platform, &plan).map_err(|error| {
        let problems = error.in_file(&name);
        anyhow!("the configuration in {name} is wrong:\n{problems}")
    })?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{name} is valid for the platform {}", platform.name())?;
    for warning in &checked.config.warnings {
        writeln!(out, "warning: {}", warning.in_file(&name))?;
    }
    for note in checked.notes {
        writeln!(out, "{note}")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn read(args: &Args) -> anyhow::Result<String> {
    let mut text = String::new();
    let read = match args.file.to_str() {
        Some(STANDARD_INPUT) => std::io::stdin()
            .take(CONFIG_MAX + 1)
            .read_to_string(&mut text)?,
        _ => std::fs::File::open(&args.file)?
            .take(CONFIG_MAX + 1)
            .read_to_string(&mut text)?,
    };
    anyhow::ensure!(
        read as u64 <= CONFIG_MAX,
        "it is longer than {CONFIG_MAX} bytes"
    );
    Ok(text)
}
