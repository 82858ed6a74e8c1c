//! One question of an active health check: connect, ask, judge the answer.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Checker, HealthCheck};
use crate::cluster::{Cluster, Host};
use crate::cluster::{Wanted, dial};
use crate::io::Io;

/// Answers larger than this are not read on.
const LONGEST_ANSWER: usize = 64 * 1024;

/// Why a check failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub reason: String,
    /// There was no answer; else the answer says that the host is not well.
    pub network: bool,
}

impl Failure {
    pub(super) fn network(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), network: true }
    }

    pub(super) fn said(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), network: false }
    }
}

/// No answer, unless something else is said.
impl From<String> for Failure {
    fn from(reason: String) -> Self {
        Self::network(reason)
    }
}

/// Asks once; the error says why the answer is bad.
pub(super) async fn ask(cluster: &Cluster, check: &HealthCheck, host: &Host) -> Result<(), Failure> {
    let http2 = matches!(check.checker, Checker::Grpc { .. } | Checker::Http { http2: true, .. });
    let alpn: &[&[u8]] = if http2 { &[b"h2"] } else { &[b"http/1.1"] };
    let alpn = (!matches!(check.checker, Checker::Tcp { .. })).then(|| alpn.iter().map(|name| name.to_vec()).collect());
    let wanted = Wanted { http2, alpn, ..Wanted::default() };
    let dialled = dial::connect(&cluster.config, host, &check.address(host), &wanted).await;
    let io = dialled.map_err(|error| error.detail)?.io;
    let named = |own: &str| match (&host.check, own) {
        (Some(check), _) if !check.hostname.is_empty() => check.hostname.to_string(),
        (_, "") => cluster.config.name.to_string(),
        (_, own) => own.to_owned(),
    };
    match &check.checker {
        Checker::Tcp { send, receive } => Ok(tcp(io, send, receive).await?),
        Checker::Http { host, path, method, headers, expected, http2 } => {
            let mut request = request(method, path, &named(host), *http2)?;
            request.headers_mut().extend(headers.clone());
            let response = exchange(io, request, *http2).await?;
            let status = response.0.as_u16();
            match expected.iter().any(|range| range.contains(&status)) {
                true => Ok(()),
                false => Err(Failure::said(format!("status {status}"))),
            }
        }
        Checker::Grpc { service, authority } => grpc(io, service, &named(authority)).await,
    }
}

async fn tcp(mut io: Io, send: &Bytes, receive: &[Bytes]) -> Result<(), String> {
    io.write_all(send).await.map_err(|error| error.to_string())?;
    let mut answer = BytesMut::new();
    loop {
        let mut rest = &answer[..];
        let all =
            receive.iter().all(|wanted| match rest.windows(wanted.len().max(1)).position(|found| found == wanted) {
                Some(place) => {
                    rest = &rest[place + wanted.len()..];
                    true
                }
                None => wanted.is_empty(),
            });
        if all {
            return Ok(());
        }
        if answer.len() > LONGEST_ANSWER || io.read_buf(&mut answer).await.map_err(|error| error.to_string())? == 0 {
            return Err("the answer does not hold the expected bytes".into());
        }
    }
}

fn request(method: &http::Method, path: &str, host: &str, http2: bool) -> Result<http::Request<Full<Bytes>>, String> {
    let builder = http::Request::builder().method(method).header("user-agent", "Envoy/HC");
    let builder = if http2 {
        builder.uri(format!("http://{host}{path}"))
    } else {
        builder.uri(path).header(http::header::HOST, host)
    };
    builder.body(Full::default()).map_err(|error| error.to_string())
}

type Answer = (http::StatusCode, http::HeaderMap, Bytes);

async fn exchange(io: Io, request: http::Request<Full<Bytes>>, http2: bool) -> Result<Answer, String> {
    let io = TokioIo::new(io);
    let text = |error: hyper::Error| error.to_string();
    let (response, driver) = if http2 {
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.map_err(text)?;
        let driver = tokio::spawn(async move { drop(connection.await) });
        (sender.send_request(request).await, driver)
    } else {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.map_err(text)?;
        let driver = tokio::spawn(async move { drop(connection.await) });
        (sender.send_request(request).await, driver)
    };
    let _stop = Stop(driver.abort_handle());
    let (head, body) = response.map_err(text)?.into_parts();
    let body = http_body_util::Limited::new(body, LONGEST_ANSWER).collect().await;
    let body = body.map_err(|error| error.to_string())?;
    let mut headers = head.headers;
    headers.extend(body.trailers().cloned().unwrap_or_default());
    Ok((head.status, headers, body.to_bytes()))
}

/// Ends the connection's task when the question is over or timed out.
struct Stop(tokio::task::AbortHandle);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// `grpc.health.v1.Health/Check`: field 1 of the request is the service, field 1 of the answer the status, 1 is serving.
async fn grpc(io: Io, service: &str, authority: &str) -> Result<(), Failure> {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        ferromesh_proto::prost::encoding::string::encode(1, &service.to_owned(), &mut message);
    }
    let mut body = BytesMut::new();
    body.put_u8(0);
    body.put_u32(u32::try_from(message.len()).map_err(|error| error.to_string())?);
    body.extend_from_slice(&message);
    let mut request = request(&http::Method::POST, "/grpc.health.v1.Health/Check", authority, true)?;
    request.headers_mut().insert("content-type", http::HeaderValue::from_static("application/grpc"));
    request.headers_mut().insert("te", http::HeaderValue::from_static("trailers"));
    *request.body_mut() = Full::new(body.freeze());
    let (_, headers, mut answer) = exchange(io, request, true).await?;
    match headers.get("grpc-status").map(http::HeaderValue::as_bytes) {
        Some(b"0") => {}
        status => return Err(Failure::said(format!("gRPC status {:?}", status.map(String::from_utf8_lossy)))),
    }
    if answer.len() < 5 {
        return Err(Failure::said("the answer is no gRPC message"));
    }
    answer.advance(5);
    match &answer[..] {
        [0x08, 1, ..] => Ok(()),
        _ => Err(Failure::said("the service is not serving")),
    }
}
