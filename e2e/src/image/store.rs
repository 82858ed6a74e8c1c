//! Images as a registry keeps them: blobs by digest, and for each name and tag the digest of its manifest.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use super::{digest, full_name};

/// A folder with images.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// In that folder; it is made when something is added.
    pub fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Adds an archive in the layout of OCI; gives the names of its images. Nothing of it is trusted: every blob must have the digest
    /// that it is named by.
    ///
    /// # Errors
    /// If it is no such archive, or damaged.
    pub fn add(&self, archive: &Path) -> anyhow::Result<Vec<String>> {
        let blobs = self.folder.join("blobs");
        fs::create_dir_all(&blobs)?;
        let file = fs::File::open(archive).with_context(|| format!("opening {}", archive.display()))?;
        let mut index = None;
        for entry in tar::Archive::new(file).entries()? {
            let mut entry = entry?;
            let path = entry.path()?.display().to_string();
            let path = path.trim_start_matches("./");
            if path == "index.json" {
                index = Some(serde_json::from_reader::<_, Value>(&mut entry)?);
            } else if let Some(name) = path.strip_prefix("blobs/sha256/").filter(|name| is_hex(name)) {
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes)?;
                ensure!(digest(&bytes) == name, "{}: blob {name} has another digest", archive.display());
                fs::write(blobs.join(name), bytes)?;
            }
        }
        let Some(index) = index else {
            bail!("{} has no index.json: it is no archive in the layout of OCI", archive.display());
        };
        let mut names = Vec::new();
        for manifest in index["manifests"].as_array().into_iter().flatten() {
            let annotation = |name: &str| manifest["annotations"][name].as_str();
            let name = annotation("io.containerd.image.name").or(annotation("org.opencontainers.image.ref.name"));
            let (Some(name), Some(digest)) = (name, manifest["digest"].as_str()) else { continue };
            let name = full_name(name);
            self.tag(&name, digest, manifest["mediaType"].as_str().unwrap_or_default())?;
            names.push(name);
        }
        ensure!(!names.is_empty(), "{}: no image in it has a name", archive.display());
        Ok(names)
    }

    fn tag(&self, name: &str, digest: &str, kind: &str) -> anyhow::Result<()> {
        let file = self.tag_file(name).with_context(|| format!("{name:?} is no name of an image"))?;
        fs::create_dir_all(file.parent().context("a folder")?)?;
        fs::write(file, format!("{digest} {kind}"))?;
        Ok(())
    }

    fn tag_file(&self, name: &str) -> Option<PathBuf> {
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:".contains(&byte);
        let safe = name.bytes().all(valid) && name.split('/').all(|part| !part.is_empty() && !part.starts_with('.'));
        safe.then(|| self.folder.join("names").join(name.replace('/', "~")))
    }

    /// Media type, digest and bytes of the manifest that a tag or a digest names; `registry` is empty for any.
    pub fn manifest(&self, registry: &str, name: &str, reference: &str) -> Option<(String, String, Vec<u8>)> {
        if reference.starts_with("sha256:") {
            let bytes = self.blob(reference)?;
            let kind = serde_json::from_slice::<Value>(&bytes).ok()?;
            return Some((kind["mediaType"].as_str()?.to_owned(), reference.to_owned(), bytes));
        }
        let registry = if registry.is_empty() { "docker.io" } else { registry };
        let line = fs::read_to_string(self.tag_file(&format!("{registry}/{name}:{reference}"))?).ok()?;
        let (digest, kind) = line.split_once(' ')?;
        Some((kind.to_owned(), digest.to_owned(), self.blob(digest)?))
    }

    /// A blob by its digest.
    pub fn blob(&self, digest: &str) -> Option<Vec<u8>> {
        let name = digest.strip_prefix("sha256:").filter(|name| is_hex(name))?;
        fs::read(self.folder.join("blobs").join(name)).ok()
    }
}

fn is_hex(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}
