//! The programs that a cluster is made of and that Debian does not have: built once from Go modules, kept in a cache.
//!
//! ```text
//! Tool (sources in e2e/go, version) -> key -> cache folder there? -> else: lock, go build, rename -> Toolbox
//! ```
//!
//! The cache is `${FERROMESH_E2E_CACHE:-${XDG_CACHE_HOME:-~/.cache}/ferromesh-e2e}`. A folder's name holds the version and a hash of all
//! that the build depends on, so that work trees of different versions share the cache without harm.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use aws_lc_rs::digest;

use crate::process;
use crate::progress::Progress;

mod sources;

pub use sources::{KUBERNETES_VERSION, Tool};

/// Tools that are there: where each program is.
#[derive(Debug, Clone)]
pub struct Toolbox {
    folders: Vec<PathBuf>,
}

impl Toolbox {
    /// Builds what is missing. What is there costs a look at the file system.
    ///
    /// # Errors
    /// If Go is missing or too old, or a build fails; with the end of its output.
    pub fn with(tools: &[Tool], progress: &Progress) -> anyhow::Result<Self> {
        let mut folders = Vec::new();
        for tool in tools {
            folders.push(build(*tool, progress)?);
        }
        Ok(Self { folders })
    }

    /// The tools among these that are built already.
    pub fn present(tools: &[Tool]) -> anyhow::Result<Self> {
        let mut folders = Vec::new();
        for tool in tools {
            folders.extend(Some(folder_of(*tool)?).filter(|folder| folder.is_dir()));
        }
        Ok(Self { folders })
    }

    /// A program of the tools.
    ///
    /// # Errors
    /// If none of them has it.
    pub fn program(&self, name: &str) -> anyhow::Result<PathBuf> {
        let found = self.folders.iter().map(|folder| folder.join(name)).find(|file| file.is_file());
        found.with_context(|| format!("{name} is not among the tools that were built; run: ferromesh-e2e tools build"))
    }

    /// The folders to put on a search path.
    pub fn folders(&self) -> &[PathBuf] {
        &self.folders
    }
}

/// Where the tools and images are kept.
///
/// # Errors
/// If neither `FERROMESH_E2E_CACHE`, `XDG_CACHE_HOME` nor `HOME` is set.
pub fn cache() -> anyhow::Result<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("FERROMESH_E2E_CACHE")
        .or_else(|| Some(variable("XDG_CACHE_HOME")?.join("ferromesh-e2e")))
        .or_else(|| Some(variable("HOME")?.join(".cache/ferromesh-e2e")))
        .context("set HOME, XDG_CACHE_HOME or FERROMESH_E2E_CACHE: the built tools need a place")
}

/// The folder of a tool, whether it is built or not.
///
/// # Errors
/// If there is no place for the cache.
pub fn folder_of(tool: Tool) -> anyhow::Result<PathBuf> {
    let mut hash = digest::Context::new(&digest::SHA256);
    for (name, text) in tool.module().files {
        for part in [name.as_bytes(), &[0], text.as_bytes(), &[0]] {
            hash.update(part);
        }
    }
    hash.update(tool.arguments().join("\0").as_bytes());
    let key: String = hash.finish().as_ref().iter().take(5).map(|byte| format!("{byte:02x}")).collect();
    Ok(cache()?.join("tools").join(format!("{}-{}-{key}", tool.name(), tool.version())))
}

/// Builds a tool unless it is there; gives its folder.
/// Where Go keeps a module (`path@version`), which it fetches if it must.
///
/// # Errors
/// If there is no Go, or it does not have the module.
pub fn module_folder(module: &str) -> anyhow::Result<PathBuf> {
    let out = Command::new("go").args(["mod", "download", "-json", module]).output().context("go")?;
    let told: serde_json::Value = serde_json::from_slice(&out.stdout).context("go mod download")?;
    told["Dir"].as_str().map(PathBuf::from).with_context(|| format!("{module}: {}", told["Error"]))
}

fn build(tool: Tool, progress: &Progress) -> anyhow::Result<PathBuf> {
    let folder = folder_of(tool)?;
    if folder.is_dir() {
        return Ok(folder);
    }
    let parent = folder.parent().context("cache folder")?;
    fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
    // One build of a tool at a time, however many processes want it.
    let lock = fs::File::create(folder.with_extension("lock"))?;
    if lock.try_lock().is_err() {
        progress.step(&format!("waiting: another process builds {} {}", tool.name(), tool.version()));
        lock.lock()?;
    }
    if folder.is_dir() {
        return Ok(folder);
    }
    let go = go()?;
    let work = tempfile::Builder::new().prefix("build-").tempdir_in(parent)?;
    for (name, text) in tool.module().files {
        fs::write(work.path().join(name), text)?;
    }
    let built = work.path().join("built");
    fs::create_dir(&built)?;
    progress.step(&format!("building {} {} ({})", tool.name(), tool.version(), tool.build_time()));
    run_go(&go, tool, work.path(), &built.join(tool.name()), progress)?;
    for link in tool.programs().iter().filter(|link| **link != tool.name()) {
        std::os::unix::fs::symlink(tool.name(), built.join(link))?;
    }
    fs::rename(&built, &folder).with_context(|| format!("moving the build to {}", folder.display()))?;
    Ok(folder)
}

fn run_go(go: &Path, tool: Tool, work: &Path, output: &Path, progress: &Progress) -> anyhow::Result<()> {
    let log = work.join("build.log");
    let mut child = Command::new(go)
        .arg("build")
        .args(tool.arguments())
        .arg("-o")
        .arg(output)
        .arg(tool.package())
        .current_dir(work)
        .env("CGO_ENABLED", "0")
        .env("GOWORK", "off")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(&log)?)
        .spawn()
        .with_context(|| format!("running {}", go.display()))?;
    let begin = Instant::now();
    let mut said = begin;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if said.elapsed() > Duration::from_secs(30) {
            said = Instant::now();
            progress.step(&format!("still building {} ({} s)", tool.name(), begin.elapsed().as_secs()));
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    if !status.success() {
        bail!("go build of {} {} ended with {status}:\n{}", tool.name(), tool.version(), process::tail(&log, 20));
    }
    Ok(())
}

/// The Go command, new enough for the modules.
fn go() -> anyhow::Result<PathBuf> {
    const REMEDY: &str = "install Go 1.26 or newer (Debian: apt-get install golang-1.26 from the backports; any Go from 1.21 on \
                          fetches the newer tool chain itself unless GOTOOLCHAIN=local) and put its bin folder on the PATH";
    let go =
        process::find("go").with_context(|| format!("go is not on the PATH, and tools have to be built: {REMEDY}"))?;
    let version = Command::new(&go).args(["env", "GOVERSION"]).current_dir("/").output()?;
    let version = String::from_utf8_lossy(&version.stdout).trim().to_owned();
    let numbers: Vec<u32> =
        version.trim_start_matches("go").split('.').map_while(|number| number.parse().ok()).collect();
    ensure!(numbers.as_slice() >= [1, 21].as_slice(), "{} is {version}, which is too old: {REMEDY}", go.display());
    Ok(go)
}
