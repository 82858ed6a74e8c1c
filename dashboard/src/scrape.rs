//! A proxy's metrics: its admin address in, text of bounded size within a bounded time out.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// More text than this is not read.
pub const MAX_LEN: usize = 16 * 1024 * 1024;
/// Longest time for one proxy.
pub const TIMEOUT: Duration = Duration::from_secs(3);
const PATH: &str = "/stats/prometheus";

/// Why a proxy told nothing.
#[derive(Debug, thiserror::Error)]
pub enum ScrapeError {
    /// It did not answer in time.
    #[error("http://{0}{PATH}: no answer within {TIMEOUT:?}")]
    Timeout(SocketAddr),
    /// The connection failed, or the answer was too long.
    #[error("http://{addr}{PATH}: {reason}")]
    Failed {
        /// The proxy's admin address.
        addr: SocketAddr,
        /// What went wrong.
        reason: String,
    },
    /// It answered with another status than 200.
    #[error("http://{addr}{PATH}: status {status}")]
    Status {
        /// The proxy's admin address.
        addr: SocketAddr,
        /// The status.
        status: StatusCode,
    },
}

/// Reads `/stats/prometheus` of the proxy whose admin address is `addr`.
///
/// # Errors
/// Names the address and what went wrong.
pub async fn scrape(addr: SocketAddr) -> Result<String, ScrapeError> {
    tokio::time::timeout(TIMEOUT, get(addr)).await.unwrap_or(Err(ScrapeError::Timeout(addr)))
}

async fn get(addr: SocketAddr) -> Result<String, ScrapeError> {
    let failed = |reason: String| ScrapeError::Failed { addr, reason };
    let stream = TcpStream::connect(addr).await.map_err(|error| failed(error.to_string()))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(error.to_string()))?;
    let request = Request::get(PATH)
        .header(header::HOST, addr.to_string())
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| failed(error.to_string()))?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(|error| failed(error.to_string()))?;
        if response.status() != StatusCode::OK {
            return Err(ScrapeError::Status { addr, status: response.status() });
        }
        let body = Limited::new(response.into_body(), MAX_LEN).collect().await;
        let bytes = body.map_err(|error| failed(error.to_string()))?.to_bytes();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    // The connection is driven here, so that it ends with this call, whatever happens.
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        answer = answer.as_mut() => answer,
        _ = connection => answer.await,
    }
}
