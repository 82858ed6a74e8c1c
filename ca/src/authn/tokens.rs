//! Tokens that are known beforehand: handed over in the program, or files in a folder.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use ferromesh_core::{SpiffeId, TrustDomain};

use super::{Authenticator, AuthnError};

/// The most token files that are read.
const MAX_FILES: usize = 10_000;
const MAX_FILE_LEN: u64 = 16 * 1024;
/// The folder is looked at for changes at most this often.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Tokens kept in memory; they can be added and removed while the CA runs.
#[derive(Default)]
pub struct StaticTokens(RwLock<Vec<Known>>);

/// A token's digest: comparing these takes the same time wherever they differ, and a dump of memory shows no token.
struct Known {
    digest: [u8; 32],
    id: SpiffeId,
}

impl StaticTokens {
    /// Lets `token` stand for `id`, whatever it stood for before.
    pub fn add(&self, token: &str, id: SpiffeId) {
        let digest = digest_of(token);
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.retain(|entry| entry.digest != digest);
        known.push(Known { digest, id });
    }

    /// Forgets every token of `id`.
    pub fn remove(&self, id: &SpiffeId) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).retain(|entry| entry.id != *id);
    }

    fn replace(&self, all: Vec<Known>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = all;
    }

    fn find(&self, token: &str) -> Option<SpiffeId> {
        let digest = digest_of(token);
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        // All are compared, so that the time tells nothing about which one it was.
        let mut found = None;
        for entry in known.iter() {
            if verify_slices_are_equal(&entry.digest, &digest).is_ok() {
                found = Some(&entry.id);
            }
        }
        found.cloned()
    }
}

fn digest_of(token: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    bytes
}

#[tonic::async_trait]
impl Authenticator for StaticTokens {
    fn name(&self) -> &'static str {
        "static tokens"
    }

    async fn authenticate(&self, token: &str, _: Option<IpAddr>) -> Result<Option<SpiffeId>, AuthnError> {
        Ok(self.find(token))
    }
}

/// Tokens in a folder: the file `<namespace>.<service account>` holds that account's token. Changes are seen within
/// a second; a file whose name is not of this form is skipped with a warning.
pub struct TokenFolder {
    folder: PathBuf,
    domain: TrustDomain,
    tokens: StaticTokens,
    seen: Mutex<Option<Seen>>,
}

struct Seen {
    at: Instant,
    files: Vec<FileMark>,
}

/// What changes when a file does.
type FileMark = (PathBuf, Option<SystemTime>, u64);

impl TokenFolder {
    /// Reads tokens from `folder`, for identities of `domain`.
    pub fn new(folder: &Path, domain: TrustDomain) -> Self {
        Self { folder: folder.into(), domain, tokens: StaticTokens::default(), seen: Mutex::new(None) }
    }

    /// Reads the files again if they changed since `now` minus a second.
    fn refresh(&self, now: Instant) -> std::io::Result<()> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.as_ref().is_some_and(|seen| now.saturating_duration_since(seen.at) < LOOK_EVERY) {
            return Ok(());
        }
        let files = self.files()?;
        if seen.as_ref().is_none_or(|seen| seen.files != files) {
            self.tokens.replace(files.iter().filter_map(|(path, _, len)| self.read(path, *len)).collect());
        }
        *seen = Some(Seen { at: now, files });
        Ok(())
    }

    fn files(&self) -> std::io::Result<Vec<FileMark>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)?.take(MAX_FILES) {
            let path = entry?.path();
            // Links are followed: Kubernetes mounts Secrets as links.
            if let Ok(about) = fs::metadata(&path)
                && about.is_file()
            {
                files.push((path, about.modified().ok(), about.len()));
            }
        }
        files.sort();
        Ok(files)
    }

    fn read(&self, path: &Path, len: u64) -> Option<Known> {
        let known = || {
            let name = path.file_name()?.to_str()?;
            let (namespace, account) = name.split_once('.')?;
            let id = SpiffeId::workload(&self.domain, namespace, account).ok()?;
            let token = if len <= MAX_FILE_LEN { fs::read_to_string(path).ok()? } else { return None };
            let token = token.trim();
            (!token.is_empty()).then(|| Known { digest: digest_of(token), id })
        };
        let known = known();
        if known.is_none() {
            tracing::warn!(path = %path.display(), "skipped: expected a token in a file named <namespace>.<service account>");
        }
        known
    }
}

#[tonic::async_trait]
impl Authenticator for TokenFolder {
    fn name(&self) -> &'static str {
        "token folder"
    }

    async fn authenticate(&self, token: &str, _: Option<IpAddr>) -> Result<Option<SpiffeId>, AuthnError> {
        self.refresh(Instant::now()).map_err(|error| AuthnError::Unavailable {
            name: self.name(),
            reason: format!("{}: {error}", self.folder.display()),
        })?;
        Ok(self.tokens.find(token))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn web() -> SpiffeId {
        SpiffeId::workload(&TrustDomain::default(), "default", "web").unwrap()
    }

    #[test]
    fn a_token_stands_for_the_identity_it_was_added_for_until_it_is_removed() {
        let tokens = StaticTokens::default();
        tokens.add("one", web());
        assert_eq!(tokens.find("one"), Some(web()));
        assert_eq!(tokens.find("on"), None);
        assert_eq!(tokens.find(""), None);
        tokens.remove(&web());
        assert_eq!(tokens.find("one"), None);
    }

    #[test]
    fn a_folder_of_tokens_is_read_again_when_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = TokenFolder::new(folder.path(), TrustDomain::default());
        fs::write(folder.path().join("default.web"), "first\n").unwrap();
        fs::write(folder.path().join("README"), "not a token").unwrap();
        let start = Instant::now();
        tokens.refresh(start).unwrap();
        assert_eq!(tokens.tokens.find("first"), Some(web()));
        assert_eq!(tokens.tokens.find("not a token"), None);

        fs::write(folder.path().join("default.web"), "second one").unwrap();
        tokens.refresh(start + LOOK_EVERY).unwrap();
        assert_eq!((tokens.tokens.find("first"), tokens.tokens.find("second one")), (None, Some(web())));

        fs::remove_file(folder.path().join("default.web")).unwrap();
        tokens.refresh(start + LOOK_EVERY * 2).unwrap();
        assert_eq!(tokens.tokens.find("second one"), None);
    }
}
