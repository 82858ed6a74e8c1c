//! Our plugin in the node's network configuration: which file a container runtime takes, and ours in it.
//!
//! Runtimes take the first file by name that ends in `.conf`, `.conflist` or `.json` (libcni's `ConfFiles`). A file of one
//! plugin cannot be chained to: it is put aside under a name that no runtime reads, and a list of its own name takes its place.

use std::io;
use std::path::{Path, PathBuf};

use crate::conflist::{self, BadConflist, Entry};
use crate::files::{self, OURS, Replaced};

/// How often a file may change under our hands, until the next round.
const TRIES: usize = 5;

/// Where the chain is, and what is to be in it.
#[derive(Debug, Clone)]
pub struct Chain {
    /// The folder of configurations.
    pub folder: PathBuf,
    /// Its file; none is the first that a runtime would take.
    pub file: Option<String>,
    /// Our plugin.
    pub entry: Entry,
}

/// Our plugin is in the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// The file.
    pub file: PathBuf,
    /// Whether it had to be written.
    pub written: bool,
}

/// Why it is not.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// None yet, most likely: the network's own agent has not come.
    #[error("{}: no network configuration that can be chained to{reasons}", folder.display())]
    NoFile {
        /// The folder.
        folder: PathBuf,
        /// What is wrong with what is there.
        reasons: String,
    },
    /// The system refuses.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
    /// It is left as it is.
    #[error("{}: left as it is: {source}", path.display())]
    Unusable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: BadConflist,
    },
    /// A list of the name that ours would have.
    #[error("{}: it is another's, and a list for {} would have its name", path.display(), of.display())]
    InTheWay {
        /// Which.
        path: PathBuf,
        /// The file of one plugin.
        of: PathBuf,
    },
    /// Somebody writes it all the time.
    #[error("{}: it is being written by another program", .0.display())]
    Busy(PathBuf),
}

impl Chain {
    /// Puts our plugin into the chain, if it is not there.
    ///
    /// # Errors
    /// If there is no chain, or it cannot be written; then it is as it was.
    pub fn put(&self) -> Result<Put, ChainError> {
        for _ in 0..TRIES {
            let (file, text) = self.primary()?;
            let done = if is_list(&file) { self.put_into_list(&file, &text)? } else { self.put_beside(&file, &text)? };
            if let Some(put) = done {
                return Ok(put);
            }
        }
        Err(ChainError::Busy(self.folder.clone()))
    }

    /// None: it changed meanwhile.
    fn put_into_list(&self, file: &Path, text: &str) -> Result<Option<Put>, ChainError> {
        let new = conflist::with(text, &self.entry).map_err(unusable(file))?;
        let Some(new) = new else { return Ok(Some(Put { file: file.to_owned(), written: false })) };
        match files::replace(file, text, &new).map_err(failed(file))? {
            Replaced::Done => Ok(Some(Put { file: file.to_owned(), written: true })),
            Replaced::Changed => Ok(None),
        }
    }

