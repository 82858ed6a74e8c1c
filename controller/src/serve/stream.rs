//! One ADS stream: moves requests into the session and pushes out of it, and runs the clocks that the session has not.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ferromesh_core::runtime::drain;
use futures_util::{FutureExt, Stream, StreamExt};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tonic::Status;

use super::client::{ClientError, Peer};
use super::hub::{Connection, Registered, World};
use super::names::NameLists;
use super::outgoing::Outgoing;
use super::session::{Answer, Due, Limits, Push, Session};
use super::wire::Wire;
use super::{Client, Hub, Snapshot};
use crate::metrics::Metrics;

/// Requests taken in one go before the answers to them are made.
const BATCH: usize = 64;

/// Bounds and times of a stream.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// The first request must come within this.
    pub first_request: Duration,
    /// Listeners and routes wait this long for the client to ask for the endpoints of new clusters.
    pub settle: Duration,
    /// A response without an answer holds other types back no longer than this.
    pub answer: Duration,
    /// A client that does not read for this long is cut off.
    pub send: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            first_request: Duration::from_secs(10),
            settle: Duration::from_millis(100),
            answer: Duration::from_secs(15),
            send: Duration::from_secs(60),
        }
    }
}

/// What all streams share.
pub(super) struct Shared {
    pub(super) hub: Hub,
    pub(super) metrics: Metrics,
    pub(super) limits: Limits,
    pub(super) timing: Timing,
    /// Open streams.
    pub(super) streams: Arc<Semaphore>,
    /// Translations at the same time; those that wait take turns.
    pub(super) translations: Arc<Semaphore>,
    pub(super) drain: drain::Watch,
    pub(super) names: NameLists,
}

/// Serves one stream to its end; an error is for the client.
pub(super) async fn serve<W: Wire>(
    shared: Arc<Shared>,
    peer: Peer,
    mut requests: impl Stream<Item = Result<W::Request, Status>> + Unpin,
    responses: mpsc::Sender<Result<Box<Outgoing>, Status>>,
) -> Result<(), Status> {
    let drain = shared.drain.clone();
    let draining = || Status::unavailable("the controller is shutting down; connect again");
    let first = tokio::select! {
        () = drain.signaled() => return Err(draining()),
        first = timeout(shared.timing.first_request, requests.next()) => first,
    };
    let mut first = match first {
        Ok(Some(first)) => first?,
        Ok(None) => return Ok(()),
        Err(_) => return Err(Status::deadline_exceeded("no request came; send a DiscoveryRequest with a node")),
    };
    let client = Client::identify(W::node(&mut first), peer).map_err(|error| {
        tracing::warn!(%error, "a proxy was refused");
        Status::permission_denied(error.to_string())
    })?;
    tracing::info!(proxy = client.name(), address = ?client.peer.address, protocol = ?W::PROTOCOL, "a proxy connected");
    let session = Session::new(W::PROTOCOL, shared.limits);
    let registered = shared.hub.connect(client, W::PROTOCOL, session);
    let mut stream = Running::<W> {
        world: shared.hub.subscribe(),
        connection: Arc::clone(&registered.connection),
        _registered: registered,
        shared,
        responses,
        snapshot: None,
        generation: 0,
        unsettled_since: None,
        sent: Instant::now(),
        changed_since: None,
        wire: PhantomData,
    };
    stream.take(first)?;
    let end = tokio::select! {
        () = drain.signaled() => Err(draining()),
        end = stream.run(&mut requests) => end,
    };
    tracing::info!(proxy = stream.connection.client.name(), "a proxy left");
    end
}

struct Running<W: Wire> {
    shared: Arc<Shared>,
    connection: Arc<Connection>,
    _registered: Registered,
    world: watch::Receiver<Option<Arc<World>>>,
    responses: mpsc::Sender<Result<Box<Outgoing>, Status>>,
    snapshot: Option<Arc<dyn Snapshot>>,
    generation: u64,
    unsettled_since: Option<Instant>,
    /// When something was sent last.
    sent: Instant,
    /// First event of the changes that the client does not have yet.
    changed_since: Option<Instant>,
    wire: PhantomData<fn() -> W>,
}

impl<W: Wire> Running<W> {
    async fn run(
        &mut self,
        requests: &mut (impl Stream<Item = Result<W::Request, Status>> + Unpin),
    ) -> Result<(), Status> {
        self.look()?;
        loop {
            if !self.push().await? {
                return Ok(());
            }
            let alarm = self.alarm();
            tokio::select! {
                request = requests.next() => {
                    let Some(request) = request else { return Ok(()) };
                    self.take(request?)?;
                    for _ in 1..BATCH {
                        match requests.next().now_or_never() {
                            Some(Some(request)) => self.take(request?)?,
                            Some(None) => return Ok(()),
                            None => break,
                        }
                    }
                }
                changed = self.world.changed() => match changed {
                    Ok(()) => self.look()?,
                    Err(_) => return Err(Status::unavailable("the controller has ended; connect again")),
                },
                () = async { sleep_until(alarm.unwrap_or_else(Instant::now)).await }, if alarm.is_some() => self.ring(),
            }
        }
    }

