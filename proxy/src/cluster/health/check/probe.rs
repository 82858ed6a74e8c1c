//! One question of an active health check: connect, ask, judge the answer.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Checker, HealthCheck};
use crate::cluster::{Cluster, Host, HostAddress, Wanted, dial};
use crate::io::Io;

const DEGRADED: &str = "x-envoy-degraded";
const IMMEDIATE_FAIL: &str = "x-envoy-immediate-health-check-fail";

/// Answers larger than this are not read on.
const LONGEST_ANSWER: usize = 64 * 1024;

/// How well a host is that passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passed {
    Healthy,
    /// It says that it is degraded (`x-envoy-degraded`).
    Degraded,
}

/// Why a check failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub reason: String,
    /// There was no answer; else the answer says that the host is not well.
    pub network: bool,
    /// There was no answer in time.
    pub late: bool,
    /// The host wants to count for nothing (`x-envoy-immediate-health-check-fail`).
    pub excludes: bool,
}

impl Failure {
    pub(super) fn network(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), network: true, late: false, excludes: false }
    }

    pub(super) fn timeout(reason: impl Into<String>) -> Self {
        Self { late: true, ..Self::network(reason) }
    }

    pub(super) fn said(reason: impl Into<String>) -> Self {
        Self { network: false, ..Self::network(reason) }
    }
}

/// No answer, unless something else is said.
impl From<String> for Failure {
    fn from(reason: String) -> Self {
        Self::network(reason)
    }
}

/// Asks a host one time after the other.
#[derive(Default)]
pub(super) struct Asker {
    /// The connection of the last question.
    kept: Option<Kept>,
}

impl Asker {
    /// Asks once; the error says why the answer is bad. Whoever does not wait for the end gives the connection up.
    pub(super) async fn ask(&mut self, cluster: &Cluster, check: &HealthCheck, host: &Host) -> Result<Passed, Failure> {
        let named = |own: &str| match (&host.check, own) {
            (Some(check), _) if !check.hostname.is_empty() => check.hostname.to_string(),
            (_, "") => cluster.config.name.to_string(),
            (_, own) => own.to_owned(),
        };
        let (http2, request) = match &check.checker {
            Checker::Tcp { send, receive } => {
                let io = dial(cluster, check, host, None).await?;
                tcp(io, send, receive).await?;
                return Ok(Passed::Healthy);
            }
            Checker::Http { host, path, method, headers, http2, .. } => {
                let mut request = request(method, path, &named(host), *http2)?;
                request.headers_mut().extend(headers.clone());
                (*http2, request)
            }
            Checker::Grpc { service, authority } => (true, grpc_request(service, &named(authority))?),
        };
        let address = check.address(host);
        let mut connection = match self.kept.take().filter(|kept| kept.is_good_for(&address)) {
            Some(kept) => kept,
            None => Kept::new(dial(cluster, check, host, Some(http2)).await?, address, http2).await?,
        };
        let answer = connection.exchange(request).await?;
        self.kept = check.reuse_connection.then_some(connection);
        match &check.checker {
            Checker::Http { expected, .. } => {
                let (status, headers) = (answer.0.as_u16(), &answer.1);
                match expected.iter().any(|range| range.contains(&status)) {
                    true if headers.contains_key(DEGRADED) => Ok(Passed::Degraded),
                    true => Ok(Passed::Healthy),
                    false => {
                        let excludes = headers.contains_key(IMMEDIATE_FAIL);
                        Err(Failure { excludes, ..Failure::said(format!("status {status}")) })
                    }
                }
            }
            _ => grpc_serves(answer).map(|()| Passed::Healthy),
        }
    }
}

/// A connection to a host's checked address; `http2` is `None` where HTTP is not spoken.
async fn dial(cluster: &Cluster, check: &HealthCheck, host: &Host, http2: Option<bool>) -> Result<Io, String> {
    let alpn = http2.map(|http2| if http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() });
    let wanted =
        Wanted { http2: http2 == Some(true), alpn: alpn.map(|name| [name].into_iter().collect()), ..Wanted::default() };
    let dialled = dial::connect(&cluster.config, host, &check.address(host), &wanted).await;
    Ok(dialled.map_err(|error| error.detail)?.io)
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

/// A connection that may serve further questions.
struct Kept {
    sender: Sender,
    address: HostAddress,
    _driver: Stop,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Kept {
    async fn new(io: Io, address: HostAddress, http2: bool) -> Result<Self, String> {
        let io = TokioIo::new(io);
        let text = |error: hyper::Error| error.to_string();
        let (sender, driver) = if http2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.map_err(text)?;
            (Sender::Http2(sender), tokio::spawn(async move { drop(connection.await) }))
        } else {
            let (sender, connection) = http1::handshake(io).await.map_err(text)?;
            (Sender::Http1(sender), tokio::spawn(async move { drop(connection.await) }))
        };
        Ok(Self { sender, address, _driver: Stop(driver.abort_handle()) })
    }

    fn is_good_for(&self, address: &HostAddress) -> bool {
        let is_ready = match &self.sender {
            Sender::Http1(sender) => sender.is_ready(),
            Sender::Http2(sender) => sender.is_ready(),
        };
        is_ready && self.address == *address
    }

    async fn exchange(&mut self, request: http::Request<Full<Bytes>>) -> Result<Answer, String> {
        let response = match &mut self.sender {
            Sender::Http1(sender) => sender.send_request(request).await,
            Sender::Http2(sender) => sender.send_request(request).await,
        };
        let (head, body) = response.map_err(|error| error.to_string())?.into_parts();
        let body = http_body_util::Limited::new(body, LONGEST_ANSWER).collect().await;
        let body = body.map_err(|error| error.to_string())?;
        let mut headers = head.headers;
        headers.extend(body.trailers().cloned().unwrap_or_default());
        Ok((head.status, headers, body.to_bytes()))
    }
}

/// Ends the connection's task with the connection, or when a question is timed out.
struct Stop(tokio::task::AbortHandle);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// `grpc.health.v1.Health/Check`: field 1 of the request is the service.
fn grpc_request(service: &str, authority: &str) -> Result<http::Request<Full<Bytes>>, String> {
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
    Ok(request)
}

/// Field 1 of the answer is the status, 1 is serving.
fn grpc_serves((_, headers, mut answer): Answer) -> Result<(), Failure> {
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