    fn put_beside(&self, file: &Path, text: &str) -> Result<Option<Put>, ChainError> {
        let list = conflist::of_one(text).map_err(unusable(file))?;
        let new = conflist::with(&list, &self.entry).map_err(unusable(file))?.unwrap_or(list);
        let beside = file.with_extension("conflist");
        match files::read(&beside) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Ok(known) if conflist::contains(&known) == Ok(true) => {}
            _ => return Err(ChainError::InTheWay { path: beside, of: file.to_owned() }),
        }
        // It comes behind the file by name (or, for .json, says the same), so that it counts from the next step on only.
        files::write(&beside, new.as_bytes(), 0o600).map_err(failed(&beside))?;
        std::fs::rename(file, aside(file)).map_err(failed(file))?;
        Ok(Some(Put { file: beside, written: true }))
    }

    /// Takes our plugin out of every list of the folder, and puts back what was put aside. A file that cannot be read is
    /// passed over. Gives the files that were changed.
    ///
    /// # Errors
    /// If one cannot be written; the others are done.
    pub fn take_out(&self) -> Result<Vec<PathBuf>, ChainError> {
        let mut changed = Vec::new();
        let mut first_error = None;
        let names = self.names().map_err(failed(&self.folder))?;
        for name in names.iter().filter_map(|name| name.strip_suffix(&format!(".{OURS}"))) {
            let file = self.folder.join(name);
            // Files that a crash left have a dot before their name.
            if !is_configuration(&file) || name.starts_with('.') {
                continue;
            }
            match put_back(&file) {
                Ok(()) => changed.push(file),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        let back = changed.clone();
        for file in names.iter().map(|name| self.folder.join(name)).filter(|file| is_list(file)) {
            // The list that took the place of a file of one plugin goes with us: that file is back.
            let took_its_place = back.iter().any(|one| one.with_extension("conflist") == file);
            match take_out_of(&file, took_its_place) {
                Ok(true) => changed.push(file),
                Ok(false) => {}
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        first_error.map_or(Ok(changed), Err)
    }

    /// The file that a runtime takes, and its text.
    fn primary(&self) -> Result<(PathBuf, String), ChainError> {
        let mut reasons = String::new();
        let names = self.names().map_err(failed(&self.folder))?;
        let wanted = |name: &str| {
            self.file.as_deref().is_none_or(|file| Path::new(name).file_stem() == Path::new(file).file_stem())
        };
        for file in names.iter().filter(|name| wanted(name)).map(|name| self.folder.join(name)) {
            if !is_configuration(&file) {
                continue;
            }
            let usable = |text: String| {
                let list = if is_list(&file) { text.clone() } else { conflist::of_one(&text)? };
                conflist::contains(&list).map(|_| text)
            };
            let reason = match files::read(&file).map(usable) {
                Ok(Ok(text)) => return Ok((file, text)),
                Ok(Err(reason)) => reason.to_string(),
                Err(error) => error.to_string(),
            };
            reasons.push_str(&format!("; {}: {reason}", file.display()));
        }
        Err(ChainError::NoFile { folder: self.folder.clone(), reasons })
    }

    /// All names of the folder, in their order.
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            names.extend(entry?.file_name().into_string());
        }
        names.sort();
        Ok(names)
    }
}

/// Puts a file of one plugin back, unless its owner has written it anew.
fn put_back(file: &Path) -> Result<(), ChainError> {
    let aside = aside(file);
    if file.exists() {
        return files::remove(&aside).map_err(failed(&aside));
    }
    std::fs::rename(&aside, file).map_err(failed(&aside))
}

fn take_out_of(file: &Path, whole: bool) -> Result<bool, ChainError> {
    for _ in 0..TRIES {
        let text = match files::read(file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(source) => return Err(ChainError::File { path: file.to_owned(), source }),
        };
        // None of ours is in what cannot be read.
        let Ok(Some(new)) = conflist::without(&text) else { return Ok(false) };
        if whole {
            return files::remove(file).map(|()| true).map_err(failed(file));
        }
        if files::replace(file, &text, &new).map_err(failed(file))? == Replaced::Done {
            return Ok(true);
        }
    }
    Err(ChainError::Busy(file.to_owned()))
}

fn aside(file: &Path) -> PathBuf {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    file.with_file_name(format!("{name}.{OURS}"))
}

fn extension(file: &Path) -> &str {
    file.extension().and_then(|end| end.to_str()).unwrap_or_default()
}

fn is_configuration(file: &Path) -> bool {
    ["conf", "conflist", "json"].contains(&extension(file))
}

fn is_list(file: &Path) -> bool {
    extension(file) == "conflist"
}

fn failed(path: &Path) -> impl Fn(io::Error) -> ChainError {
    move |source| ChainError::File { path: path.to_owned(), source }
}

fn unusable(path: &Path) -> impl Fn(BadConflist) -> ChainError {
    move |source| ChainError::Unusable { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests;
