//! Every input that fuzzing kept, through what its target does with it: nothing panics, and sound inputs are taken.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "fuzz/src/lib.rs"]
mod targets;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use targets::TARGETS;

fn fuzz(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz").join(name)
}

/// The paths in a directory.
fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn what_fuzzing_kept_is_taken_or_refused_without_a_panic() {
    for (name, target) in TARGETS {
        let mut taken = 0;
        for path in entries(&fuzz("corpus").join(name)) {
            let bytes = std::fs::read(&path).unwrap();
            let outcome = std::panic::catch_unwind(|| target(&bytes));
            taken += usize::from(outcome.unwrap_or_else(|_| panic!("{} makes {name} panic", path.display())));
        }
        assert!(taken > 0, "no input of {name} comes so far that its pixels or tensors are read");
    }
}

#[test]
fn every_target_has_a_program_and_a_small_corpus() {
    let names: BTreeSet<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    for directory in ["fuzz_targets", "corpus"] {
        let stems = entries(&fuzz(directory));
        let found: BTreeSet<&str> = stems.iter().map(|path| path.file_stem().unwrap().to_str().unwrap()).collect();
        assert_eq!(found, names, "{directory}");
    }
    let manifest: toml::Table = std::fs::read_to_string(fuzz("Cargo.toml")).unwrap().parse().unwrap();
    let programs = manifest["bin"].as_array().unwrap();
    assert_eq!(programs.iter().map(|program| program["name"].as_str().unwrap()).collect::<BTreeSet<_>>(), names);
    for (name, _) in TARGETS {
        let bytes: u64 = entries(&fuzz("corpus").join(name)).iter().map(|path| path.metadata().unwrap().len()).sum();
        assert!(bytes < 100_000, "the corpus of {name} has {bytes} bytes");
    }
}
