//! `grpc.health.v1.Health/Check` over plain HTTP/2, as the kubelet asks it: two fields, so no generated stub.

use bytes::{BufMut, Bytes, BytesMut};
use ferromesh_proto::prost::Message;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::grpc::LocalExecutor;

/// Bytes of an answer that are read.
const BODY: usize = 64 << 10;
/// `HealthCheckResponse.ServingStatus.SERVING`.
const SERVING: i32 = 1;

#[derive(Clone, PartialEq, Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// 200 if the service says that it serves, else 500 with the reason.
pub(super) async fn check(stream: TcpStream, service: &str) -> Result<(StatusCode, String), String> {
    let (mut sender, connection) = hyper::client::conn::http2::handshake(LocalExecutor, TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let driver = tokio::task::spawn_local(async move {
        // How the connection ends is seen by the call.
        let _ = connection.await;
    });
    let message = HealthCheckRequest { service: service.to_owned() };
    let mut body = BytesMut::new();
    body.put_u8(0);
    body.put_u32(u32::try_from(message.encoded_len()).unwrap_or_default());
    message.encode(&mut body).map_err(|error| error.to_string())?;
    let request = Request::post("http://localhost/grpc.health.v1.Health/Check")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(body.freeze()))
        .map_err(|error| error.to_string())?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let headers = response.headers().clone();
        let collected = Limited::new(response.into_body(), BODY).collect().await.map_err(|error| error.to_string())?;
        let trailers = collected.trailers().cloned().unwrap_or_default();
        let status = trailers.get("grpc-status").or_else(|| headers.get("grpc-status"));
        let status = status.and_then(|status| status.to_str().ok()).unwrap_or("none").to_owned();
        Ok(verdict(&status, &collected.to_bytes()))
    };
    let answer = answer.await;
    driver.abort();
    answer
}

fn verdict(status: &str, body: &Bytes) -> (StatusCode, String) {
    if status != "0" {
        return (StatusCode::INTERNAL_SERVER_ERROR, format!("grpc-status {status}"));
    }
    let response = body.get(5..).and_then(|message| HealthCheckResponse::decode(message).ok());
    match response {
        Some(HealthCheckResponse { status: SERVING }) => (StatusCode::OK, "SERVING".into()),
        Some(HealthCheckResponse { status }) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("serving status {status}, not SERVING"))
        }
        None => (StatusCode::INTERNAL_SERVER_ERROR, "the answer is no HealthCheckResponse".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_serving_is_healthy() {
        let answer = |body: &'static [u8]| verdict("0", &Bytes::from_static(body)).0;
        assert_eq!(answer(&[0, 0, 0, 0, 2, 8, 1]), StatusCode::OK);
        assert_eq!(answer(&[0, 0, 0, 0, 2, 8, 2]), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(answer(&[]), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(verdict("12", &Bytes::new()).0, StatusCode::INTERNAL_SERVER_ERROR);
    }
}
