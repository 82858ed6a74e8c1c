//! The xDS port with mTLS: who a client may claim to be.

#[path = "support/client.rs"]
mod client;
#[path = "support/pki.rs"]
mod pki;

use std::path::Path;

use client::{Fixture, NODE, Stream, World};
use ferromesh_controller::serve::{Kind, ServerConfig, ServerTls};
use ferromesh_core::TrustDomain;
use pki::{Root, root};
use tonic::Code;

async fn server(root: &Root, folder: &Path) -> Fixture {
    let files = pki::server_files(root, folder);
    let domain = TrustDomain::new("cluster.local").unwrap();
    let tls = ServerTls::from_files(&files.0, &files.1, &files.2, domain).unwrap();
    let world = World::default().with(Kind::Listener, "l", 1);
    Fixture::with(Some(world), Some(tls), ServerConfig::default()).await
}

/// The first answer that a client with this certificate gets.
async fn ask(server: &Fixture, root: &Root, certificate: Option<(&Root, &str)>) -> Result<String, Option<Code>> {
    let io = pki::connect(server.tcp().await, root, certificate).await.map_err(|_| None)?;
    let mut stream = Stream::delta(io, NODE).await.map_err(|_| None)?;
    stream.subscribe(Kind::Listener, &["*"]).await;
    match stream.next().await {
        Ok(response) => Ok(client::text(&response.unwrap())),
        Err(status) => Err(Some(status.code())),
    }
}

#[tokio::test]
async fn a_proxy_is_served_as_what_its_certificate_says_and_as_nothing_else() {
    let (root, folder) = (root(), tempfile::tempdir().unwrap());
    let server = server(&root, folder.path()).await;
    let own = "spiffe://cluster.local/ns/default/sa/web";
    assert_eq!(ask(&server, &root, Some((&root, own))).await, Ok("lds +l".to_owned()));
    let other_namespace = "spiffe://cluster.local/ns/other/sa/web";
    assert_eq!(ask(&server, &root, Some((&root, other_namespace))).await, Err(Some(Code::PermissionDenied)));
}

#[tokio::test]
async fn who_has_no_certificate_of_this_mesh_gets_no_stream() {
    let (root, stranger, folder) = (root(), root(), tempfile::tempdir().unwrap());
    let server = server(&root, folder.path()).await;
    let own = "spiffe://cluster.local/ns/default/sa/web";
    assert!(ask(&server, &root, None).await.is_err());
    assert!(ask(&server, &root, Some((&stranger, own))).await.is_err());
    let other_domain = "spiffe://elsewhere/ns/default/sa/web";
    assert!(ask(&server, &root, Some((&root, other_domain))).await.is_err());
    assert!(server.hub.is_empty());
}
