use std::convert::Infallible;

use super::*;
use crate::issuer::Material;

fn material(name: &str) -> Material {
    Material { root_pem: format!("root {name}"), chain_pem: String::new(), key_pem: "a secret".into() }
}

fn second(state: State) -> State {
    state.step(|| Ok::<_, Infallible>(material("B"))).unwrap()
}

/// A folder with two saved generations.
fn folder() -> (tempfile::TempDir, State) {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, found) = Store::open(folder.path()).unwrap();
    assert!(found.is_none());
    let first = State::new(material("A"));
    store.save(&first).unwrap();
    let last = second(first);
    store.save(&last).unwrap();
    (folder, last)
}

fn reopened(folder: &Path) -> Option<State> {
    Store::open(folder).unwrap().1
}

#[test]
fn what_was_saved_last_is_found_again_and_only_its_owner_can_read_it() {
    let (folder, last) = folder();
    assert_eq!(reopened(folder.path()), Some(last));
    for entry in fs::read_dir(folder.path()).unwrap() {
        let mode = entry.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0);
    }
    assert_eq!(fs::metadata(folder.path()).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_crash_at_any_byte_of_a_save_leaves_the_old_state_or_the_new() {
    let (folder, old) = folder();
    let new = serde_json::to_vec_pretty(&second(old.clone())).unwrap();
    // While the state's temporary file is written:
    for len in [0, 1, new.len() / 2, new.len()] {
        fs::write(folder.path().join("state-3.tmp"), &new[..len]).unwrap();
        assert_eq!(reopened(folder.path()), Some(old.clone()));
        assert!(!folder.path().join("state-3.tmp").exists());
    }
    // Between the two renames, and while the generation's temporary file is written:
    for generation in [None, Some(""), Some("3")] {
        fs::write(folder.path().join("state-3.json"), &new).unwrap();
        if let Some(text) = generation {
            fs::write(folder.path().join("generation.tmp"), text).unwrap();
        }
        assert_eq!(reopened(folder.path()), Some(old.clone()));
    }
    // After the second rename:
    fs::write(folder.path().join("state-3.json"), &new).unwrap();
    fs::write(folder.path().join(GENERATION), "3").unwrap();
    assert_eq!(reopened(folder.path()), Some(second(old)));
}

#[test]
fn a_save_goes_on_after_a_crashed_one() {
    let (folder, old) = folder();
    fs::write(folder.path().join("state-3.json"), "{").unwrap();
    let (mut store, found) = Store::open(folder.path()).unwrap();
    assert_eq!(found, Some(old.clone()));
    let new = second(old);
    store.save(&new).unwrap();
    drop(store);
    assert_eq!(reopened(folder.path()), Some(new));
}

#[test]
fn a_crash_in_the_very_first_save_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("state-1.tmp"), "{\"sig").unwrap();
    assert_eq!(reopened(folder.path()), None);
    let state = State::new(material("A"));
    fs::write(folder.path().join("state-1.json"), serde_json::to_vec(&state).unwrap()).unwrap();
    assert_eq!(reopened(folder.path()), Some(state));
}

#[test]
fn a_damaged_file_is_named_and_never_shown_or_replaced() {
    let (folder, _) = folder();
    let path = folder.path().join("state-2.json");
    fs::write(&path, "{\"signing\": \"a secret\"}").unwrap();
    let error = Store::open(folder.path()).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("state-2.json") && !text.contains("a secret"), "{text}");
    assert!(path.exists());
}

#[test]
fn two_cas_cannot_share_a_folder() {
    let (folder, _) = folder();
    let _first = Store::open(folder.path()).unwrap();
    assert!(matches!(Store::open(folder.path()), Err(StoreError::InUse(_))));
}
