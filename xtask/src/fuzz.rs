//! `cargo xtask fuzz`: looks for input that breaks what `leeward-fuzz` asserts.
//!
//! cargo-fuzz drives LLVM's fuzzer through the wrappers in `fuzz/cargo-fuzz`.
//! It asks for compiler flags that the stable toolchain has, but hides; they
//! change how the program is instrumented, and nothing that is released.
//!
//! The fuzzer starts from the corpus in `fuzz/corpus`, which it does not
//! change, and keeps what it learns, and what breaks something, in `target`.
//! An input that found something belongs in the corpus, where `cargo xtask
//! test` replays it.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::build::{cargo, root, target};
use crate::process::{run, succeeds};

/// Longest input that is tried, in bytes.
const INPUT_MAX: usize = 4_096;

/// How long one input may take, in seconds, before it counts as a find.
const INPUT_SECONDS_MAX: u64 = 10;

/// What `cargo xtask fuzz` can be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How long to look, for each target.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// The target, such as `ranges`; without one, all of them in turn.
    target: Option<String>,
}

/// Fuzzes the target, or all.
///
/// # Errors
///
/// If something is found, or cargo-fuzz is missing and cannot be installed.
pub(crate) fn fuzz(args: &Args) -> Result<()> {
    let known = targets()?;
    let chosen = match &args.target {
        Some(target) => {
            ensure!(
                known.contains(target),
                "there is no target {target}; known are {}",
                known.join(", ")
            );
            vec![target.clone()]
        }
        None => known,
    };
    need_cargo_fuzz()?;
    for target in chosen {
        fuzz_one(&target, args.seconds)?;
    }
    Ok(())
}

/// The targets by the names of their wrappers.
fn targets() -> Result<Vec<String>> {
    let folder = root().join("fuzz/cargo-fuzz/fuzz_targets");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("no {}", folder.display()))? {
        let path = entry?.path();
        names.extend(
            path.file_stem()
                .and_then(|name| name.to_str())
                .map(str::to_owned),
        );
    }
    names.sort();
    Ok(names)
}

fn need_cargo_fuzz() -> Result<()> {
    if succeeds(&mut cargo(&["fuzz", "--version"])) {
        return Ok(());
    }
    run(&mut cargo(&["install", "cargo-fuzz", "--locked"])).context(
        "cargo-fuzz is missing, and could not be installed; see https://rust-fuzz.github.io/book",
    )
}

fn fuzz_one(name: &str, seconds: u64) -> Result<()> {
    // Absolute, for the fuzzer is started elsewhere.
    let root = root().canonicalize()?;
    let build = absolute(&root, &target().join("fuzz"));
    let learned = build.join("corpus").join(name);
    let found = build.join("found").join(name);
    fs::create_dir_all(&learned)?;
    fs::create_dir_all(&found)?;
    let mut command = cargo(&[
        "fuzz",
        "run",
        "--fuzz-dir",
        "fuzz/cargo-fuzz",
        "--target-dir",
    ]);
    command
        .arg(&build)
        // Memory is safe here; without the sanitizer twice as much is tried.
        .args(["--sanitizer", "none", name])
        .arg(&learned)
        .arg(root.join("fuzz/corpus").join(name))
        .arg("--")
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={INPUT_MAX}"))
        .arg(format!("-timeout={INPUT_SECONDS_MAX}"))
        .arg(format!("-dict={}", root.join("fuzz/dictionary").display()))
        .arg(format!("-artifact_prefix={}/", found.display()))
        .arg("-print_final_stats=1");
    run(with_hidden_flags(&mut command)).with_context(|| {
        format!(
            "{name} found something, see {}: fix it, and copy the input to fuzz/corpus/{name}",
            found.display()
        )
    })
}

/// Lets the stable toolchain take the flags that instrument a program.
fn with_hidden_flags(command: &mut Command) -> &mut Command {
    command.env("RUSTC_BOOTSTRAP", "1")
}

fn absolute(root: &Path, path: &Path) -> std::path::PathBuf {
    if path.is_absolute() {
        path.to_owned()
    } else {
        root.join(path)
    }
}
