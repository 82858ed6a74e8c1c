use super::store::Store;
use super::{Config, Content, Image, full_name};

fn image() -> Image {
    Image {
        name: "example.test/a:1".into(),
        content: vec![Content::program("b", vec![1; 1000]), Content::folder("a", 0o755), Content::file("a/c", vec![2])],
        config: Config { entrypoint: vec!["/b".into()], user: "65532:65532".into(), ..Config::default() },
    }
}

#[test]
fn the_same_files_give_the_same_bytes_in_whatever_order() {
    let mut other = image();
    other.content.reverse();
    assert_eq!(image().archive().expect("archive"), other.archive().expect("archive"));
}

#[test]
fn a_layer_holds_files_folders_and_links_of_root_at_time_zero() {
    let content = vec![Content::link("b", "/a"), Content::program("a", vec![1]), Content::folder("c", 0o755)];
    let layer = super::tar(content).expect("a layer");
    let mut seen = Vec::new();
    for entry in tar::Archive::new(layer.as_slice()).entries().expect("entries") {
        let entry = entry.expect("entry");
        let header = entry.header();
        assert_eq!((header.uid().ok(), header.gid().ok(), header.mtime().ok()), (Some(0), Some(0), Some(0)));
        let link = entry.link_name().expect("a link").map(|target| target.display().to_string());
        seen.push((entry.path().expect("a path").display().to_string(), header.mode().expect("a mode"), link));
    }
    let expected =
        [("a".to_owned(), 0o555, None), ("b".to_owned(), 0o777, Some("/a".to_owned())), ("c/".to_owned(), 0o755, None)];
    assert_eq!(seen, expected);
}

#[test]
fn every_blob_is_named_by_its_digest() {
    use std::io::Read;
    let archive = image().archive().expect("archive");
    let mut blobs = 0;
    for entry in tar::Archive::new(archive.as_slice()).entries().expect("entries") {
        let mut entry = entry.expect("entry");
        let path = entry.path().expect("path").display().to_string();
        if let Some(name) = path.strip_prefix("blobs/sha256/").filter(|name| !name.is_empty()) {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).expect("read");
            assert_eq!(super::digest(&bytes), name);
            blobs += 1;
        }
    }
    assert_eq!(blobs, 3, "layer, config, manifest");
}

#[test]
fn names_are_completed_as_runtimes_do() {
    for (short, full) in [
        ("demo", "docker.io/library/demo:latest"),
        ("a/demo", "docker.io/a/demo:latest"),
        ("a/demo:1", "docker.io/a/demo:1"),
        ("localhost/demo:1", "localhost/demo:1"),
        ("registry.test:5000/demo", "registry.test:5000/demo:latest"),
    ] {
        assert_eq!(full_name(short), full);
    }
}

#[test]
fn a_loaded_image_is_found_by_tag_and_by_digest() {
    let folder = tempfile::tempdir().expect("a folder");
    let archive = folder.path().join("a.tar");
    std::fs::write(&archive, image().archive().expect("archive")).expect("write");
    let store = Store::at(folder.path().join("store"));
    assert_eq!(store.add(&archive).expect("added"), ["example.test/a:1"]);
    let (kind, digest, bytes) = store.manifest("example.test", "a", "1").expect("by tag");
    assert_eq!(kind, "application/vnd.oci.image.manifest.v1+json");
    assert_eq!(store.manifest("", "a", &digest).expect("by digest"), (kind, digest, bytes));
    assert_eq!(store.manifest("docker.io", "a", "1"), None);
    assert_eq!(store.manifest("example.test", "../blobs", "1"), None);
}

#[test]
fn a_damaged_blob_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let archive = folder.path().join("a.tar");
    let mut bytes = image().archive().expect("archive");
    let layer = bytes.windows(2).position(|window| window == [0x1f, 0x8b]).expect("a gzip");
    bytes[layer + 20] ^= 1;
    std::fs::write(&archive, bytes).expect("write");
    let refused = Store::at(folder.path().join("store")).add(&archive).expect_err("refused").to_string();
    assert!(refused.contains("another digest"), "{refused}");
}
