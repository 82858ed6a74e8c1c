//! Files that others write too: whole or not at all, and never over what somebody else wrote meanwhile.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};

/// The end of names that no container runtime reads.
pub const OURS: &str = "ferromesh-cni";
/// More is no conflist.
const LARGEST: u64 = 1 << 20;

/// How a replacement went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replaced {
    /// The new text is there.
    Done,
    /// Somebody else wrote meanwhile; what they wrote is there.
    Changed,
}

/// Reads a small text file.
///
/// # Errors
/// If it cannot be read, is too large, or no text.
pub fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let length = File::open(path)?.take(LARGEST + 1).read_to_string(&mut text)? as u64;
    if length > LARGEST {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {LARGEST} bytes")));
    }
    Ok(text)
}

/// Puts `new` in place of a file that was read as `old`, with its rights.
///
/// Both files change places in one step, and what was displaced is looked at: whoever opened the file to write it before
/// that step has emptied it, so that it no longer reads as `old`; then both change places once more, and the writer goes
/// on in the file that is theirs.
///
/// # Errors
/// If it cannot be written; then nothing was changed.
pub fn replace(path: &Path, old: &str, new: &str) -> io::Result<Replaced> {
    // Where the name is a link, the file is what is replaced.
    let path = fs::canonicalize(path)?;
    let metadata = fs::metadata(&path)?;
    let beside = beside(&path)?;
    write_new(&beside, new.as_bytes(), metadata.permissions().mode())?;
    let done = exchange(&path, &beside, old);
    let _ = fs::remove_file(&beside);
    done
}

fn exchange(path: &Path, beside: &Path, old: &str) -> io::Result<Replaced> {
    if read(path)? != old {
        return Ok(Replaced::Changed);
    }
    let swap = || rustix::fs::renameat_with(CWD, beside, CWD, path, RenameFlags::EXCHANGE);
    match swap() {
        Ok(()) => {}
        // A file system that cannot exchange.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            fs::rename(beside, path)?;
            return sync_folder(path).map(|()| Replaced::Done);
        }
        Err(error) => return Err(error.into()),
    }
    // Unreadable is changed, too.
    if !read(beside).is_ok_and(|displaced| displaced == old) {
        swap()?;
        return Ok(Replaced::Changed);
    }
    sync_folder(path)?;
    Ok(Replaced::Done)
}

/// Writes a file whole, in place of what may be there.
///
/// # Errors
/// If it cannot be written; then nothing was changed.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let beside = beside(path)?;
    write_new(&beside, bytes, mode)?;
    fs::rename(&beside, path).inspect_err(|_| drop(fs::remove_file(&beside)))?;
    sync_folder(path)
}

/// Whether a file holds exactly these bytes, with these rights.
pub fn holds(path: &Path, bytes: &[u8], mode: u32) -> bool {
    let same = |metadata: fs::Metadata| metadata.len() == bytes.len() as u64 && metadata.mode() & 0o7777 == mode;
    fs::metadata(path).is_ok_and(same) && fs::read(path).is_ok_and(|known| known == bytes)
}

/// Removes a file; that it is not there is no error.
///
/// # Errors
/// If it cannot be removed.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// A name in the same folder that nobody else uses, and no runtime reads.
fn beside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    Ok(path.with_file_name(format!(".{name}.new.{OURS}")))
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mode = mode & 0o7777;
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
    // The process's mask may have taken bits away.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// A rename outlives a power failure when its folder is written.
fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_with_its_rights_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("10-a.conflist");
        write(&path, b"old", 0o640).unwrap();
        assert_eq!(replace(&path, "old", "new").unwrap(), Replaced::Done);
        assert_eq!(read(&path).unwrap(), "new");
        assert!(holds(&path, b"new", 0o640) && !holds(&path, b"old", 0o640) && !holds(&path, b"new", 0o600));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_another_wrote_meanwhile_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("10-a.conflist");
        write(&path, b"theirs", 0o600).unwrap();
        assert_eq!(replace(&path, "old", "new").unwrap(), Replaced::Changed);
        assert_eq!(read(&path).unwrap(), "theirs");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_writer_that_began_before_ends_in_the_file_that_is_theirs() {
        let folder = tempfile::tempdir().unwrap();
        let (path, beside) = (folder.path().join("10-a.conflist"), folder.path().join("b"));
        let big = "x".repeat(1 << 16);
        // A writer and a replacement at once: in whatever order, what the writer wrote is what stays.
        for round in 0..200 {
            write(&path, b"old", 0o600).unwrap();
            write(&beside, b"new", 0o600).unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| fs::write(&path, &big).unwrap());
                scope.spawn(|| exchange(&path, &beside, "old").unwrap());
            });
            let left = fs::read_to_string(&path).unwrap();
            assert!(left == big, "round {round}: {} bytes", left.len());
        }
    }

    #[test]
    fn a_link_stays_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("target"), folder.path().join("10-a.conflist"));
        write(&target, b"old", 0o600).unwrap();
        std::os::unix::fs::symlink("target", &link).unwrap();
        assert_eq!(replace(&link, "old", "new").unwrap(), Replaced::Done);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(read(&target).unwrap(), "new");
    }
}
