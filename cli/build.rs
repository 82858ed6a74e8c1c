//! Puts the chart into the program, so that it installs what it was built with.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// What only tests of the chart need.
const LEFT_OUT: &str = "ci";

fn main() -> std::io::Result<()> {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/ferromesh").canonicalize()?;
    println!("cargo::rerun-if-changed={}", chart.display());
    let mut files = Vec::new();
    collect(&chart, &chart, &mut files)?;
    files.sort();
    let mut code = String::from("&[\n");
    for file in files {
        let name = file.strip_prefix(&chart).unwrap_or(&file);
        let _ =
            writeln!(code, "    ({:?}, include_bytes!({:?})),", name.display().to_string(), file.display().to_string());
    }
    code.push_str("]\n");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default());
    std::fs::write(out.join("chart.rs"), code)
}

fn collect(chart: &Path, folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_file() {
            files.push(path);
        } else if path != chart.join(LEFT_OUT) {
            collect(chart, &path, files)?;
        }
    }
    Ok(())
}
