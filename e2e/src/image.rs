//! Images made of files, without a daemon: the same files give the same bytes.
//!
//! ```text
//! Content (paths, modes, bytes) -> layer (tar, gzip) -> config -> manifest -> one archive that every tool reads
//! ```
//!
//! The archive has the layout of OCI (<https://github.com/opencontainers/image-spec>) and, beside it, the `manifest.json` that
//! `docker load` wants; blobs are shared. Times are the epoch's, owners are root, order is by path.

use std::io::Write;

use anyhow::Context;
use serde_json::json;

pub mod build;
pub mod catalog;
mod sbom;
pub mod store;

/// A file or folder of an image.
#[derive(Debug, Clone)]
pub struct Content {
    /// Where, without a leading slash.
    pub path: String,
    /// Permissions.
    pub mode: u32,
    /// What it is.
    pub kind: Kind,
}

/// What is at a path.
#[derive(Debug, Clone)]
pub enum Kind {
    /// A file with these bytes.
    File(Vec<u8>),
    /// A folder.
    Folder,
    /// A symbolic link to there.
    Link(String),
}

impl Content {
    /// A program that everybody may run.
    pub fn program(path: impl Into<String>, bytes: Vec<u8>) -> Self {
        Self { path: path.into(), mode: 0o555, kind: Kind::File(bytes) }
    }

    /// A file that everybody may read.
    pub fn file(path: impl Into<String>, bytes: Vec<u8>) -> Self {
        Self { path: path.into(), mode: 0o444, kind: Kind::File(bytes) }
    }

    /// A folder.
    pub fn folder(path: impl Into<String>, mode: u32) -> Self {
        Self { path: path.into(), mode, kind: Kind::Folder }
    }

    /// A symbolic link.
    pub fn link(path: impl Into<String>, target: impl Into<String>) -> Self {
        Self { path: path.into(), mode: 0o777, kind: Kind::Link(target.into()) }
    }

    /// Bytes that it takes.
    pub fn size(&self) -> u64 {
        if let Kind::File(bytes) = &self.kind { bytes.len() as u64 } else { 0 }
    }
}

/// How a container of the image runs.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// `UID:GID`.
    pub user: String,
    /// `NAME=value`.
    pub environment: Vec<String>,
    /// Annotations (`org.opencontainers.image.…`).
    pub labels: Vec<(String, String)>,
}

/// An image.
#[derive(Debug, Clone)]
pub struct Image {
    /// Full name with tag.
    pub name: String,
    /// Its files.
    pub content: Vec<Content>,
    /// How it runs.
    pub config: Config,
}

/// What the archive holds, addressed by content.
struct Blob {
    media_type: &'static str,
    digest: String,
    bytes: Vec<u8>,
}

impl Blob {
    fn new(media_type: &'static str, bytes: Vec<u8>) -> Self {
        Self { media_type, digest: digest(&bytes), bytes }
    }

    fn descriptor(&self) -> serde_json::Value {
        json!({"mediaType": self.media_type, "digest": format!("sha256:{}", self.digest), "size": self.bytes.len()})
    }

    fn path(&self) -> String {
        format!("blobs/sha256/{}", self.digest)
    }
}

impl Image {
    /// The archive.
    ///
    /// # Errors
    /// If a path is too long for a tar.
    pub fn archive(&self) -> anyhow::Result<Vec<u8>> {
        let files = tar(self.content.clone())?;
        let unpacked = digest(&files);
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
        packed.write_all(&files)?;
        let layer = Blob::new("application/vnd.oci.image.layer.v1.tar+gzip", packed.finish()?);
        let config = Blob::new("application/vnd.oci.image.config.v1+json", self.config(&unpacked)?);
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config.descriptor(),
            "layers": [layer.descriptor()],
        });
        let manifest = Blob::new("application/vnd.oci.image.manifest.v1+json", serde_json::to_vec(&manifest)?);
        let mut entry = manifest.descriptor();
        // containerd takes the first name, other tools the second one.
        let tag = self.name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
        entry["annotations"] = json!({"io.containerd.image.name": self.name, "org.opencontainers.image.ref.name": tag});
        entry["platform"] = json!({"os": "linux", "architecture": architecture()});
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [entry],
        });
        let docker = json!([{"Config": config.path(), "RepoTags": [self.name], "Layers": [layer.path()]}]);
        let text = |path: &str, value: &serde_json::Value| -> anyhow::Result<Content> {
            Ok(Content::file(path, serde_json::to_vec(value)?))
        };
        let mut content = vec![
            text("index.json", &index)?,
            text("manifest.json", &docker)?,
            text("oci-layout", &json!({"imageLayoutVersion": "1.0.0"}))?,
            Content::folder("blobs", 0o755),
            Content::folder("blobs/sha256", 0o755),
        ];
        content.extend([layer, config, manifest].into_iter().map(|blob| Content::file(blob.path(), blob.bytes)));
        tar(content)
    }

    fn config(&self, layer: &str) -> anyhow::Result<Vec<u8>> {
        let labels: serde_json::Map<String, serde_json::Value> =
            self.config.labels.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        let config = json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {
                "User": self.config.user,
                "Env": self.config.environment,
                "Entrypoint": self.config.entrypoint,
                "WorkingDir": "/",
                "Labels": labels,
            },
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer}")]},
            "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "ferromesh-e2e image build"}],
            "created": "1970-01-01T00:00:00Z",
        });
        Ok(serde_json::to_vec(&config)?)
    }
}

/// The architecture by Go's name, as images have it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A name as runtimes take it: `demo` is `docker.io/library/demo:latest`.
pub fn full_name(name: &str) -> String {
    let first = name.split_once('/').map(|(first, _)| first);
    let registry = first.is_some_and(|first| first.contains(['.', ':']) || first == "localhost");
    let name = match (registry, first) {
        (true, _) => name.to_owned(),
        (false, Some(_)) => format!("docker.io/{name}"),
        (false, None) => format!("docker.io/library/{name}"),
    };
    let tagged = name.rsplit_once('/').is_some_and(|(_, last)| last.contains([':', '@']));
    if tagged { name } else { format!("{name}:latest") }
}

fn digest(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn tar(mut content: Vec<Content>) -> anyhow::Result<Vec<u8>> {
    content.sort_by(|left, right| left.path.cmp(&right.path));
    let mut archive = tar::Builder::new(Vec::new());
    for Content { path, mode, kind } in content {
        let mut header = tar::Header::new_ustar();
        header.set_mode(mode);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        let (entry, path, bytes) = match kind {
            Kind::File(bytes) => (tar::EntryType::Regular, path, bytes),
            Kind::Folder => (tar::EntryType::Directory, format!("{path}/"), Vec::new()),
            Kind::Link(target) => {
                header.set_link_name(&target)?;
                (tar::EntryType::Symlink, path, Vec::new())
            }
        };
        header.set_entry_type(entry);
        header.set_size(bytes.len() as u64);
        archive.append_data(&mut header, &path, bytes.as_slice()).with_context(|| format!("packing {path}"))?;
    }
    Ok(archive.into_inner()?)
}

#[cfg(test)]
mod tests;
