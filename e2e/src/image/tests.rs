use super::{Config, Content, Image};

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
