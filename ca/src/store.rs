//! Where the CA's state outlives it: a folder with one file for each generation and one that says which is valid.
//!
//! A save writes `state-<n>.json` and then `generation` (`<n>`), each as temporary file, fsync, rename, fsync of the
//! folder. So at each moment `generation` names a whole file: a crash leaves the old state or the new one.

pub mod secret;

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::roots::State;

const GENERATION: &str = "generation";
const LOCK: &str = "lock";

/// Why the folder is not usable.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The system refused something.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another CA uses the folder.
    #[error("{} is in use by another CA; give each its own folder", .0.display())]
    InUse(PathBuf),
    /// A file that was written whole is damaged.
    #[error("{} is damaged ({reason}); restore it from a backup, or remove the folder to begin with a new root", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// The open folder; no other CA can open it meanwhile.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    generation: u64,
    _lock: File,
}

impl Store {
    /// Opens the folder (made if it is not there, for its owner only) and reads the state in it, if there is one.
    ///
    /// # Errors
    /// If the folder is in use or not accessible, or what it holds is damaged.
    pub fn open(folder: &Path) -> Result<(Self, Option<State>), StoreError> {
        let io = |source| StoreError::Io { path: folder.into(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(io)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).map_err(io)?;
        let lock = private_file(&folder.join(LOCK), false)?;
        lock.try_lock().map_err(|_| StoreError::InUse(folder.into()))?;
        let mut store = Self { folder: folder.into(), generation: 0, _lock: lock };
        let state = store.load()?;
        store.remove_leftovers();
        Ok((store, state))
    }

    /// Replaces the stored state; when it returns, the new one is on disk.
    ///
    /// # Errors
    /// If a file cannot be written; then the old state is still the stored one.
    pub fn save(&mut self, state: &State) -> Result<(), StoreError> {
        let next = self.generation + 1;
        let path = self.state_path(next);
        let json = serde_json::to_vec_pretty(state)
            .map_err(|error| StoreError::Damaged { path: path.clone(), reason: error.to_string() })?;
        self.write(&path, &json)?;
        self.write(&self.folder.join(GENERATION), next.to_string().as_bytes())?;
        self.generation = next;
        self.remove_leftovers();
        Ok(())
    }

    fn load(&mut self) -> Result<Option<State>, StoreError> {
        let path = self.folder.join(GENERATION);
        match fs::read_to_string(&path) {
            Ok(text) => {
                self.generation = text
                    .trim()
                    .parse()
                    .map_err(|_| StoreError::Damaged { path, reason: "expected one number".into() })?;
                self.read_state(self.generation).map(Some)
            }
            // A crash in the very first save, after the state and before the generation.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => match self.generations().into_iter().max() {
                Some(highest) => {
                    self.generation = highest;
                    self.read_state(highest).map(Some)
                }
                None => Ok(None),
            },
            Err(source) => Err(StoreError::Io { path, source }),
        }
    }

    fn read_state(&self, generation: u64) -> Result<State, StoreError> {
        let path = self.state_path(generation);
        let text = fs::read(&path).map_err(|source| StoreError::Io { path: path.clone(), source })?;
        // The parser's own message could show a piece of the key; where it stopped says enough.
        serde_json::from_slice(&text).map_err(|error| StoreError::Damaged {
            path,
            reason: format!("line {}, column {}", error.line(), error.column()),
        })
    }

    fn write(&self, path: &Path, content: &[u8]) -> Result<(), StoreError> {
        let io = |source| StoreError::Io { path: path.into(), source };
        let temporary = path.with_extension("tmp");
        let mut file = private_file(&temporary, true)?;
        file.write_all(content).map_err(io)?;
        file.sync_all().map_err(io)?;
        fs::rename(&temporary, path).map_err(io)?;
        File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(io)
    }

    /// Files of crashed saves, and generations before the last one. Failing to remove one harms nothing.
    fn remove_leftovers(&self) {
        let old = self.generations().into_iter().filter(|n| *n > self.generation || *n + 1 < self.generation);
        for path in old.map(|n| self.state_path(n)).chain(self.temporaries()) {
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "an old file of the CA's store stays");
            }
        }
    }

    fn state_path(&self, generation: u64) -> PathBuf {
        self.folder.join(format!("state-{generation}.json"))
    }

    fn generations(&self) -> Vec<u64> {
        let number =
            |path: &PathBuf| path.file_name()?.to_str()?.strip_prefix("state-")?.strip_suffix(".json")?.parse().ok();
        self.files().iter().filter_map(number).collect()
    }

    fn temporaries(&self) -> Vec<PathBuf> {
        self.files().into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "tmp")).collect()
    }

    fn files(&self) -> Vec<PathBuf> {
        fs::read_dir(&self.folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
    }
}

fn private_file(path: &Path, truncate: bool) -> Result<File, StoreError> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(truncate)
        .mode(0o600)
        .open(path)
        .map_err(|source| StoreError::Io { path: path.into(), source })
}

#[cfg(test)]
mod tests;
