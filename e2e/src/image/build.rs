//! From the workspace to images: static programs, one image each, the same bytes every time.
//!
//! ```text
//! cargo metadata -> which programs there are -> cargo build (static, no paths of this machine) -> image, SBOM -> sizes
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};
use base64::Engine;
use serde_json::Value;

use super::catalog::{Definition, ENVIRONMENT, IMAGES, VERSION};
use super::{Config, Content, Image, sbom};
use crate::progress::Progress;

/// What is to be built.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Images by short name; none is all.
    pub only: Vec<String>,
    /// Cargo's profile: `dist` is what is shipped, `release` and `dev` build faster.
    pub profile: String,
    /// Cargo's target folder; apart from the usual one, since flags differ.
    pub target: PathBuf,
    /// Where archives go.
    pub output: PathBuf,
    /// Tag of the images.
    pub tag: String,
}

/// An image that was built.
#[derive(Debug, Clone)]
pub struct Built {
    /// Name with tag.
    pub name: String,
    /// The archive.
    pub archive: PathBuf,
    /// Bytes of its files.
    pub unpacked: u64,
    /// Bytes that are pulled.
    pub packed: u64,
}

/// The workspace as cargo tells it.
struct Workspace {
    root: PathBuf,
    metadata: Value,
    /// Package of each program.
    programs: BTreeMap<String, String>,
}

/// Builds.
///
/// # Errors
/// If an image is not known, cargo fails, or a program is not static.
pub fn build(plan: &Plan, progress: &Progress) -> anyhow::Result<Vec<Built>> {
    let target = host_target()?;
    let workspace = Workspace::read(&target)?;
    let wanted = wanted(plan, &workspace, progress)?;
    let programs: Vec<&str> = wanted.iter().flat_map(|image| workspace.programs_of(image)).collect();
    progress.step(&format!("building {} ({})", programs.join(", "), plan.profile));
    cargo_build(plan, &workspace, &target, &programs)?;
    let profile = if plan.profile == "dev" { "debug" } else { &plan.profile };
    let folder = plan.target.join(&target).join(profile);
    fs::create_dir_all(&plan.output).with_context(|| format!("making {}", plan.output.display()))?;
    let mut built = Vec::new();
    for definition in wanted {
        progress.step(&format!("packing {}", definition.repository));
        built.push(pack(plan, &workspace, definition, &folder)?);
    }
    Ok(built)
}

/// The images that are wanted and whose program is in the workspace.
fn wanted(plan: &Plan, workspace: &Workspace, progress: &Progress) -> anyhow::Result<Vec<&'static Definition>> {
    for name in &plan.only {
        let known: Vec<&str> = IMAGES.iter().map(|image| image.short).collect();
        ensure!(known.contains(&name.as_str()), "there is no image {name:?}; there are: {}", known.join(", "));
    }
    let chosen = IMAGES.iter().filter(|image| plan.only.is_empty() || plan.only.iter().any(|name| name == image.short));
    let (there, missing): (Vec<&Definition>, Vec<&Definition>) =
        chosen.partition(|image| workspace.programs.contains_key(image.program));
    for image in missing {
        progress.step(&format!("left out: {}, since the workspace has no program {}", image.short, image.program));
    }
    Ok(there)
}

impl Workspace {
    fn read(target: &str) -> anyhow::Result<Self> {
        let output = Command::new(cargo())
            .args(["metadata", "--format-version=1", "--locked", "--filter-platform", target])
            .output()
            .context("running cargo metadata")?;
        ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
        let metadata: Value = serde_json::from_slice(&output.stdout)?;
        let root = PathBuf::from(metadata["workspace_root"].as_str().context("workspace_root")?);
        let mut programs = BTreeMap::new();
        for package in metadata["packages"].as_array().into_iter().flatten() {
            // Packages of registries have a source.
            if !package["source"].is_null() {
                continue;
            }
            for target in package["targets"].as_array().into_iter().flatten() {
                let is_program = target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "bin"));
                if let (true, Some(name), Some(package)) =
                    (is_program, target["name"].as_str(), package["name"].as_str())
                {
                    programs.insert(name.to_owned(), package.to_owned());
                }
            }
        }
        Ok(Self { root, metadata, programs })
    }

    fn programs_of(&self, image: &Definition) -> Vec<&'static str> {
        let all = [image.program].into_iter().chain(image.beside.iter().copied());
        all.filter(|program| self.programs.contains_key(*program)).collect()
    }
}

/// Cargo, as it runs this, or from the search path.
fn cargo() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// The target of this machine. glibc links statically as well as musl does, and is what the rest of the workspace is tested with.
fn host_target() -> anyhow::Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("running rustc")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc -vV names no host")?;
    Ok(host.to_owned())
}

