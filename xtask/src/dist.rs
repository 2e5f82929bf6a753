//! `cargo xtask dist`: what is published. Every flavour of the component, its size and
//! imports, checksums, and a list of what it is made of (SBOM).
//!
//! The same source gives the same bytes on every machine with the same toolchain: paths
//! of the machine do not get into the components, and the versions of all packages are
//! those of `Cargo.lock`. `--verify` builds each flavour twice, in two places, and
//! compares.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use wasmparser::{Parser, Payload};

use crate::build::{self, Flavour, cargo};
use crate::machine::{self, WASM_TARGET};
use crate::package::{self, LeftOut};
use crate::process::run;

/// The largest component that is published, in bytes: a cloud compiles it, and each node
/// loads it.
const SIZE_MAX: u64 = 4 << 20;

/// What the standard library and `wasi:http` import; every host of a flavour has it.
const STANDARD: &str = "wasi:";

/// Interfaces of WASI proposals that not every host has.
const PROPOSALS: &[&str] = &["wasi:keyvalue/", "wasi:config/"];

/// The options of `cargo xtask dist`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this flavour; may be given more than once
    #[arg(long, value_enum, value_name = "NAME")]
    flavour: Vec<Flavour>,
    /// Build each twice, in two places, and compare the results
    #[arg(long)]
    verify: bool,
    /// Leave out the host and its packages. They are made with the flavour `spin`
    #[arg(long)]
    no_host: bool,
}

/// A component that was built.
#[derive(Debug)]
struct Made {
    flavour: Flavour,
    file: String,
    size: u64,
    checksum: String,
    imports: BTreeSet<String>,
}

/// Builds what is published into `target/dist`.
///
/// # Errors
///
/// If a flavour does not build, is too large, imports something else than its world in
/// `wit/` says, or differs between two builds.
pub(crate) fn dist(args: &Args) -> Result<()> {
    machine::need_wasm_target()?;
    let flavours = match args.flavour.as_slice() {
        [] => Flavour::value_variants(),
        some => some,
    };
    let folder = build::target().join("dist");
    fs::create_dir_all(&folder)?;
    let version = env!("CARGO_PKG_VERSION");
    let has_host = flavours.contains(&Flavour::Spin) && !args.no_host;
    let steps = flavours.len() + if has_host { package::STEPS } else { 0 };
    let mut begun = 0;
    let mut step = |what: &str| {
        begun += 1;
        eprintln!("[{begun}/{steps}] {what}");
    };
    let mut made = Vec::new();
    for flavour in flavours {
        step(&format!("the component for {}", flavour.name()));
        let bytes = component(*flavour, "first")?;
        if args.verify {
            let again = component(*flavour, "second")?;
            ensure!(
                bytes == again,
                "two builds of {} differ: {} and {}",
                flavour.name(),
                checksum(&bytes),
                checksum(&again)
            );
            eprintln!("two builds of {} are the same", flavour.name());
        }
        let imports = imports(&bytes)?;
        check_imports(*flavour, &imports)?;
        let size = bytes.len() as u64;
        ensure!(
            size <= SIZE_MAX,
            "{} has {size} bytes; at most {SIZE_MAX} are published",
            flavour.name()
        );
        let file = format!("leeward-{version}-{}.wasm", flavour.name());
        fs::write(folder.join(&file), &bytes)?;
        let list = serde_json::to_string_pretty(&materials(*flavour, &file, &bytes)?)?;
        fs::write(folder.join(format!("{file}.cdx.json")), list + "\n")?;
        made.push(Made {
            flavour: *flavour,
            file,
            size,
            checksum: checksum(&bytes),
            imports,
        });
    }
    let mut sums = made.iter().try_fold(String::new(), |mut sums, made| {
        writeln!(sums, "{}  {}", made.checksum, made.file)?;
        anyhow::Ok(sums)
    })?;
    let mut files: Vec<String> = made.iter().map(|made| made.file.clone()).collect();
    let mut left_out = None;
    let held = made.iter().find(|made| made.flavour == Flavour::Spin);
    if let (Some(held), true) = (held, has_host) {
        let folder = folder.canonicalize()?;
        let packages = package::host(&folder, &folder.join(&held.file), step)?;
        for file in &packages.files {
            let bytes = fs::read(folder.join(file))?;
            writeln!(sums, "{}  {file}", checksum(&bytes))?;
        }
        files.extend(packages.files);
        left_out = packages.left_out;
    }
    fs::write(folder.join("SHA256SUMS"), sums)?;
    let table = table(&made)?;
    fs::write(folder.join("IMPORTS.md"), &table)?;
    print!("{table}");
    files.extend(["SHA256SUMS".to_owned(), "IMPORTS.md".to_owned()]);
    eprint!("{}", list(&folder.canonicalize()?, &files)?);
    if let Some(LeftOut { what, why, remedy }) = left_out {
        eprintln!("left out: {what}, because {why}. To get it: {remedy}");
    }
    Ok(())
}

