//! The plugin's program in the node's folder of plugins: a copy of this one.

use std::path::{Path, PathBuf};

use crate::conflist::TYPE;
use crate::files;

const MODE: u32 = 0o755;

/// Why the program is not there.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}; the node's folder of plugins must be writable (cni.binDir of the chart)", path.display())]
pub struct ProgramError {
    path: PathBuf,
    source: std::io::Error,
}

/// The program that is copied, read once.
#[derive(Debug)]
pub struct Program {
    bytes: Vec<u8>,
    target: PathBuf,
}

impl Program {
    /// This process's own, to be put into `folder`.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn own(folder: &Path) -> Result<Self, ProgramError> {
        Self::of(Path::new("/proc/self/exe"), folder)
    }

    /// Another one.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn of(program: &Path, folder: &Path) -> Result<Self, ProgramError> {
        let bytes = std::fs::read(program).map_err(|source| ProgramError { path: program.to_owned(), source })?;
        Ok(Self { bytes, target: folder.join(TYPE) })
    }

    /// Puts it there unless it is; says whether it did. A call that runs meanwhile goes on with the file that it began with.
    ///
    /// # Errors
    /// If it cannot be written; then what was there stays.
    pub fn put(&self) -> Result<bool, ProgramError> {
        if files::holds(&self.target, &self.bytes, MODE) {
            return Ok(false);
        }
        files::write(&self.target, &self.bytes, MODE)
            .map_err(|source| ProgramError { path: self.target.clone(), source })?;
        Ok(true)
    }
}

/// Takes the program out. Some runtimes call it once more for each pod that it was called for, so only where all pods are gone.
///
/// # Errors
/// If it cannot be removed.
pub fn remove(folder: &Path) -> Result<(), ProgramError> {
    let path = folder.join(TYPE);
    files::remove(&path).map_err(|source| ProgramError { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_put_once_and_put_back_when_it_is_another_or_gone() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source");
        std::fs::write(&source, b"program").unwrap();
        let program = Program::of(&source, folder.path()).unwrap();
        assert!(program.put().unwrap());
        assert!(!program.put().unwrap());
        std::fs::write(folder.path().join(TYPE), b"progran").unwrap();
        assert!(program.put().unwrap(), "another");
        remove(folder.path()).unwrap();
        assert!(program.put().unwrap(), "gone");
        remove(folder.path()).unwrap();
        remove(folder.path()).unwrap();
    }
}
