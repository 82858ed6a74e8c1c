//! The server's side of HTTP/1: reads requests one after the other, serves each to its end, closes or goes on.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Version};

use crate::body::Body;
use crate::cause::Cause;
use crate::codec::h1::Refusal;
use crate::codec::h1::framing::{Decoder, Framing};
use crate::codec::h1::parse::{self, ParsedRequest};
use crate::codec::h1::wire::Wire;
use crate::codec::h1::write::{self, ResponseOn};
use crate::http::exchange::{self, Meter};
use crate::http::serve::{IDLE_GRACE, Session};
use crate::http::stream::Stream;
use crate::message::{LocalReply, RequestHead};
use crate::timer::Timer;

mod shared;
mod sink;

use shared::{RequestBody, Shared, Tunnel};
use sink::H1Sink;

/// For so many bytes a closed connection is still read, so that its last answer is not lost to a RST.
const LINGER: usize = 256 * 1024;

/// Serves a connection to its end.
pub async fn serve(session: Rc<Session>, wire: Wire) {
    let shared = Rc::new(RefCell::new(Shared::new(wire, session.http1())));
    let mut timer = Timer::default();
    let mut requests = 0;
    loop {
        let linger = match next_head(&session, &shared, &mut timer).await {
            Next::Head(head) => {
                requests += 1;
                let last = session.is_last(requests);
                // In a box, so that a connection at rest does not hold the room of a request.
                match Box::pin(serve_one(&session, &shared, &mut timer, head, last)).await {
                    End::KeepAlive => continue,
                    End::Close => true,
                    End::Abort => false,
                }
            }
            Next::Refused(refusal) => {
                matches!(Box::pin(refuse(&session, &shared, &mut timer, None, refusal)).await, End::Close)
            }
            Next::Closed => false,
        };
        if linger {
            let delay = session.manager().delayed_close;
            close(&shared, &mut timer, delay).await;
        }
        return;
    }
}

enum Next {
    Head(Bytes),
    Refused(Refusal),
    Closed,
}

/// Waits for the next request's head.
async fn next_head(session: &Session, shared: &RefCell<Shared>, timer: &mut Timer) -> Next {
    let mut scanned = 0;
    let idle_since = Instant::now();
    let mut first_byte = None;
    std::future::poll_fn(|cx| {
        let shared = &mut *shared.borrow_mut();
        shared.settings = session.http1();
        // Answers to requests that were pipelined are written by their own exchange; nothing is left here.
        loop {
            match parse::take_head(&mut shared.wire.input, &mut scanned, shared.settings) {
                Ok(Some(head)) => return Poll::Ready(Next::Head(head)),
                Ok(None) => {}
                Err(refusal) => return Poll::Ready(Next::Refused(refusal)),
            }
            match shared.wire.poll_fill_head(cx) {
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false) | Err(_)) => return Poll::Ready(Next::Closed),
                Poll::Pending => break,
            }
        }
        if shared.wire.input.is_empty() {
            shared.wire.release();
            first_byte = None;
            let drained = session.poll_drained(cx).is_ready();
            let manager = session.manager();
            let idle = manager.idle_timeout.map(|limit| idle_since + limit);
            let grace = manager.drain_timeout.min(IDLE_GRACE);
            drop(manager);
            let drain =
                if drained { Some(idle_since + grace) } else { session.ends_at().map(|at| at.max(idle_since + grace)) };
            let Some(deadline) = [idle, drain].into_iter().flatten().min() else { return Poll::Pending };
            return timer.poll_until(cx, deadline).map(|()| Next::Closed);
        }
        let Some(limit) = session.manager().request_headers_timeout else { return Poll::Pending };
        let began: Instant = *first_byte.get_or_insert_with(Instant::now);
        timer
            .poll_until(cx, began + limit)
            .map(|()| Next::Refused(Refusal::new(Cause::RequestHeaderTimeout, "the request head did not come in time")))
    })
    .await
}

enum End {
    KeepAlive,
    Close,
    Abort,
}

async fn serve_one(
    session: &Rc<Session>,
    shared: &Rc<RefCell<Shared>>,
    timer: &mut Timer,
    head: Bytes,
    last: bool,
) -> End {
    match begin(session, shared, head, last) {
        Ok(Begun { mut stream, body, mut sink, meter }) => {
            exchange::run(&mut stream, body, &mut sink, &meter, timer).await;
            sink.finish()
        }
        Err(unread) => refuse(session, shared, timer, unread.head, unread.refusal).await,
    }
}

/// A request that is to be served.
struct Begun {
    stream: Stream,
    body: Body,
    sink: H1Sink,
    meter: Rc<Meter>,
}