/// What was made, with sizes, for people. Each component has a list of what it is made of
/// beside it.
fn list(folder: &Path, files: &[String]) -> Result<String> {
    const MEGABYTE: f64 = 1_000_000.0;
    let mut text = format!("made in {}:\n", folder.display());
    for file in files {
        let bytes = fs::metadata(folder.join(file))?.len();
        // Sizes are far below what a float holds exactly.
        let size = match bytes {
            0..100_000 => format!("{bytes} B"),
            _ => format!("{:.1} MB", bytes as f64 / MEGABYTE),
        };
        writeln!(text, "{size:>10}  {file}")?;
    }
    Ok(text)
}

/// Builds a flavour without paths of this machine, in a place of its own.
fn component(flavour: Flavour, place: &str) -> Result<Vec<u8>> {
    let target = build::target().join("dist-build").join(place);
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".cargo")))
        .context("there is no home directory, and CARGO_HOME is not set")?;
    let root = build::root().canonicalize()?;
    let toolchain = toolchain()?;
    // The last one that matches counts.
    let flags: Vec<String> = [
        (root.as_path(), "/leeward"),
        (home.as_path(), "/cargo"),
        (toolchain.as_path(), "/rust"),
    ]
    .iter()
    .map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()))
    .collect();
    let mut command = cargo(&["build", "--release", "--locked", "--package", "leeward"]);
    command
        .args(["--target", WASM_TARGET, "--no-default-features"])
        .args(["--features", flavour.name()])
        .arg("--target-dir")
        .arg(&target)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    run(&mut command)?;
    let file = target.join(WASM_TARGET).join("release/leeward.wasm");
    fs::read(&file).with_context(|| format!("cargo built no {}", file.display()))
}

/// Where the toolchain is.
fn toolchain() -> Result<PathBuf> {
    let output = Command::new("rustc")
        .current_dir(build::root())
        .args(["--print", "sysroot"])
        .output()
        .context("cannot start rustc")?;
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}

fn checksum(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The interfaces that a component imports.
fn imports(bytes: &[u8]) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.context("cargo built something else than a component")? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    found.insert(import?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok(found)
}

/// A component imports what its world says, and from outside WASI nothing else.
fn check_imports(flavour: Flavour, imports: &BTreeSet<String>) -> Result<()> {
    let name = flavour.name();
    let said = world(&build::root().join("wit").join(name).join("world.wit"))?;
    let is_own = |import: &&String| {
        !import.starts_with(STANDARD) || PROPOSALS.iter().any(|prefix| import.starts_with(prefix))
    };
    let own: BTreeSet<&String> = imports.iter().filter(is_own).collect();
    let said_own: BTreeSet<&String> = said.iter().filter(is_own).collect();
    // A world need not name what its interfaces use from each other.
    let package = |import: &str| import.split('/').next().unwrap_or_default().to_owned();
    for import in &own {
        ensure!(
            said_own.contains(import)
                || (import.contains("/types@")
                    && said_own.iter().any(|said| package(said) == package(import))),
            "{name} imports {import}, which wit/{name} does not say"
        );
    }
    for import in &said_own {
        ensure!(
            own.contains(import),
            "wit/{name} says that {name} imports {import}, which it does not"
        );
    }
    Ok(())
}

/// The imports of a world as its file lists them. The flavour `wasi` has none.
fn world(file: &Path) -> Result<BTreeSet<String>> {
    if !file.exists() {
        return Ok(BTreeSet::new());
    }
    Ok(fs::read_to_string(file)?
        .lines()
        .filter_map(|line| line.trim().strip_prefix("import ")?.strip_suffix(';'))
        .map(str::to_owned)
        .collect())
}

/// What a component is made of, as CycloneDX 1.5.
fn materials(flavour: Flavour, file: &str, bytes: &[u8]) -> Result<Value> {
    let mut command = cargo(&["metadata", "--locked", "--format-version", "1"]);
    command
        .args(["--filter-platform", WASM_TARGET, "--no-default-features"])
        .args(["--features", &format!("leeward/{}", flavour.name())]);
    let output = command.output().context("cannot start cargo")?;
    ensure!(
        output.status.success(),
        "`cargo metadata` failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": file,
                "name": "leeward",
                "version": env!("CARGO_PKG_VERSION"),
                "hashes": [{ "alg": "SHA-256", "content": checksum(bytes) }],
                "licenses": [{ "expression": "Apache-2.0" }],
                "properties": [{ "name": "leeward:flavour", "value": flavour.name() }],
            }
        },
        "components": packages(&metadata)?,
    }))
}

