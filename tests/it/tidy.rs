//! Holds the source to its own rules: imports run downward, files stay short.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The table of `ARCHITECTURE.md`, from the ground up: each module, and those that it may import.
fn table() -> Vec<(String, Vec<String>)> {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let (_, section) =
        text.split_once("\n## Dependencies\n").expect("ARCHITECTURE.md has a section named Dependencies");
    let section = section.split("\n## ").next().unwrap_or_default();
    let words = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<String>>();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        let [module, imports] = cells.as_slice() else { panic!("a row of the table has two cells: {row}") };
        let module = words(module).pop().unwrap_or_else(|| panic!("a row names its module first: {row}"));
        (module, words(imports))
    })
    .collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Lines of code, without those of the tests at a file's end.
const MAX_LINES: usize = 400;

fn sources() -> Vec<(PathBuf, String)> {
    let (mut folders, mut files) = (vec![root().join("src")], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                files.push((path, text));
            }
        }
    }
    files
}

/// The text before the tests.
fn code(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text)
}

/// The top-level module that a file of `src` belongs to; `None` for `lib.rs` and `main.rs`.
fn module_of(path: &Path) -> Option<String> {
    let relative = path.strip_prefix(root().join("src")).unwrap();
    let first = relative.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs");
    (first != "lib" && first != "main").then(|| first.to_owned())
}

/// The modules that `crate::` names anywhere in a file's code: `crate::a::B`, `crate::{a::B, c}`.
fn imports(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in code.split("crate::").skip(1) {
        let word = |text: &str| -> String {
            text.trim_start().chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect()
        };
        let Some(group) = line.strip_prefix('{') else {
            found.push(word(line));
            continue;
        };
        let mut depth = 0;
        let mut item = String::new();
        for c in group.chars() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => found.push(word(&std::mem::take(&mut item))),
                _ => {}
            }
            if depth == 0 && c != ',' {
                item.push(c);
            }
        }
        found.push(word(&item));
    }
    found.retain(|name| !name.is_empty());
    found
}

#[test]
fn imports_run_downward_only() {
    let table: BTreeMap<String, Vec<String>> = table().into_iter().collect();
    let (mut wrong, mut seen) = (Vec::new(), BTreeSet::new());
    for (path, text) in sources() {
        let Some(module) = module_of(&path) else { continue };
        seen.insert(module.clone());
        let Some(allowed) = table.get(&module) else {
            wrong.push(format!("{}: the module {module} is not in the table of ARCHITECTURE.md", path.display()));
            continue;
        };
        // Files that are tests alone may look at the rest from outside.
        if path.components().any(|part| part.as_os_str() == "tests") {
            continue;
        }
        for import in imports(code(&text)) {
            if import != module && !allowed.contains(&import) {
                wrong.push(format!("{}: {module} may not import {import}, says ARCHITECTURE.md", path.display()));
            }
        }
    }
    let gone = table.keys().filter(|module| !seen.contains(*module));
    wrong.extend(gone.map(|module| format!("ARCHITECTURE.md has a module {module} that src has not")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_has_no_cycle() {
    // Each module stands below those that import it, so the table in its own order is a proof.
    let table = table();
    for (place, (module, allowed)) in table.iter().enumerate() {
        for import in allowed {
            let above = table[..place].iter().any(|(name, _)| name == import);
            assert!(above, "{module} imports {import}, which does not stand above it in the table");
        }
    }
}

#[test]
fn files_are_short_enough_to_read() {
    for (path, text) in sources() {
        let lines = code(&text).lines().count();
        assert!(lines <= MAX_LINES, "{} has {lines} lines; {MAX_LINES} is the most", path.display());
    }
}

#[test]
fn one_module_uses_sqlx_and_one_reads_the_environment() {
    for (path, text) in sources() {
        let module = module_of(&path);
        let code = code(&text);
        for (needle, home) in [
            ("sqlx::", "catalog"),
            ("rusqlite::", "catalog"),
            ("std::env::var", "config"),
            ("deltalake_core::", "lake"),
        ] {
            assert!(!code.contains(needle) || module.as_deref() == Some(home), "{} uses {needle}", path.display());
        }
    }
}

/// What the catalogue gives whoever asks is asked for where the answer is held to a scope, and nowhere else in the API.
#[test]
fn handlers_ask_the_catalogue_within_a_scope() {
    let unscoped = [
        "catalog.project(",
        "catalog.projects()",
        "catalog.upload(",
        "catalog.all_uploads(",
        "catalog.key(",
        "catalog.share(",
    ];
    let mut homes = BTreeSet::new();
    for (path, text) in sources().into_iter().filter(|(path, _)| module_of(path).as_deref() == Some("http")) {
        if unscoped.iter().any(|question| code(&text).contains(question)) {
            homes.insert(path.file_name().unwrap().to_string_lossy().into_owned());
        }
    }
    assert_eq!(homes.iter().map(String::as_str).collect::<Vec<_>>(), ["found.rs", "receive.rs"]);
}

#[test]
fn every_corpus_is_that_of_one_fuzz_target() {
    let folders = fs::read_dir(root().join("tests/fuzz")).unwrap().map(|entry| entry.unwrap());
    let folders = folders.filter(|entry| entry.file_type().unwrap().is_dir());
    let corpora: BTreeSet<String> = folders.map(|entry| entry.file_name().into_string().unwrap()).collect();
    let mut targets = BTreeSet::new();
    for (path, text) in sources() {
        for test in text.split("fn fuzz_").skip(1) {
            let name = test.split_once("name: \"").and_then(|(_, rest)| rest.split('"').next()).unwrap();
            assert!(test.starts_with(name), "{}: the target {name} is named after its corpus", path.display());
            assert!(targets.insert(name.to_owned()), "{name} is two targets");
        }
    }
    assert_eq!(targets, corpora);
}
