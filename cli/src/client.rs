//! A small HTTP client for the checks and the admin pages: one request, or many at once.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, anyhow};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Longest that one request may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes of an answer that are read.
const MAX_BODY: usize = 64 * 1024 * 1024;

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> anyhow::Result<serde_json::Value> {
        serde_json::from_slice(&self.body).context("the answer is not JSON")
    }

    /// All values of a header.
    pub fn header(&self, name: &str) -> Vec<String> {
        let values = self.headers.get_all(name).into_iter();
        values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
    }
}

/// A request to make.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Where to connect.
    pub to: SocketAddr,
    /// Method.
    pub method: Method,
    /// `Host`.
    pub host: String,
    /// Path and query, or an absolute URI for a proxy.
    pub target: String,
    /// Further headers.
    pub headers: Vec<(String, String)>,
}

impl Ask {
    /// GET of a path with the address as host.
    pub fn get(to: SocketAddr, path: impl Into<String>) -> Self {
        Self { to, method: Method::GET, host: to.to_string(), target: path.into(), headers: Vec::new() }
    }

    /// Sets `Host`.
    #[must_use]
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.host = host.into();
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Makes the request on a connection of its own.
    ///
    /// # Errors
    /// If the connection fails, or no answer comes in time.
    pub async fn send(&self) -> anyhow::Result<Answer> {
        tokio::time::timeout(TIMEOUT, self.exchange())
            .await
            .map_err(|_| anyhow!("{} {} got no answer in {TIMEOUT:?}", self.method, self.target))?
    }

    async fn exchange(&self) -> anyhow::Result<Answer> {
        let socket = TcpStream::connect(self.to).await.with_context(|| format!("connecting to {}", self.to))?;
        self.exchange_over(socket).await
    }

    /// Makes the request on a connection that is there already; [`Ask::to`] is its name only.
    ///
    /// # Errors
    /// If the connection breaks, or no answer comes in time.
    pub async fn send_over<S>(&self, stream: S) -> anyhow::Result<Answer>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        tokio::time::timeout(TIMEOUT, self.exchange_over(stream))
            .await
            .map_err(|_| anyhow!("{} {} got no answer in {TIMEOUT:?}", self.method, self.target))?
    }

    async fn exchange_over<S>(&self, stream: S) -> anyhow::Result<Answer>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let uri: Uri = self.target.parse().with_context(|| format!("{:?} is not a request target", self.target))?;
        let mut request = Request::builder().method(self.method.clone()).uri(uri).header("host", &self.host);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let response = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_BODY).collect().await.map_err(|error| anyhow!("{error}"))?.to_bytes();
        connection.abort();
        Ok(Answer { status: head.status, headers: head.headers, body })
    }
}

/// Makes the same request `count` times, `at_once` of them at a time; answers in the order in which they end.
pub async fn many(ask: &Ask, count: u32, at_once: usize) -> Vec<anyhow::Result<Answer>> {
    use futures_util::StreamExt;
    let requests = (0..count).map(|_| {
        let ask = ask.clone();
        async move { ask.send().await }
    });
    futures_util::stream::iter(requests).buffer_unordered(at_once.max(1)).collect().await
}