/// The packages that are compiled into the component: those that `leeward` depends on,
/// without what only builds or tests it.
fn packages(metadata: &Value) -> Result<Vec<Value>> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let all: BTreeMap<String, Value> = list(&metadata["packages"])
        .into_iter()
        .map(|package| (text(&package["id"]), package))
        .collect();
    let nodes: BTreeMap<String, Value> = list(&metadata["resolve"]["nodes"])
        .into_iter()
        .map(|node| (text(&node["id"]), node))
        .collect();
    let root = all
        .iter()
        .find(|(_, package)| package["name"] == "leeward")
        .map(|(id, _)| id.clone())
        .context("`cargo metadata` does not list the package leeward")?;
    let mut seen = BTreeSet::new();
    let mut left = vec![root.clone()];
    while let Some(id) = left.pop() {
        if !seen.insert(id.clone()) {
            continue;
        }
        for dependency in list(&nodes.get(&id).unwrap_or(&Value::Null)["deps"]) {
            let is_normal = list(&dependency["dep_kinds"])
                .iter()
                .any(|kind| kind["kind"].is_null());
            if is_normal {
                left.push(text(&dependency["pkg"]));
            }
        }
    }
    seen.remove(&root);
    let mut components: Vec<Value> = Vec::new();
    for id in &seen {
        let Some(package) = all.get(id) else { continue };
        let (name, version) = (text(&package["name"]), text(&package["version"]));
        let address = format!("pkg:cargo/{name}@{version}");
        let mut component = json!({
            "type": "library",
            "bom-ref": address,
            "name": name,
            "version": version,
            "purl": address,
        });
        if let Some(license) = package["license"].as_str() {
            // Older packages write a slash where SPDX has OR.
            let expression = license.replace('/', " OR ");
            component["licenses"] = json!([{ "expression": expression }]);
        }
        components.push(component);
    }
    components.sort_by_key(|component| text(&component["bom-ref"]));
    Ok(components)
}

/// Sizes and imports, for people.
fn table(made: &[Made]) -> Result<String> {
    let mut text = String::from("| flavour | bytes | SHA-256 |\n| --- | --- | --- |\n");
    for made in made {
        let (name, size, checksum) = (made.flavour.name(), made.size, &made.checksum);
        writeln!(text, "| `{name}` | {size} | `{checksum}` |")?;
    }
    for made in made {
        writeln!(text, "\n`{}` imports:\n", made.flavour.name())?;
        for import in &made.imports {
            writeln!(text, "- `{import}`")?;
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_compiled_into_the_component_is_listed() -> Result<()> {
        let dependency =
            |id: &str, kind: Value| json!({ "pkg": id, "dep_kinds": [{ "kind": kind }] });
        let package = |id: &str| json!({ "id": id, "name": id, "version": "1.0.0", "license": "MIT/Apache-2.0" });
        let listed = ["leeward", "http", "bytes", "proptest", "cc"].map(package);
        let metadata = json!({
            "packages": listed,
            "resolve": { "nodes": [
                { "id": "leeward", "deps": [
                    dependency("http", Value::Null),
                    dependency("proptest", json!("dev")),
                    dependency("cc", json!("build")),
                ] },
                { "id": "http", "deps": [dependency("bytes", Value::Null)] },
                { "id": "bytes", "deps": [] },
            ] },
        });
        let components = packages(&metadata)?;
        let names: Vec<_> = components
            .iter()
            .map(|component| &component["name"])
            .collect();
        assert_eq!(names, ["bytes", "http"]);
        let license = &components[0]["licenses"][0]["expression"];
        assert_eq!(license, "MIT OR Apache-2.0");
        Ok(())
    }

    #[test]
    fn an_import_that_no_world_names_is_refused() {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let own = [
            "spin:key-value/key-value@3.0.0",
            "spin:variables/variables@3.0.0",
        ];
        let swaps = [
            "wasi:keyvalue/atomics@0.2.0-draft2",
            "wasi:keyvalue/store@0.2.0-draft2",
        ];
        let all = [&own[..], &swaps[..], &["wasi:io/poll@0.2.0"]].concat();
        assert!(check_imports(Flavour::Spin, &set(&all)).is_ok());
        assert!(check_imports(Flavour::Spin, &set(&own)).is_err());
        let more = [&all[..], &["spin:sqlite/sqlite@3.1.0"]].concat();
        assert!(check_imports(Flavour::Spin, &set(&more)).is_err());
    }
}
