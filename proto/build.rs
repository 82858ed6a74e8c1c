//! Compiles the Envoy, xDS and Istio protocol definitions to Rust, without a `protoc` binary.
//!
//! Envoy's `.proto` files are read from the `envoy-types` package, which carries them; `cargo metadata`
//! tells where it lies. The few messages that package lacks stand in `mesh/`.

#[path = "build/rules.rs"]
mod rules;
#[path = "build/tables.rs"]
mod tables;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use prost_reflect::prost::Message;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};

/// Folders below the package's `proto/` that are import roots.
const IMPORT_ROOTS: [&str; 7] = [
    "data-plane-api",
    "xds",
    "protoc-gen-validate",
    "googleapis",
    "cel-spec/proto",
    "client_model",
    "opentelemetry-proto",
];

/// Our own definitions, relative to `mesh/`.
const OWN: [&str; 8] = [
    "xds/type/v3/typed_struct.proto",
    "udpa/type/v1/typed_struct.proto",
    "istio/v1/auth.proto",
    "istio/peer_metadata.proto",
    "istio/stats.proto",
    "istio/alpn.proto",
    "istio/metadata_exchange.proto",
    "istio/nds.proto",
];

/// Google's well-known types that an `Any` may hold, also where no message has a field of them.
const WELL_KNOWN: [&str; 2] = ["google/protobuf/empty.proto", "google/protobuf/field_mask.proto"];

/// Folders of Envoy's tree that nothing in a mesh names.
const LEFT_OUT: [&str; 3] =
    ["envoy/extensions/config/", "envoy/service/cluster/v2", "envoy/config/retry/omit_canary_hosts"];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=build");
    println!("cargo:rerun-if-changed=mesh");
    let protos = envoy_protos();
    let own = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo")).join("mesh");

    let mut names: Vec<String> = OWN.iter().chain(&WELL_KNOWN).map(ToString::to_string).collect();
    collect(&protos.join("data-plane-api"), &protos.join("data-plane-api"), &mut names);
    collect(&protos.join("xds"), &protos.join("xds"), &mut names);
    names.retain(|name| !LEFT_OUT.iter().any(|out| name.starts_with(out)));
    names.sort();

    let mut resolver = ChainFileResolver::new();
    resolver.add(GoogleFileResolver::new());
    resolver.add(Folder(own));
    for root in IMPORT_ROOTS {
        resolver.add(Folder(protos.join(root)));
    }
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler.include_imports(true);
    if let Err(error) = compiler.open_files(&names) {
        panic!("the protocol definitions do not compile: {error:?}");
    }
    let set = compiler.file_descriptor_set();

    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
    // For the tests, which compare with prost-reflect.
    fs::write(out.join("descriptors.bin"), set.encode_to_vec()).expect("OUT_DIR is writable");

    // The compiler's own pool: a set of prost's has no options of extensions, which rules are.
    let pool = compiler.descriptor_pool();
    fs::write(out.join("tables.bin"), tables::encode(&pool)).expect("OUT_DIR is writable");
    fs::write(out.join("rules.bin"), rules::encode(&pool)).expect("OUT_DIR is writable");

    let mut config = prost_build::Config::new();
    config
        .bytes(["."])
        // Ordered, so that the same message always encodes to the same bytes.
        .btree_map(["."])
        .disable_comments(["."])
        .enable_type_names()
        .type_name_domain(["."], "type.googleapis.com")
        .extern_path(".google.protobuf.Any", "crate::Any")
        .include_file("modules.rs");
    tonic_prost_build::configure()
        .build_transport(false)
        .compile_fds_with_config(set, config)
        .expect("the protocol definitions compile to Rust");
}

/// The folder of `.proto` files in the `envoy-types` package.
fn envoy_protos() -> PathBuf {
    let cargo = env::var_os("CARGO").expect("set by cargo");
    let manifest = env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo");
    let metadata = |offline: bool| {
        let mut command = Command::new(&cargo);
        command.args(["metadata", "--format-version", "1"]).current_dir(&manifest);
        if offline {
            command.arg("--offline");
        }
        command.output().expect("cargo runs")
    };
    // Offline first: it neither waits for the network nor rewrites the lock file.
    let mut output = metadata(true);
    if !output.status.success() {
        output = metadata(false);
    }
    assert!(output.status.success(), "cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|package| package["name"] == "envoy-types")
        .and_then(|package| package["manifest_path"].as_str())
        .and_then(|path| Path::new(path).parent())
        .expect("envoy-types is a dependency of this crate")
        .join("proto")
}

/// Adds every `.proto` below `folder` to `names`, relative to `root`.
fn collect(root: &Path, folder: &Path, names: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("the package's folders are readable") {
        let path = entry.expect("the package's folders are readable").path();
        if path.is_dir() {
            collect(root, &path, names);
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            let name = path.strip_prefix(root).expect("below its root");
            names.push(name.to_string_lossy().into_owned());
        }
    }
}

/// Resolves imports below one folder.
struct Folder(PathBuf);

impl FileResolver for Folder {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match fs::read_to_string(self.0.join(name)) {
            Ok(source) => File::from_source(name, &qualify(&source)),
            Err(_) => Err(protox::Error::file_not_found(name)),
        }
    }
}

/// Spells out the relative names that protox would resolve in a package of the same last part
/// (protox applies the shadowing rule over the whole pool, `protoc` over the imports of a file).
fn qualify(source: &str) -> String {
    const SHADOWED: [&str; 6] = ["dynamic_forward_proxy", "ratelimit", "tap", "matching", "aws", "async_files"];
    let mut source = source.to_owned();
    for package in SHADOWED {
        for before in [" ", "(", "<"] {
            source = source.replace(
                &format!("{before}common.{package}.v3"),
                &format!("{before}.envoy.extensions.common.{package}.v3"),
            );
        }
        source = source.replace(&format!("\tcommon.{package}.v3"), &format!("\t.envoy.extensions.common.{package}.v3"));
    }
    source
}
