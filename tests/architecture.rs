//! Which way imports run. One crate has no compiler wall between its modules, so this test is the wall.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each module of the crate and the modules it may import.
const MAY_IMPORT: [(&str, &[&str]); 26] = [
    ("error", &[]),
    ("identity", &[]),
    ("telemetry", &[]),
    ("threads", &[]),
    ("allocator", &["sync"]),
    ("kernels", &["allocator"]),
    ("assets", &[]),
    ("private_file", &[]),
    ("sync", &[]),
    ("storage", &["error", "sync"]),
    ("georef", &["error"]),
    ("tiles", &["error", "georef"]),
    ("zoo", &["error"]),
    ("prediction", &["error", "georef"]),
    ("ops", &["kernels", "sync"]),
    ("weights", &["error", "zoo"]),
    ("raster", &["error", "georef", "storage", "sync", "tiles", "zoo"]),
    ("nn", &["error", "ops", "prediction", "sync", "weights", "zoo"]),
    ("outputs", &["error", "georef", "prediction", "tiles", "zoo"]),
    (
        "engine",
        &[
            "allocator",
            "error",
            "georef",
            "identity",
            "nn",
            "prediction",
            "private_file",
            "raster",
            "storage",
            "sync",
            "telemetry",
            "threads",
            "tiles",
            "weights",
            "zoo",
        ],
    ),
    ("jobs", &["error", "private_file", "sync"]),
    ("config", &["engine", "jobs", "raster", "storage", "telemetry", "tiles", "weights"]),
    (
        "api",
        &[
            "assets",
            "engine",
            "error",
            "georef",
            "identity",
            "jobs",
            "nn",
            "outputs",
            "prediction",
            "private_file",
            "raster",
            "sync",
            "telemetry",
            "tiles",
            "weights",
            "zoo",
        ],
    ),
    ("server", &["api", "assets", "config", "engine", "jobs", "raster", "telemetry", "zoo"]),
    (
        "cli",
        &["api", "assets", "config", "engine", "outputs", "prediction", "raster", "server", "telemetry", "weights", "zoo"],
    ),
    ("main", &[]),
];

/// Crates that only some modules may name, because each stands for one concern.
const CONFINED: [(&str, &[&str]); 7] = [
    ("axum", &["api", "server"]),
    ("utoipa", &["api", "server", "zoo"]),
    ("tokio", &["api", "server", "engine", "jobs", "cli"]),
    ("rusqlite", &["jobs", "raster"]),
    ("candle_core", &["nn", "ops", "weights", "engine"]),
    ("ureq", &["storage", "weights"]),
    ("rustix", &["threads"]),
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

/// The module a file belongs to and its code without comments.
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
    paths.into_iter().map(read).filter(|(_, module, _)| module != "lib").collect()
}

/// Names that follow `crate::`, also inside braces.
fn imported(code: &str) -> BTreeSet<String> {
    let word = |text: &str| text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut names = BTreeSet::new();
    for (at, found) in code.match_indices("crate::") {
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
    names.retain(|name| name.starts_with(|c: char| c.is_ascii_lowercase()));
    names
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
fn the_table_of_imports_has_no_circle() {
    let mut placed: BTreeSet<&str> = BTreeSet::new();
    while placed.len() < MAY_IMPORT.len() {
        let next =
            MAY_IMPORT.iter().find(|(name, uses)| !placed.contains(name) && uses.iter().all(|used| placed.contains(used)));
        let (name, _) = next.expect("some module imports only what is placed already");
        placed.insert(name);
    }
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
fn only_operators_call_kernels() {
    let callers: BTreeSet<String> = modules()
        .into_iter()
        .filter(|(_, _, code)| imported(code).contains("kernels"))
        .map(|(_, module, _)| module)
        .collect();
    assert_eq!(callers.into_iter().filter(|module| module != "kernels").collect::<Vec<_>>(), ["ops"]);
}