    /// Takes a request in.
    fn take(&self, request: W::Request) -> Result<(), Status> {
        let request = match W::request(request) {
            Ok(request) => request,
            Err(type_url) => {
                let type_url: String = type_url.chars().take(200).collect();
                tracing::debug!(proxy = self.connection.client.name(), type_url, "asked for a type that is not served");
                return Ok(());
            }
        };
        let kind = request.kind;
        let (answer, rejected) = {
            let mut session = self.connection.session.lock();
            let before = session.nack(kind).is_some();
            let answer = session.on_request(request);
            session.share_names(kind, &self.shared.names);
            (answer, before || session.nack(kind).is_some())
        };
        if rejected {
            self.shared.hub.answered();
        }
        let answer = answer.map_err(|error| Status::resource_exhausted(error.to_string()))?;
        if let Answer::Nack(nack) = answer {
            self.shared.metrics.rejected(kind);
            let proxy = self.connection.client.name();
            tracing::warn!(proxy, %kind, version = nack.version, detail = nack.detail, "a proxy rejected its configuration");
        }
        Ok(())
    }

    /// Takes the newest view in, if the proxy is in it what it says to be. A proxy whose pod has gone keeps what it has.
    fn look(&mut self) -> Result<(), Status> {
        let Some(world) = self.world.borrow_and_update().clone() else { return Ok(()) };
        match world.snapshot.admits(&self.connection.client) {
            Ok(()) => {}
            Err(ClientError::UnknownPod(_)) if self.snapshot.is_some() => return Ok(()),
            Err(error) => {
                tracing::warn!(%error, "a proxy was refused");
                return Err(match error {
                    ClientError::UnknownPod(_) => Status::unavailable(error.to_string()),
                    _ => Status::permission_denied(error.to_string()),
                });
            }
        }
        let (kinds, since) = world.after(self.generation, &self.connection.client);
        self.generation = world.generation;
        self.snapshot = Some(Arc::clone(&world.snapshot));
        self.connection.session.lock().on_change(kinds);
        self.changed_since = self.changed_since.or(since);
        Ok(())
    }

    /// Sends what is due; false if the client has gone.
    async fn push(&mut self) -> Result<bool, Status> {
        let Some(snapshot) = self.snapshot.clone() else { return Ok(true) };
        while let Some(due) = self.due() {
            let Ok(permit) = timeout(self.shared.timing.send, self.responses.clone().reserve_owned()).await else {
                return Err(Status::deadline_exceeded("responses were not read"));
            };
            let Ok(permit) = permit else { return Ok(false) };
            let begin = Instant::now();
            let Some(push) = self.make(due, Arc::clone(&snapshot)).await? else { continue };
            self.shared.metrics.pushed(push.kind, begin.elapsed());
            tracing::debug!(
                proxy = self.connection.client.name(),
                kind = %push.kind,
                resources = push.resources.len(),
                removed = push.removed.len(),
                nonce = push.nonce,
                "push"
            );
            let response = Outgoing::new(W::PROTOCOL, push);
            let response = response.map_err(|error| Status::resource_exhausted(error.to_string()))?;
            permit.send(Ok(Box::new(response)));
            self.sent = Instant::now();
        }
        let (idle, settling) = {
            let session = self.connection.session.lock();
            (session.is_idle(), session.is_settling())
        };
        self.unsettled_since = if settling { self.unsettled_since.or_else(|| Some(Instant::now())) } else { None };
        if idle {
            self.connection.acked.store(self.generation, Ordering::Relaxed);
            if let Some(since) = self.changed_since.take() {
                self.shared.metrics.converged(since.elapsed());
            }
        }
        Ok(true)
    }

    fn due(&self) -> Option<Due> {
        self.connection.session.lock().next()
    }

    /// The difference to what is there, if that need not be translated first.
    fn ready(&self, due: Due, snapshot: &dyn Snapshot) -> Option<Option<Push>> {
        let mut session = self.connection.session.lock();
        let wanted = session.wanted(due.kind);
        let set = snapshot.ready(&self.connection.client, due.kind, &wanted)?;
        Some(session.respond(due, &set))
    }

    /// Takes the difference to what is there; what must be translated first is, on a thread that may be busy for a while.
    async fn make(&self, due: Due, snapshot: Arc<dyn Snapshot>) -> Result<Option<Push>, Status> {
        if let Some(made) = self.ready(due, &*snapshot) {
            return Ok(made);
        }
        let closed = |_| Status::unavailable("the controller is shutting down; connect again");
        let turn = Arc::clone(&self.shared.translations).acquire_owned().await.map_err(closed)?;
        // Who waited before may have made it for all who are alike.
        if let Some(made) = self.ready(due, &*snapshot) {
            return Ok(made);
        }
        let connection = Arc::clone(&self.connection);
        let span = tracing::info_span!("push", proxy = connection.client.name(), kind = %due.kind);
        let work = move || {
            let _entered = span.enter();
            let _turn = turn;
            let wanted = connection.session.lock().wanted(due.kind);
            let set = snapshot.resources(&connection.client, due.kind, &wanted);
            connection.session.lock().respond(due, &set)
        };
        tokio::task::spawn_blocking(work).await.map_err(|error| {
            tracing::error!(%error, kind = %due.kind, "translation failed");
            Status::internal(format!("{} could not be made for this proxy; see the controller's log", due.kind))
        })
    }

    /// When to wake up if nothing comes.
    fn alarm(&self) -> Option<Instant> {
        let settled = self.unsettled_since.map(|since| since + self.shared.timing.settle);
        let waiting = self.connection.session.lock().is_waiting();
        let overdue = waiting.then(|| self.sent + self.shared.timing.answer).filter(|at| *at > Instant::now());
        [settled, overdue].into_iter().flatten().min()
    }

    fn ring(&mut self) {
        let now = Instant::now();
        let mut session = self.connection.session.lock();
        if self.unsettled_since.is_some_and(|since| now >= since + self.shared.timing.settle) {
            session.settled();
            self.unsettled_since = None;
        }
        if session.is_waiting() && now >= self.sent + self.shared.timing.answer {
            session.overdue();
        }
    }
}
