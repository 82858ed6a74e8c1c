//! Rotation of the root, pure: a state in, the next state out; each state says what is trusted and what signs.
//!
//! ```text
//! Stable (trust A, sign A) -> Announced (trust A+B, sign A) -> Switched (trust A+B, sign B) -> Stable (trust B, sign B)
//! ```
//!
//! Each step is taken when every workload has renewed since the last, so no handshake meets a root that it does not know.

use serde::{Deserialize, Serialize};

use crate::issuer::Material;

/// Where a rotation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// One root, which signs.
    Stable,
    /// The new root is trusted, the old one still signs.
    Announced,
    /// The new root signs, the old one is still trusted.
    Switched,
}

/// What is stored: what signs, and what else is trusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    signing: Material,
    next: Option<Material>,
    previous_root_pem: Option<String>,
}

impl State {
    /// One root, which signs.
    pub fn new(signing: Material) -> Self {
        Self { signing, next: None, previous_root_pem: None }
    }

    /// Where the rotation stands.
    pub fn phase(&self) -> Phase {
        match (&self.next, &self.previous_root_pem) {
            (Some(_), _) => Phase::Announced,
            (None, Some(_)) => Phase::Switched,
            (None, None) => Phase::Stable,
        }
    }

    /// What signs now.
    pub fn signing(&self) -> &Material {
        &self.signing
    }

    /// All roots that are trusted now, the signing one first.
    pub fn bundle_pem(&self) -> String {
        let next = self.next.as_ref().map(|material| material.root_pem.as_str());
        let others = next.into_iter().chain(self.previous_root_pem.as_deref());
        std::iter::once(self.signing.root_pem.as_str()).chain(others).collect()
    }

    /// The next step of the rotation; `fresh` makes a new root where one is needed.
    ///
    /// # Errors
    /// If `fresh` fails.
    pub fn step<E>(self, fresh: impl FnOnce() -> Result<Material, E>) -> Result<Self, E> {
        let Self { signing, next, previous_root_pem } = self;
        Ok(match (next, previous_root_pem) {
            (Some(next), _) => Self { previous_root_pem: Some(signing.root_pem), signing: next, next: None },
            (None, Some(_)) => Self::new(signing),
            (None, None) => Self { next: Some(fresh()?), signing, previous_root_pem: None },
        })
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn material(name: &str) -> Material {
        Material { root_pem: format!("{name};"), chain_pem: String::new(), key_pem: String::new() }
    }

    #[test]
    fn a_rotation_announces_then_switches_then_drops() {
        let mut state = State::new(material("A"));
        let mut seen = vec![];
        for _ in 0..4 {
            seen.push((state.phase(), state.bundle_pem(), state.signing().root_pem.clone()));
            state = state.step(|| Ok::<_, Infallible>(material("B"))).unwrap();
        }
        let row = |phase, bundle: &str, signing: &str| (phase, bundle.to_owned(), signing.to_owned());
        assert_eq!(
            seen,
            [
                row(Phase::Stable, "A;", "A;"),
                row(Phase::Announced, "A;B;", "A;"),
                row(Phase::Switched, "B;A;", "B;"),
                row(Phase::Stable, "B;", "B;"),
            ]
        );
    }
}
