//! HTTP/2 with prior knowledge, on both sides of a proxy under test: the same requests and answers as over HTTP/1.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, Uri};
use tokio::net::{TcpListener, TcpStream};

use crate::upstream::{Answer, Record};
use crate::wire::{self, Message, Side};

/// Headers that HTTP/2 has no use for.
const OF_HTTP1: [&str; 5] = ["host", "connection", "transfer-encoding", "upgrade", "keep-alive"];

/// A request of HTTP/1 as one of HTTP/2; `None` if it is not one there.
pub fn converted(bytes: &[u8]) -> Option<(Request<()>, Message)> {
    let message = wire::read_message(&mut &bytes[..], &mut Vec::new(), Side::Request)?;
    let mut start = message.start.split(' ');
    let (method, target) = (Method::from_bytes(start.next()?.as_bytes()).ok()?, start.next()?);
    if start.next()? != "HTTP/1.1" || message.broken || method == Method::CONNECT || !target.starts_with('/') {
        return None;
    }
    if ["connection", "upgrade", "expect"].iter().any(|name| message.header(name).is_some()) {
        return None;
    }
    let uri: Uri = format!("http://{}{target}", message.header("host")?).parse().ok()?;
    let mut request = Request::builder().method(method).uri(uri).body(()).ok()?;
    for (name, value) in &message.headers {
        if !OF_HTTP1.iter().any(|other| name.eq_ignore_ascii_case(other)) {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            request.headers_mut().append(name, HeaderValue::from_bytes(value.as_bytes()).ok()?);
        }
    }
    Some((request, message))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Sends a request; the answer, and the client's port.
pub fn send(bytes: &[u8], port: u16) -> (Option<Message>, u16) {
    let (request, message) = converted(bytes).unwrap();
    runtime().block_on(async {
        let socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let client = socket.local_addr().unwrap().port();
        let answer = tokio::time::timeout(Duration::from_secs(4), exchange(socket, request, message));
        (answer.await.ok().flatten(), client)
    })
}

async fn exchange(socket: TcpStream, request: Request<()>, sent: Message) -> Option<Message> {
    let (sender, connection) = h2::client::handshake(socket).await.ok()?;
    tokio::spawn(connection);
    let mut sender = sender.ready().await.ok()?;
    let (whole, trailers) = (sent.body.is_empty() && sent.trailers.is_empty(), fields(&sent.trailers));
    let (response, mut body) = sender.send_request(request, whole).ok()?;
    if !whole {
        body.send_data(sent.body.into(), trailers.is_empty()).ok()?;
        if !trailers.is_empty() {
            body.send_trailers(trailers).ok()?;
        }
    }
    let (head, body) = response.await.ok()?.into_parts();
    let mut message = Message { start: format!("HTTP/2 {}", head.status.as_u16()), ..Message::default() };
    message.headers = texts(&head.headers);
    read(body, &mut message).await;
    Some(message)
}

async fn read(mut body: h2::RecvStream, message: &mut Message) {
    while let Some(data) = body.data().await {
        let Ok(data) = data else {
            message.broken = true;
            return;
        };
        let _ = body.flow_control().release_capacity(data.len());
        message.body.extend_from_slice(&data);
    }
    match body.trailers().await {
        Ok(trailers) => message.trailers = trailers.map(|trailers| texts(&trailers)).unwrap_or_default(),
        Err(_) => message.broken = true,
    }
}

fn fields(list: &[(String, String)]) -> http::HeaderMap {
    let field = |(name, value): &(String, String)| {
        (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())
    };
    list.iter().map(field).collect()
}

fn texts(headers: &http::HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

/// Serves on a new port until the test ends; returns the port.
pub fn serve(server: &'static str, record: &Arc<Record>) -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let record = record.clone();
    std::thread::spawn(move || {
        runtime().block_on(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(connection(server, socket, record.clone()));
            }
        });
    });
    port
}

async fn connection(server: &'static str, socket: TcpStream, record: Arc<Record>) {
    let Ok(mut connection) = h2::server::handshake(socket).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::spawn(answer(server, request, respond, record.clone()));
    }
}

async fn answer(
    server: &'static str,
    request: Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    record: Arc<Record>,
) {
    let (head, body) = request.into_parts();
    let path = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let mut message = Message { start: format!("{} {path} HTTP/2", head.method), ..Message::default() };
    let authority = head.uri.authority().map(ToString::to_string).unwrap_or_default();
    let scheme = head.uri.scheme_str().unwrap_or_default().to_owned();
    message.headers = vec![(":authority".to_owned(), authority), (":scheme".to_owned(), scheme)];
    message.headers.extend(texts(&head.headers));
    read(body, &mut message).await;
    let asked = message.header("x-do").unwrap_or_default().to_owned();
    let earlier = record.add(server, message);
    let answer = Answer::of(&asked, earlier);
    tokio::time::sleep(Duration::from_millis(answer.delay)).await;
    if answer.reset {
        return respond.send_reset(h2::Reason::INTERNAL_ERROR);
    }
    let bodyless = head.method == Method::HEAD || matches!(answer.status, 204 | 304);
    let body = if bodyless { String::new() } else { answer.body(server, &path) };
    let mut response =
        Response::builder().status(answer.status).header("server", "upstream").header("x-served-by", server);
    for header in &answer.headers {
        let (name, value) = header.split_once(": ").unwrap();
        response = response.header(name, value);
    }
    if !answer.chunked && !matches!(answer.status, 204 | 304) {
        response = response.header("content-length", answer.body(server, &path).len());
    }
    let Ok(mut stream) = respond.send_response(response.body(()).unwrap(), body.is_empty() && !answer.trailers) else {
        return;
    };
    if !body.is_empty() {
        let _ = stream.send_data(body.into(), !answer.trailers);
    }
    if answer.trailers {
        let _ = stream.send_trailers(fields(&[("x-trailer".to_owned(), "yes".to_owned())]));
    }
}