/// A request that must be refused; `head` is what could be read of it.
struct Unread {
    head: Option<RequestHead>,
    refusal: Refusal,
}

/// Reads a request's head and makes all that it needs, before anything waits: what the future does not hold costs nothing.
fn begin(session: &Rc<Session>, shared: &Rc<RefCell<Shared>>, head: Bytes, last: bool) -> Result<Begun, Box<Unread>> {
    let settings = shared.borrow().settings;
    shared.borrow_mut().taken = (head.len() as u64, 0);
    let unread = |refusal| Box::new(Unread { head: None, refusal });
    let parsed = parse::request(&head, settings).and_then(|parsed| accept_version(session, parsed)).map_err(unread)?;
    if let Some(refusal) = parsed.bad_host {
        return Err(Box::new(Unread { head: Some(parsed.head), refusal }));
    }
    let mut request = parsed.head;
    let tunnel = request.upgrade.is_some();
    let bodyless = parsed.framing == Framing::None && !tunnel;
    let passed_on = parsed.expect_continue && session.manager().proxy_100_continue;
    if passed_on {
        request.headers.insert(http::header::EXPECT, http::HeaderValue::from_static("100-continue"));
    }
    {
        let shared = &mut *shared.borrow_mut();
        shared.decoder = Decoder::new(parsed.framing, settings);
        shared.owes_continue = parsed.expect_continue && !passed_on;
        shared.tunnel = if tunnel { Tunnel::Asked } else { Tunnel::No };
        shared.dropped = bodyless;
    }
    let meter = Meter::new(bodyless, Instant::now());
    let on = ResponseOn {
        version: request.version,
        head: request.method == Method::HEAD,
        connect: request.method == Method::CONNECT,
        keep_alive: parsed.keep_alive && !last,
        names: settings.names,
    };
    let body =
        if bodyless { Body::Empty } else { Body::new(RequestBody { shared: shared.clone(), meter: meter.clone() }) };
    let mut stream = session.stream(request);
    if stream.request.version == Version::HTTP_11 {
        let shared = shared.clone();
        let names = settings.names;
        stream.inform = Some(Rc::new(move |head| write::informational(&mut shared.borrow_mut().wire, &head, names)));
    }
    let sink = H1Sink::new(session.clone(), shared.clone(), meter.clone(), on);
    Ok(Begun { stream, body, sink, meter })
}

/// HTTP/1.0 only where it is wanted.
fn accept_version(session: &Session, mut parsed: ParsedRequest) -> Result<ParsedRequest, Refusal> {
    if parsed.head.version == Version::HTTP_10 {
        if !session.manager().accept_http_10 {
            return Err(Refusal::new(Cause::LowVersion, "HTTP/1.0 is not accepted here"));
        }
        if parsed.head.authority.is_empty() {
            parsed.head.authority = session.manager().default_host_for_http_10.clone();
            if parsed.head.authority.is_empty() {
                parsed.bad_host = Some(Refusal::new(Cause::MissingHost, "no Host"));
            }
        }
    }
    Ok(parsed)
}

/// Answers what cannot be served; `head` is what could be read of it.
async fn refuse(
    session: &Rc<Session>,
    shared: &Rc<RefCell<Shared>>,
    timer: &mut Timer,
    head: Option<RequestHead>,
    refusal: Refusal,
) -> End {
    shared.borrow_mut().wire.input.clear();
    shared.borrow_mut().dropped = true;
    let meter = Meter::new(true, Instant::now());
    let head = head.unwrap_or_else(exchange::unread_head);
    let version = head.version;
    let names = session.http1().names;
    let on = ResponseOn { version, head: head.method == Method::HEAD, connect: false, keep_alive: false, names };
    let mut sink = H1Sink::new(session.clone(), shared.clone(), meter.clone(), on);
    let mut stream = session.stream(head);
    stream.termination_details = Some(refusal.detail.into());
    let reply = LocalReply::new(refusal.cause).body(refusal.cause.explain());
    exchange::refuse(&mut stream, reply, &mut sink, &meter, timer).await;
    sink.finish()
}

/// Closes our side, then waits a moment for the client to close its own.
async fn close(shared: &RefCell<Shared>, timer: &mut Timer, delay: Duration) {
    let until = Instant::now() + delay;
    let mut budget = LINGER;
    let mut shut = false;
    std::future::poll_fn(|cx| {
        let wire = &mut shared.borrow_mut().wire;
        if !shut {
            match wire.poll_shutdown(cx) {
                Poll::Ready(Ok(())) => shut = true,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => {}
            }
        }
        if shut && wire.poll_discard_input(cx, &mut budget).is_ready() {
            return Poll::Ready(());
        }
        timer.poll_until(cx, until)
    })
    .await;
}
