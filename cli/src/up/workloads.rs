//! The workload file: what stands behind the pods when the mesh runs on one machine.
//!
//! ```yaml
//! kind: Workloads
//! workloads:
//!   - image: registry/app          # every container of this image, or
//!     deployment: demo/web         # every pod of this Deployment (namespace/name)
//!     builtin: echo                # the built-in stand-in, or
//!     command: [python3, app.py]   # a process (its PORT is set to a free port), or
//!     address: 127.0.0.1:9000      # something that runs already
//! ```

use std::net::SocketAddr;
use std::path::Path;

use serde::Deserialize;

/// The file.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workloads {
    /// Always `Workloads`.
    #[serde(default)]
    pub kind: String,
    /// Entries; the first that fits a pod counts.
    #[serde(default)]
    pub workloads: Vec<Entry>,
}

/// One entry.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Image of a container.
    pub image: Option<String>,
    /// `namespace/name` of a Deployment.
    pub deployment: Option<String>,
    /// Name of a built-in application: `echo`.
    pub builtin: Option<String>,
    /// Program and arguments.
    pub command: Option<Vec<String>>,
    /// Address of something that runs already.
    pub address: Option<SocketAddr>,
}

/// What stands behind a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Behind {
    /// The built-in stand-in.
    Echo,
    /// A process.
    Command(Vec<String>),
    /// Something that runs already.
    Address(SocketAddr),
    /// Nothing: requests to the pod fail.
    Nothing,
}

/// Why a workload file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadsError {
    /// It cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// It is not a workload file.
    #[error("{path}: {reason}")]
    Parse {
        /// The file.
        path: String,
        /// Where and what.
        reason: String,
    },
    /// An entry is wrong.
    #[error("{path}: workloads[{index}]: {reason}")]
    Entry {
        /// The file.
        path: String,
        /// Which one, from 0.
        index: usize,
        /// What is wrong.
        reason: &'static str,
    },
}

impl Workloads {
    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read, or an entry does not say what for, or says more than one thing to run.
    pub fn read(path: &Path) -> Result<Self, WorkloadsError> {
        let shown = path.display().to_string();
        let text =
            std::fs::read_to_string(path).map_err(|source| WorkloadsError::Read { path: shown.clone(), source })?;
        Self::parse(&shown, &text)
    }

    /// Reads the text of a file; `path` is for messages.
    ///
    /// # Errors
    /// As [`Workloads::read`].
    pub fn parse(path: &str, text: &str) -> Result<Self, WorkloadsError> {
        let file: Self = serde_saphyr::from_str(text)
            .map_err(|error| WorkloadsError::Parse { path: path.to_owned(), reason: error.to_string() })?;
        for (index, entry) in file.workloads.iter().enumerate() {
            if let Some(reason) = entry.fault() {
                return Err(WorkloadsError::Entry { path: path.to_owned(), index, reason });
            }
        }
        Ok(file)
    }

    /// What stands behind a pod of this Deployment with these images.
    pub fn behind(&self, deployment: &str, images: &[&str]) -> Behind {
        let fits = |entry: &&Entry| {
            entry.deployment.as_deref() == Some(deployment)
                || entry.image.as_deref().is_some_and(|image| images.contains(&image))
        };
        self.workloads.iter().find(fits).map_or(Behind::Nothing, Entry::what)
    }
}

impl Entry {
    fn fault(&self) -> Option<&'static str> {
        if self.image.is_some() == self.deployment.is_some() {
            return Some("say either image or deployment");
        }
        let ways = [self.builtin.is_some(), self.command.is_some(), self.address.is_some()];
        if ways.into_iter().filter(|set| *set).count() != 1 {
            return Some("say exactly one of builtin, command and address");
        }
        if self.builtin.as_deref().is_some_and(|name| name != "echo") {
            return Some("builtin: there is only echo");
        }
        if self.command.as_ref().is_some_and(Vec::is_empty) {
            return Some("command: must not be empty");
        }
        None
    }

    fn what(&self) -> Behind {
        match (&self.command, self.address) {
            (Some(command), _) => Behind::Command(command.clone()),
            (None, Some(address)) => Behind::Address(address),
            (None, None) => Behind::Echo,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_entry_that_fits_counts() {
        let text = "workloads:\n- {deployment: demo/a, address: '127.0.0.1:9'}\n- {image: i, builtin: echo}\n";
        let file = Workloads::parse("w", text).expect("valid");
        assert_eq!(file.behind("demo/a", &["i"]), Behind::Address("127.0.0.1:9".parse().expect("an address")));
        assert_eq!(file.behind("demo/b", &["i"]), Behind::Echo);
        assert_eq!(file.behind("demo/b", &["j"]), Behind::Nothing);
    }

    #[test]
    fn a_wrong_entry_is_named() {
        for (entry, says) in [
            ("{image: i}", "exactly one"),
            ("{builtin: echo}", "either image or deployment"),
            ("{image: i, builtin: echo, command: [a]}", "exactly one"),
            ("{image: i, builtin: nginx}", "only echo"),
            ("{image: i, command: []}", "must not be empty"),
            ("{image: i, comand: [a]}", "comand"),
        ] {
            let error = Workloads::parse("w.yaml", &format!("workloads:\n- {entry}\n")).expect_err(entry).to_string();
            assert!(error.contains("w.yaml") && error.contains(says), "{entry}: {error}");
        }
    }
}
