//! Which way imports run. One crate has no compiler wall between its modules, so this test is the wall.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each module of the crate and the modules it may import.
const MAY_IMPORT: [(&str, &[&str]); 35] = [
    ("error", &[]),
    ("identity", &[]),
    ("ip_range", &[]),
    ("telemetry", &[]),
    ("threads", &[]),
    // A crate of its own.
    ("kernels", &[]),
    // It keeps large pages for them.
    ("allocator", &["kernels", "sync"]),
    ("assets", &[]),
    ("private_file", &[]),
    ("sync", &[]),
    ("temporary_folder", &["sync"]),
    ("zip_file", &[]),
    ("budget", &["error", "sync"]),
    ("storage", &["budget", "error", "sync"]),
    ("georef", &["error"]),
    ("tiles", &["error", "georef"]),
    ("zoo", &["error"]),
    ("prediction", &["error", "georef"]),
    // Its scores are part of a model's description.
    ("fit", &["kernels", "zoo"]),
    ("ops", &["kernels", "sync"]),
    ("weights", &["error", "storage", "zoo"]),
    ("raster", &["budget", "error", "georef", "storage", "sync", "tiles", "zoo"]),
    ("vectors", &["budget", "error", "kernels", "private_file", "storage"]),
    ("nn", &["error", "ops", "prediction", "sync", "weights", "zoo"]),
    ("outputs", &["error", "georef", "prediction", "sync", "tiles", "zoo"]),
    (
        "engine",
        &[
            "allocator",
            "budget",
            "error",
            "fit",
            "georef",
            "identity",
            "nn",
            "prediction",
            "private_file",
            "raster",
            "storage",
            "sync",
            "telemetry",
            "temporary_folder",
            "threads",
            "tiles",
            "vectors",
            "weights",
            "zoo",
        ],
    ),
    (
        "areas",
        &[
            "engine",
            "error",
            "georef",
            "identity",
            "outputs",
            "prediction",
            "private_file",
            "raster",
            "storage",
            "tiles",
            "zip_file",
            "zoo",
        ],
    ),
    ("fleet", &["areas", "engine", "error", "storage", "sync", "telemetry"]),
    ("jobs", &["error", "private_file", "sync", "temporary_folder"]),
    ("shared_cache", &["storage", "sync", "telemetry"]),
    (
        "config",
        &[
            "areas",
            "budget",
            "engine",
            "fleet",
            "ip_range",
            "jobs",
            "raster",
            "shared_cache",
            "storage",
            "telemetry",
            "tiles",
            "weights",
        ],
    ),
    (
        "api",
        &[
            "areas",
            "assets",
            "budget",
            "engine",
            "error",
            "fleet",
            "georef",
            "identity",
            "ip_range",
            "jobs",
            "nn",
            "outputs",
            "prediction",
            "private_file",
            "raster",
            "shared_cache",
            "sync",
            "telemetry",
            "temporary_folder",
            "tiles",
            "weights",
            "zip_file",
            "zoo",
        ],
    ),
    ("server", &["api", "assets", "config", "engine", "fleet", "jobs", "raster", "sync", "telemetry", "zoo"]),
    (
        "cli",
        &[
            "api",
            "areas",
            "assets",
            "config",
            "engine",
            "error",
            "fleet",
            "outputs",
            "prediction",
            "raster",
            "server",
            "telemetry",
            "weights",
            "zoo",
        ],
    ),
    ("main", &[]),
];

/// The same inside `raster`: its wings and the files that all of them share. The face (`raster/mod.rs`) hands names on to the rest
/// of the crate; nothing inside imports from it.
const RASTER_MAY_IMPORT: [(&str, &[&str]); 10] = [
    ("error", &[]),
    ("extent", &[]),
    ("band_names", &[]),
    ("pixels", &["error"]),
    ("datetime", &["error"]),
    ("formats", &["band_names", "datetime", "error", "pixels"]),
    ("warp", &["error", "extent", "pixels"]),
    ("input", &["band_names", "error", "pixels"]),
    ("open", &["band_names", "datetime", "error", "extent", "formats", "pixels", "warp"]),
    ("source", &["datetime", "error", "extent", "formats", "open", "pixels", "warp"]),
];

