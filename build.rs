//! Embeds files, so that one binary is all there is: every `queries/<name>.sql`, so that a new file is a new endpoint, and
//! every file of `data/demo/`.

use std::{
    env,
    error::Error,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

// Cargo hands a build script its folders in the environment; Wattlake itself reads its own in config.rs alone.
#[allow(clippy::disallowed_methods)]
fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var("OUT_DIR")?);

    let metrics = files(&root.join("queries"), "sql")?;
    let name = |path: &Path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    write_table(&out.join("metric_files.rs"), &metrics, "include_str", name)?;

    let demo = root.join("data/demo");
    let name = |path: &Path| path.strip_prefix(&demo).unwrap_or(path).to_string_lossy().into_owned();
    write_table(&out.join("demo_files.rs"), &files(&demo, "csv")?, "include_bytes", name)
}

/// The files of a folder and the folders in it, of one kind, in order.
fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    println!("cargo:rerun-if-changed={}", folder.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path, extension)?);
        } else if path.extension().is_some_and(|other| other == extension) {
            println!("cargo:rerun-if-changed={}", path.display());
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Writes a Rust array of (name, content).
fn write_table(
    to: &Path,
    files: &[PathBuf],
    include: &str,
    name: impl Fn(&Path) -> String,
) -> Result<(), Box<dyn Error>> {
    let mut code = String::from("[\n");
    for path in files {
        writeln!(code, "    ({:?}, {include}!({:?})),", name(path), path.display().to_string())?;
    }
    code.push(']');
    Ok(fs::write(to, code)?)
}