fn cargo_build(plan: &Plan, workspace: &Workspace, target: &str, programs: &[&str]) -> anyhow::Result<()> {
    let root = workspace.root.display();
    let home = std::env::var("CARGO_HOME").or_else(|_| std::env::var("HOME").map(|home| format!("{home}/.cargo")))?;
    let flags = [
        "-Ctarget-feature=+crt-static".to_owned(),
        "-Cstrip=symbols".to_owned(),
        // No path of this machine is in the programs, so that another one builds the same.
        format!("--remap-path-prefix={root}=/ferromesh"),
        format!("--remap-path-prefix={home}=/cargo"),
    ];
    let mut command = Command::new(cargo());
    command
        .args(["build", "--locked", "--profile", &plan.profile, "--target", target, "--target-dir"])
        .arg(&plan.target)
        .current_dir(&workspace.root)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .env("CFLAGS", format!("-ffile-prefix-map={root}=/ferromesh -ffile-prefix-map={home}=/cargo"))
        .env("CARGO_INCREMENTAL", "0")
        .env("SOURCE_DATE_EPOCH", "0");
    // Debug information is stripped anyway; making it is what takes time and disk.
    for profile in ["DEV", "RELEASE", "DIST"] {
        command.env(format!("CARGO_PROFILE_{profile}_DEBUG"), "false");
    }
    for program in programs {
        command.args(["--package", &workspace.programs[*program], "--bin", program]);
    }
    let status = command.status().context("running cargo")?;
    ensure!(status.success(), "cargo build ended with {status}");
    Ok(())
}

fn pack(plan: &Plan, workspace: &Workspace, definition: &Definition, folder: &Path) -> anyhow::Result<Built> {
    let mut content = vec![
        // Without it a resolver may ask in another order than the one that is meant.
        Content::file("etc/nsswitch.conf", b"hosts: files dns\n".to_vec()),
        Content::folder("etc", 0o755),
        Content::file("LICENSE", fs::read(workspace.root.join("LICENSE"))?),
    ];
    for program in workspace.programs_of(definition) {
        let file = folder.join(program);
        let bytes = fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
        ensure_static(&bytes).with_context(|| format!("{}", file.display()))?;
        content.push(Content::program(program, bytes));
    }
    if definition.public_roots {
        content.push(Content::folder("etc/ssl", 0o755));
        content.push(Content::folder("etc/ssl/certs", 0o755));
        content.push(Content::file("etc/ssl/certs/ca-certificates.crt", public_roots().into_bytes()));
    }
    for (path, target) in definition.links {
        let folders = path.match_indices('/').map(|(end, _)| Content::folder(&path[..end], 0o755));
        content.extend(folders.chain([Content::link(*path, *target)]));
    }
    let unpacked = content.iter().map(Content::size).sum();
    let name = format!("{}:{}", definition.repository, plan.tag);
    let image = Image {
        name: name.clone(),
        content,
        config: Config {
            entrypoint: vec![format!("/{}", definition.program)],
            user: definition.user.into(),
            environment: vec![format!("{}={}", ENVIRONMENT.0, ENVIRONMENT.1)],
            labels: vec![
                ("org.opencontainers.image.title".into(), definition.title.into()),
                ("org.opencontainers.image.version".into(), VERSION.into()),
                ("org.opencontainers.image.licenses".into(), "Apache-2.0".into()),
            ],
        },
    };
    let archive = plan.output.join(format!("{}.tar", definition.short));
    let bytes = image.archive()?;
    fs::write(&archive, &bytes).with_context(|| format!("writing {}", archive.display()))?;
    let packages = workspace.programs_of(definition).into_iter().map(|program| workspace.programs[program].as_str());
    let bill = sbom::of(&workspace.metadata, &name, packages)?;
    fs::write(plan.output.join(format!("{}.cdx.json", definition.short)), serde_json::to_vec_pretty(&bill)?)?;
    Ok(Built { name, archive, unpacked, packed: bytes.len() as u64 })
}

/// The public authorities, as Mozilla trusts them.
fn public_roots() -> String {
    let mut text = String::new();
    for root in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let encoded = base64::engine::general_purpose::STANDARD.encode(root);
        for line in encoded.as_bytes().chunks(64) {
            text.push_str(&String::from_utf8_lossy(line));
            text.push('\n');
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}

/// An empty image has no loader: a program that names one (a program header of type 3, ELF-64) would not start.
fn ensure_static(program: &[u8]) -> anyhow::Result<()> {
    const INTERPRETER: u32 = 3;
    let half = |at: usize| program.get(at..at + 2)?.try_into().ok().map(u16::from_le_bytes);
    let word = |at: usize| program.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
    let headers = || -> Option<(usize, usize, usize)> {
        let offset = program.get(32..40)?.try_into().ok().map(u64::from_le_bytes)?;
        Some((usize::try_from(offset).ok()?, half(54)?.into(), half(56)?.into()))
    };
    let (offset, size, count) =
        headers().filter(|_| program.starts_with(b"\x7fELF\x02\x01")).context("is no ELF-64 program")?;
    if (0..count).any(|header| word(offset + header * size) == Some(INTERPRETER)) {
        bail!("is linked dynamically; it would not start in an image that holds nothing else");
    }
    Ok(())
}
