use std::collections::BTreeMap;
use std::fs;

use super::*;

const LIST: &str =
    "{\n  \"cniVersion\": \"1.0.0\",\n  \"name\": \"a\",\n  \"plugins\": [\n    {\"type\":\"ptp\"}\n  ]\n}\n";
const ONE: &str = "{\"cniVersion\":\"0.3.1\",\"name\":\"a\",\"type\":\"bridge\"}";

fn scene(given: &[(&str, &str)]) -> (tempfile::TempDir, Chain) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in given {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let entry = Entry { socket: "/run/s".into(), exclude_namespaces: Vec::new() };
    let chain = Chain { folder: folder.path().to_owned(), file: None, entry };
    (folder, chain)
}

fn files_of(chain: &Chain) -> BTreeMap<String, String> {
    let names = chain.names().unwrap();
    names.into_iter().map(|name| (name.clone(), fs::read_to_string(chain.folder.join(name)).unwrap())).collect()
}

fn has_us(chain: &Chain, name: &str) -> bool {
    conflist::contains(&fs::read_to_string(chain.folder.join(name)).unwrap()).unwrap()
}

#[test]
fn the_first_usable_file_by_name_is_chained_to_and_no_other() {
    let (_folder, chain) = scene(&[
        ("05-broken.conflist", "{\"plugins\": [{"),
        ("10-a.conflist", LIST),
        ("20-b.conflist", LIST),
        ("00-readme.txt", "{}"),
    ]);
    let before = files_of(&chain);
    let put = chain.put().unwrap();
    assert_eq!(put, Put { file: chain.folder.join("10-a.conflist"), written: true });
    assert!(has_us(&chain, "10-a.conflist"));
    assert!(!chain.put().unwrap().written, "again");
    let mut after = files_of(&chain);
    after.insert("10-a.conflist".into(), LIST.into());
    assert_eq!(after, before, "nothing else changed");
    assert_eq!(chain.take_out().unwrap(), [chain.folder.join("10-a.conflist")]);
    assert_eq!(files_of(&chain), before, "to the letter, as it was written as we write");
    assert_eq!(chain.take_out().unwrap(), Vec::<PathBuf>::new(), "again");
}

#[test]
fn it_follows_the_file_that_becomes_the_first_and_leaves_all_of_them_at_the_end() {
    let (_folder, chain) = scene(&[("10-a.conflist", LIST)]);
    chain.put().unwrap();
    fs::write(chain.folder.join("05-new.conflist"), LIST).unwrap();
    assert_eq!(chain.put().unwrap().file, chain.folder.join("05-new.conflist"));
    fs::write(chain.folder.join("05-new.conflist"), LIST).unwrap();
    assert!(chain.put().unwrap().written, "overwritten by its owner");
    assert_eq!(chain.take_out().unwrap().len(), 2);
    assert!(!has_us(&chain, "05-new.conflist") && !has_us(&chain, "10-a.conflist"));
}

#[test]
fn a_named_file_is_chained_to_although_it_is_not_the_first() {
    let (_folder, chain) = scene(&[("00-multus.conf", ONE), ("10-a.conflist", LIST)]);
    let chain = Chain { file: Some("10-a.conflist".into()), ..chain };
    assert_eq!(chain.put().unwrap().file, chain.folder.join("10-a.conflist"));
    assert_eq!(fs::read_to_string(chain.folder.join("00-multus.conf")).unwrap(), ONE);
}

#[test]
fn a_file_of_one_plugin_makes_way_for_a_list_and_comes_back() {
    for name in ["10-a.conf", "10-a.json"] {
        let (_folder, chain) = scene(&[(name, ONE)]);
        let before = files_of(&chain);
        assert!(chain.put().unwrap().written);
        let aside = format!("{name}.ferromesh-cni");
        assert!(files_of(&chain).into_keys().eq(std::collections::BTreeSet::from(["10-a.conflist".to_owned(), aside])));
        assert!(has_us(&chain, "10-a.conflist"));
        assert!(!chain.put().unwrap().written, "again");
        chain.take_out().unwrap();
        assert_eq!(files_of(&chain), before);
    }
}

#[test]
fn a_file_of_one_plugin_that_its_owner_writes_anew_counts() {
    let (_folder, chain) = scene(&[("10-a.conf", ONE)]);
    chain.put().unwrap();
    let anew = ONE.replace("bridge", "macvlan");
    fs::write(chain.folder.join("10-a.conf"), &anew).unwrap();
    assert!(chain.put().unwrap().written);
    assert!(fs::read_to_string(chain.folder.join("10-a.conflist")).unwrap().contains("macvlan"));
    fs::write(chain.folder.join("10-a.conf"), &anew).unwrap();
    chain.take_out().unwrap();
    assert_eq!(files_of(&chain), BTreeMap::from([("10-a.conf".to_owned(), anew)]));
}

#[test]
fn what_cannot_be_chained_to_is_as_it_was_and_the_reason_names_the_file() {
    let old = LIST.replace("1.0.0", "0.2.0");
    for (given, needle) in [
        (vec![], "no network configuration"),
        (vec![("10-a.conflist", "")], "10-a.conflist: it is no JSON object"),
        (vec![("10-a.conflist", old.as_str())], "cniVersion is \"0.2.0\""),
        (vec![("10-a.conf", ONE), ("10-a.conflist", LIST)], "another's"),
    ] {
        let (_folder, chain) = scene(&given);
        let before = files_of(&chain);
        let error = chain.put().unwrap_err().to_string();
        assert!(error.contains(needle), "{error}");
        assert_eq!(files_of(&chain), before);
    }
}

#[test]
fn a_list_beside_a_file_of_the_same_name_is_not_taken_for_ours() {
    let (_folder, chain) = scene(&[("10-a.conflist", LIST), ("10-a.json", ONE)]);
    let before = files_of(&chain);
    chain.put().unwrap();
    chain.take_out().unwrap();
    assert_eq!(files_of(&chain), before);
}
