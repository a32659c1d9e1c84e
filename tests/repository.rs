//! The files around the code tell the truth: README files about the models and each other, and one toolchain everywhere. The examples
//! of README.md are run by `tests/readme/examples.py` and `tests/viewer/readme.test.mjs`.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use satlas_serve::zoo::{Manifest, ModelSpec, TaskType, pretrained_models};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Longest README that a newcomer reads to its end.
const MAX_README_LINES: usize = 150;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Rows of the tables of a page, cell by cell, without their heads and rules.
fn rows(page: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect();
    page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---")).map(cells).collect()
}

/// The texts in backticks of a cell or page.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The tasks of all sets of heads that a model's checkpoint may hold, as the API lists them, without `embedding`.
fn tasks(model: &ModelSpec) -> BTreeSet<&str> {
    model.head_variants.iter().flatten().map(|head| head.task.name.as_str()).collect()
}

/// A task type as the API writes it.
fn type_name(task_type: TaskType) -> String {
    serde_json::to_value(task_type).unwrap().as_str().unwrap().to_owned()
}

/// `A_{b,c}_D` written out: `A_b_D`, `A_c_D`.
fn written_out(pattern: &str) -> Vec<String> {
    let Some((before, rest)) = pattern.split_once('{') else { return vec![pattern.to_owned()] };
    let (choices, after) = rest.split_once('}').expect("a closing brace");
    choices.split(',').flat_map(|choice| written_out(&format!("{before}{choice}{after}"))).collect()
}

#[test]
fn the_readme_is_short() {
    let lines = read("README.md").lines().count();
    assert!(lines <= MAX_README_LINES, "README.md has {lines} lines, at most {MAX_README_LINES} are wanted");
}

#[test]
fn the_families_of_the_readme_are_all_models() {
    let readme = read("README.md");
    let mut listed = BTreeSet::new();
    for row in rows(&readme).iter().filter(|row| row.len() == 5 && row[0] != "family") {
        let ids: Vec<String> = quoted(&row[1]).flat_map(written_out).collect();
        for id in ids {
            let model = pretrained_models().unwrap().into_iter().find(|model| model.id == id);
            let model = model.unwrap_or_else(|| panic!("README.md lists {id}, which does not exist"));
            let has = |cell: &str, number: usize| cell.split([' ', ',']).any(|word| word == number.to_string());
            assert!(has(&row[2], model.bands.len()), "{id}: {} bands, README.md says {}", model.bands.len(), row[2]);
            assert!(has(&row[3], model.max_images), "{id}: {} captures, README.md says {}", model.max_images, row[3]);
            assert_eq!(row[4], format!("{} m", model.native_gsd_m), "{id}");
            listed.insert(id);
        }
    }
    assert_eq!(listed, pretrained_models().unwrap().into_iter().map(|model| model.id).collect());
}

#[test]
fn the_tasks_of_the_readme_are_all_tasks_under_their_types() {
    let readme = read("README.md");
    let mut listed = BTreeSet::new();
    for row in rows(&readme).iter().filter(|row| row.len() == 4) {
        for task in quoted(&row[0]).filter(|task| *task != "embedding") {
            listed.insert((task.to_owned(), row[1].clone()));
        }
    }
    let mut served = BTreeSet::new();
    for model in pretrained_models().unwrap() {
        for head in model.head_variants.iter().flatten() {
            served.insert((head.task.name.clone(), type_name(head.task.task_type)));
        }
    }
    assert_eq!(listed, served);
}

#[test]
fn the_table_of_models_is_the_zoo() {
    let page = read("src/zoo/README.md");
    let (_, introduction) = page.split_once("*shared* stands for").expect("the shared tasks are explained");
    let shared: BTreeSet<&str> = quoted(introduction.split('|').next().unwrap()).collect();
    let listed = rows(&page);
    for model in pretrained_models().unwrap() {
        let row = listed.iter().find(|row| row[0] == format!("`{}`", model.id));
        let row = row.unwrap_or_else(|| panic!("src/zoo/README.md does not list {}", model.id));
        assert_eq!(row[1..3], [model.bands.len().to_string(), model.max_images.to_string()], "{}", model.id);
        let mut named: BTreeSet<&str> = quoted(&row[3]).collect();
        if row[3].contains("*shared*") {
            named.extend(&shared);
        }
        assert_eq!(named, tasks(&model), "{}", model.id);
    }
    assert_eq!(listed.len(), pretrained_models().unwrap().len() + 1, "one row per model, and the head of the table");
}

#[test]
fn the_manifest_of_the_readme_describes_a_model() {
    let page = read("src/zoo/README.md");
    let (_, rest) = page.split_once("```toml\n").expect("a manifest");
    let (manifest, _) = rest.split_once("```").expect("its end");
    let manifest = Manifest::from_toml(manifest).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((manifest.id.as_str(), manifest.heads.len(), manifest.bands.len()), ("greenhouses", 1, 3));
}

/// Every Markdown file that the project wrote.
fn pages(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !["target", ".git", "node_modules", "corpus", "data", "artifacts"].contains(&name.as_str()) {
            pages(&path, found);
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut found = Vec::new();
    pages(Path::new(ROOT), &mut found);
    assert!(found.len() > 5, "{found:?}");
    let mut broken = Vec::new();
    for page in found {
        let text = fs::read_to_string(&page).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            if !target.contains("://") && !file.is_empty() && !page.parent().unwrap().join(file).exists() {
                broken.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// What follows each `key` in a file, up to the end of the line, without quotes.
fn values<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    text.lines().filter_map(|line| line.trim().strip_prefix(key)).map(|value| value.trim().trim_matches('"')).collect()
}

#[test]
fn the_image_and_the_workflows_build_with_one_toolchain() {
    let image = read("Dockerfile");
    let built_with = values(&image, "ARG RUST_VERSION=");
    assert_eq!(built_with.len(), 1, "{built_with:?}");
    for workflow in [".github/workflows/check.yml", ".github/workflows/release.yml"] {
        assert_eq!(values(&read(workflow), "RUST_VERSION:"), built_with, "{workflow}");
    }
    let numbers = |version: &str| version.split('.').map(|part| part.parse().unwrap()).collect::<Vec<u32>>();
    let manifest = read("Cargo.toml");
    let oldest = values(&manifest, "rust-version =");
    assert!(numbers(oldest[0]) <= numbers(built_with[0]), "{oldest:?} {built_with:?}");
}

#[test]
fn every_recipe_is_a_step_of_the_checks() {
    let checks = read(".ci/run");
    let recipes = read(".justfile");
    let called: Vec<&str> = values(&recipes, "bash .ci/run ");
    assert!(called.len() > 8, "{called:?}");
    for step in called {
        assert!(
            checks.contains(&format!("\n{step}() {{\n")),
            ".justfile calls the step {step}, which .ci/run does not have"
        );
    }
}
