//! What signs changes outside of this process: another replica writes the Secret, or the operator the given files.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ferromesh_api::cluster::watch::{Change, Selection, follow};
use ferromesh_core::runtime::drain;
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use super::authority::Authority;
use crate::issuer::Material;
use crate::roots::State;
use crate::store::secret::{SECRETS, SecretStore};

/// How often given files are looked at; the kubelet needs a minute to change them.
const FILES: Duration = Duration::from_secs(15);

/// Follows the Secret until the drain.
pub(super) async fn secret(authority: Arc<Authority>, store: SecretStore, drain: drain::Watch) {
    let (changes, mut receiver) = mpsc::channel(4);
    let (_never, kinds) = watch::channel(0);
    let selection = Selection::all(SECRETS).in_namespace(store.namespace()).called(store.name());
    let read = async {
        while let Some(change) = receiver.recv().await {
            match change {
                Change::Applied { json, .. } => take(&authority, &store, json.get()),
                Change::Deleted(_) => tracing::error!(
                    secret = store.name(),
                    "the CA's Secret is gone: restore it from a backup; certificates go on from memory"
                ),
                Change::Failed(error) => tracing::warn!(%error, "the CA's Secret cannot be followed now"),
                Change::Synced => {}
            }
        }
    };
    tokio::select! {
        () = drain.signaled() => {}
        _ = async { tokio::join!(follow(store.cluster().clone(), selection, kinds, changes), read) } => {}
    }
}

fn take(authority: &Authority, store: &SecretStore, json: &str) {
    let Ok(secret) = serde_json::from_str::<Value>(json) else { return };
    let taken = match store.read(&secret) {
        Ok((version, Some(state))) => authority.adopt(state, Some(version)).map_err(|error| error.to_string()),
        Ok((_, None)) => Err("it holds no state any more".into()),
        Err(error) => Err(error.to_string()),
    };
    if let Err(error) = taken {
        tracing::error!(secret = store.name(), error, "the CA's Secret cannot be used; the last good state goes on");
    }
}

/// Looks at given files until the drain.
pub(super) async fn files(authority: Arc<Authority>, folder: PathBuf, drain: drain::Watch) {
    let mut last = None;
    loop {
        tokio::select! {
            () = drain.signaled() => return,
            () = tokio::time::sleep(FILES) => {}
        }
        let from = folder.clone();
        let Ok(read) = tokio::task::spawn_blocking(move || Material::from_files(&from)).await else { return };
        let taken = match read {
            Ok(material) if last.as_ref() == Some(&material) => continue,
            Ok(material) => {
                let taken = authority.adopt(State::new(material.clone()), None);
                last = Some(material);
                taken.map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = taken {
            tracing::error!(folder = %folder.display(), error, "given keys cannot be used; the last good ones go on");
        }
    }
}
