//! Every input of the corpus still passes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use leeward_fuzz::TARGETS;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn inputs(target: &str) -> Vec<PathBuf> {
    let folder = package().join("corpus").join(target);
    let mut inputs: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    inputs.sort();
    inputs
}

fn replay(target: &str) {
    let (_, check) = TARGETS.iter().find(|(name, _)| *name == target).unwrap();
    let inputs = inputs(target);
    assert!(!inputs.is_empty());
    for input in inputs {
        // Shown if it panics.
        println!("{}", input.display());
        check(&fs::read(&input).unwrap());
    }
}

macro_rules! replay {
    ($($target:ident)*) => {
        $(
            #[test]
            fn $target() {
                replay(stringify!($target));
            }
        )*

        #[test]
        fn every_target_is_replayed_and_has_a_wrapper() {
            let here: BTreeSet<_> = [$(stringify!($target).to_owned()),*].into();
            let targets = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
            assert_eq!(here, targets);
            let names = |folder: &str| -> BTreeSet<String> {
                fs::read_dir(package().join(folder))
                    .unwrap()
                    .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
                    .collect()
            };
            assert_eq!(names("corpus"), here);
            assert_eq!(names("cargo-fuzz/fuzz_targets"), here);
        }
    };
}

replay!(codec config fields ranges revalidation selection storing);
