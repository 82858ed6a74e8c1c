//! Istio's own inputs of injection through ours: the same decision, and the same meaning of every annotation and value.
//!
//! The inputs and their results are read from the Go module `istio.io/istio`: the folder that `FERROMESH_ISTIO_MODULE`
//! names, else what `go mod download` brings. Where neither is there, the test is skipped, and fails where CI=true.

mod istio {
    pub mod cases;
    pub mod differences;
    pub mod facts;
    pub mod module;
}

use std::collections::{BTreeMap, BTreeSet};

use ferromesh_injector::manifest;
use istio::cases::{self, Case, Wanted};
use istio::differences::{Difference, LIST};
use istio::facts;

/// Where two results differ.
struct Differs {
    case: String,
    path: String,
    istio: Option<String>,
    ours: Option<String>,
}

#[test]
fn istios_inputs_give_what_istio_gives_but_for_what_is_listed() {
    let Some(folder) = istio::module::folder() else { return };
    let (cases, mut differs, mut injected) = (cases::all(&folder), Vec::new(), 0);
    assert!(cases.len() > 100, "{} cases in {}", cases.len(), folder.display());
    for case in &cases {
        injected += compare(&folder, case, &mut differs);
    }
    let mut used = BTreeSet::new();
    let mut left = Vec::new();
    for one in &differs {
        match LIST.iter().position(|known| known.covers(&one.case, &one.path)) {
            Some(place) => drop(used.insert(place)),
            None => left.push(format!("{}: {}: Istio {:?}, ours {:?}", one.case, one.path, one.istio, one.ours)),
        }
    }
    assert!(left.is_empty(), "{} differences are not listed:\n{}", left.len(), left.join("\n"));
    let idle: Vec<&Difference> =
        LIST.iter().enumerate().filter(|(place, _)| !used.contains(place)).map(|(_, one)| one).collect();
    assert!(idle.is_empty(), "these differences are no more; take them from the list: {idle:#?}");
    assert!(injected > 100, "{injected} pods were injected");
    println!(
        "{} cases, {injected} injected pods, {} differences by {} reasons",
        cases.len(),
        differs.len(),
        LIST.len()
    );
}

/// Compares one case; gives how many pods both have injected.
fn compare(folder: &std::path::Path, case: &Case, differs: &mut Vec<Differs>) -> usize {
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let ours = manifest::inject(&read(&case.input), "default", &case.mesh());
    let mut say = |path: &str, istio: Option<String>, ours: Option<String>| {
        differs.push(Differs { case: case.name(), path: path.to_owned(), istio, ours });
    };
    let (wanted, ours) = match (&case.wanted, ours) {
        (Wanted::Error(word), Err(error)) => {
            assert!(error.to_string().to_lowercase().contains(word), "{}: {error}", case.name());
            return 0;
        }
        (Wanted::Error(word), Ok(_)) => {
            say("error", Some((*word).to_owned()), None);
            return 0;
        }
        (Wanted::File(_), Err(error)) => {
            say("error", None, Some(error.to_string()));
            return 0;
        }
        (Wanted::File(name), Ok(done)) => (facts::pods(&read(name)), facts::pods(&done.text)),
    };
    assert_eq!(wanted.len(), ours.len(), "{}: pods", case.name());
    let mut both = 0;
    for (wanted, ours) in wanted.iter().zip(&ours) {
        both += usize::from(wanted.contains_key("injected") && ours.contains_key("injected"));
        for (path, istio, ours) in differences(wanted, ours) {
            say(&path, istio, ours);
        }
    }
    both
}

type Two = (String, Option<String>, Option<String>);

fn differences(istio: &BTreeMap<String, String>, ours: &BTreeMap<String, String>) -> Vec<Two> {
    let paths: BTreeSet<&String> = istio.keys().chain(ours.keys()).collect();
    let both = paths.into_iter().map(|path| (path.clone(), istio.get(path).cloned(), ours.get(path).cloned()));
    both.filter(|(_, istio, ours)| istio != ours).collect()
}
