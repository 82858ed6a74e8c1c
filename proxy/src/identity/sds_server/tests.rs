use ferromesh_proto::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
use tokio::task::LocalSet;

use super::*;
use crate::grpc::{Channel, LocalExecutor};
use crate::tls::Origin;
use crate::tls::test_pki::Pki;

async fn client(path: &Path) -> SecretDiscoveryServiceClient<Channel> {
    let stream = loop {
        match UnixStream::connect(path).await {
            Ok(stream) => break stream,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let (sender, connection) =
        hyper::client::conn::http2::handshake(LocalExecutor, TokioIo::new(stream)).await.unwrap();
    tokio::task::spawn_local(connection);
    SecretDiscoveryServiceClient::with_origin(Channel::new(sender), "http://sds".parse().unwrap())
}

#[tokio::test]
async fn an_envoy_gets_its_secrets_and_each_rotation_on_a_socket_of_its_own() {
    LocalSet::new()
        .run_until(async {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("sds.sock");
            let secrets = Arc::new(SecretStore::default());
            let serving = tokio::spawn({
                let (path, secrets) = (path.clone(), secrets.clone());
                async move { serve_sds(&path, secrets).await }
            });
            let mut client = client(&path).await;
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

            let names = vec!["default".to_owned(), "ROOTCA".into(), "another".into()];
            let (asks, queue) = mpsc::channel(1);
            asks.send(DeltaDiscoveryRequest { resource_names_subscribe: names, ..Default::default() }).await.unwrap();
            let answer = client.delta_secrets(ReceiverStream::new(queue)).await.unwrap();
            let mut answers = answer.into_inner();

            let pki = Pki::new("mesh");
            let first = pki.svid("spiffe://cluster.local/ns/default/sa/web");
            secrets.set(CERTIFICATE, first.secret(), Origin::Workload, "1");
            let answer = answers.message().await.unwrap().unwrap();
            assert_eq!(answer.resources.len(), 1);
            let secret: tls::Secret = answer.resources[0].resource.as_ref().unwrap().unpack().unwrap();
            // What is served is what a context can use.
            let (name, secret) = Secret::decode(&secret).unwrap();
            let Secret::Certificate(certificate) = secret else { panic!("a certificate") };
            assert_eq!((name.as_str(), certificate.chain()), (CERTIFICATE, &[first.cert.der().clone()][..]));

            secrets.set(ROOTS, pki.trust(), Origin::Workload, "1");
            let answer = answers.message().await.unwrap().unwrap();
            assert_eq!(answer.resources.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), [ROOTS]);
            serving.abort();
        })
        .await;
}