/// Crates that only some modules may name, because each stands for one concern.
const CONFINED: [(&str, &[&str]); 12] = [
    ("axum", &["api", "server"]),
    ("utoipa", &["api", "server", "zoo"]),
    ("parquet", &["areas", "engine", "outputs"]),
    ("tokio", &["api", "areas", "server", "engine", "fleet", "jobs", "cli", "shared_cache", "storage"]),
    ("rusqlite", &["fleet", "jobs", "raster"]),
    ("tokio_postgres", &["fleet"]),
    ("deadpool_postgres", &["fleet"]),
    ("redis", &["shared_cache"]),
    ("candle_core", &["nn", "ops", "weights", "engine"]),
    ("ureq", &["storage", "weights"]),
    ("rustix", &["threads"]),
    ("roxmltree", &["raster"]),
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the source tree is readable") {
        let path = entry.expect("the source tree is readable").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The module a file belongs to and its code without comments. Kernels are a crate of their own, which can import nothing of this one.
fn modules() -> Vec<(PathBuf, String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    sources(&root, &mut paths);
    let read = |path: PathBuf| {
        let inside = path.strip_prefix(&root).expect("below src").to_owned();
        let first = inside.components().next().expect("a file name").as_os_str().to_string_lossy().into_owned();
        let module = first.trim_end_matches(".rs").to_owned();
        let text = fs::read_to_string(&path).expect("source files are UTF-8");
        // Tests within a module may look anywhere.
        let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
        (inside, module, code)
    };
    paths.into_iter().map(read).filter(|(_, module, _)| !["lib", "kernels"].contains(&module.as_str())).collect()
}

/// Names that follow `crate::`, also inside braces.
fn imported(code: &str) -> BTreeSet<String> {
    let mut names = names_after(code, "crate::");
    names.retain(|name| name.starts_with(|c: char| c.is_ascii_lowercase()));
    names
}

/// Names that follow `prefix`, also inside braces.
fn names_after(code: &str, prefix: &str) -> BTreeSet<String> {
    let word = |text: &str| text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut names = BTreeSet::new();
    for (at, found) in code.match_indices(prefix) {
        let rest = &code[at + found.len()..];
        match rest.strip_prefix('{') {
            None => drop(names.insert(word(rest))),
            Some(list) => {
                let mut depth = 0;
                let mut start = 0;
                for (index, c) in list.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => {
                            names.insert(word(&list[start..]));
                            break;
                        }
                        '}' => depth -= 1,
                        ',' if depth == 0 => {
                            names.insert(word(&list[start..]));
                            start = index + 1;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    names
}

/// Whether each module imports only what stands before it in some order.
fn has_no_circle(table: &[(&str, &[&str])]) {
    let mut placed: BTreeSet<&str> = BTreeSet::new();
    while placed.len() < table.len() {
        let next =
            table.iter().find(|(name, uses)| !placed.contains(name) && uses.iter().all(|used| placed.contains(used)));
        let (name, _) = next.expect("some module imports only what is placed already");
        placed.insert(name);
    }
}

#[test]
fn imports_run_one_way() {
    let mut wrong = Vec::new();
    for (file, module, code) in modules() {
        let allowed = MAY_IMPORT.iter().find(|(name, _)| *name == module).map(|(_, allowed)| *allowed);
        let Some(allowed) = allowed else {
            wrong.push(format!("{} belongs to no known module", file.display()));
            continue;
        };
        for name in imported(&code) {
            if name != module && !allowed.contains(&name.as_str()) {
                wrong.push(format!("{} imports {name}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_tables_of_imports_have_no_circle() {
    has_no_circle(&MAY_IMPORT);
    has_no_circle(&RASTER_MAY_IMPORT);
}

#[test]
fn imports_inside_raster_run_one_way() {
    let mut wrong = Vec::new();
    for (file, _, code) in modules().into_iter().filter(|(_, module, _)| module == "raster") {
        let parts: Vec<&str> = file.iter().skip(1).filter_map(|part| part.to_str()).collect();
        if parts == ["mod.rs"] {
            continue;
        }
        let wing = parts[0].trim_end_matches(".rs");
        let Some((_, allowed)) = RASTER_MAY_IMPORT.iter().find(|(name, _)| *name == wing) else {
            wrong.push(format!("{} belongs to no known wing", file.display()));
            continue;
        };
        let mut names = names_after(&code, "crate::raster::");
        // One `super` more than the file lies deep is the face of raster.
        let depth = parts.len() - usize::from(parts.last() == Some(&"mod.rs"));
        let outwards = "super::".repeat(depth);
        names.extend(names_after(&code, &outwards).into_iter().filter(|name| name != "super"));
        let is_inner = |name: &str| name == wing || allowed.contains(&name);
        wrong.extend(names.iter().filter(|name| !is_inner(name)).map(|name| format!("{} imports {name}", file.display())));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn frameworks_stay_where_they_belong() {
    let mut wrong = Vec::new();
    for (file, module, code) in modules() {
        for (name, allowed) in CONFINED {
            if code.contains(&format!("{name}::")) && !allowed.contains(&module.as_str()) {
                wrong.push(format!("{} names {name}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn few_modules_know_the_kernels() {
    let callers: BTreeSet<String> = modules()
        .into_iter()
        .filter(|(_, _, code)| imported(code).contains("kernels"))
        .map(|(_, module, _)| module)
        .collect();
    assert_eq!(callers.into_iter().collect::<Vec<_>>(), ["allocator", "fit", "ops", "vectors"]);
}
