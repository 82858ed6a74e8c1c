//! Where Istio's inputs are.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The commit of Istio's 1.31 line whose inputs these are; Go modules have no tag of it.
const MODULE: &str = "istio.io/istio@v0.0.0-20260827124520-eed52ebb66ad";

/// The folder of the inputs, if it is to be had.
pub fn folder() -> Option<PathBuf> {
    let wanted = std::env::var("CI").is_ok_and(|value| value == "true");
    let module = match std::env::var_os("FERROMESH_ISTIO_MODULE") {
        Some(folder) => Ok(PathBuf::from(folder)),
        None if wanted || std::env::var_os("FERROMESH_ISTIO_INPUTS").is_some() => downloaded(),
        None => Err("neither FERROMESH_ISTIO_MODULE nor FERROMESH_ISTIO_INPUTS is set".into()),
    };
    match module {
        Ok(module) => Some(module.join("pkg/kube/inject/testdata/inject")),
        Err(reason) if wanted => panic!("CI=true, and Istio's inputs are not to be had: {reason}"),
        Err(reason) => {
            eprintln!("skipped: {reason}");
            None
        }
    }
}

/// Brings the module into Go's cache, which keeps it.
fn downloaded() -> Result<PathBuf, String> {
    let command = Command::new("go")
        .args(["mod", "download", "-json", MODULE])
        // Outside of any module, so that no go.mod is looked for or changed.
        .current_dir(std::env::temp_dir())
        .output();
    let output = command.map_err(|error| format!("go: {error}; put Go 1.26 or later into PATH"))?;
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("go mod download: {error}: {}", String::from_utf8_lossy(&output.stderr)))?;
    let folder = answer["Dir"].as_str().ok_or_else(|| format!("go mod download: {}", answer["Error"]))?;
    Ok(Path::new(folder).to_owned())
}
