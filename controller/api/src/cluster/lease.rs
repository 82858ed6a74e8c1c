//! One writer among replicas: whoever holds a Lease (coordination.k8s.io) leads.
//!
//! A replica counts a Lease's time from when it saw it change, by its own clock, so clocks need not agree; and it stops
//! leading before its Lease can be taken, so that there are never two.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::watch;

use super::{Cluster, ClusterError, Resource};

const LEASES: Resource = Resource::namespaced("coordination.k8s.io", "v1", "leases");
/// How long a Lease that is not renewed stays its holder's.
const DURATION: Duration = Duration::from_secs(15);
/// A leader that could not renew for so long leads no more.
const DEADLINE: Duration = Duration::from_secs(10);
/// How often the Lease is looked at, and renewed.
const EVERY: Duration = Duration::from_secs(2);

/// Which Lease, and who asks for it.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The Lease's namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Who asks: unique among the replicas, such as the pod's name.
    pub identity: String,
}

/// What stands in a Lease, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Record {
    version: String,
    holder: String,
    transitions: i64,
    acquired: String,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// There is none: make it.
    Create,
    /// It is ours: renew it.
    Renew,
    /// Nobody's, or not renewed for long enough: take it.
    Take,
    /// Somebody else's.
    Wait,
}

/// Decides; `seen` is when the record last changed, by our clock.
fn decide(record: Option<&Record>, identity: &str, seen: Instant, now: Instant) -> Step {
    match record {
        None => Step::Create,
        Some(record) if record.holder == identity => Step::Renew,
        Some(record) if record.holder.is_empty() || now.saturating_duration_since(seen) >= DURATION => Step::Take,
        Some(_) => Step::Wait,
    }
}

/// Asks for the Lease, and keeps it, until `stop` is done; then gives it back. `leading` says whether it is ours.
pub async fn campaign(
    cluster: Cluster,
    candidate: Candidate,
    leading: watch::Sender<bool>,
    stop: impl Future<Output = ()>,
) {
    let mut stop = std::pin::pin!(stop);
    let mut state = State { record: None, seen: Instant::now(), renewed: None };
    loop {
        let outcome = tokio::select! {
            () = &mut stop => break,
            outcome = state.step(&cluster, &candidate) => outcome,
        };
        if let Err(error) = &outcome
            && !error.is_conflict()
        {
            tracing::warn!(%error, lease = candidate.name, "leader election");
        }
        let leads = state.renewed.is_some_and(|renewed| renewed.elapsed() < DEADLINE);
        let changed = leading.send_if_modified(|leading| std::mem::replace(leading, leads) != leads);
        if changed {
            tracing::info!(lease = candidate.name, identity = candidate.identity, leads, "leader election");
        }
        tokio::select! {
            () = &mut stop => break,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
    leading.send_replace(false);
    if state.renewed.is_some() {
        // A successor need not wait.
        let _ = state.release(&cluster, &candidate).await;
    }
}

struct State {
    record: Option<Record>,
    seen: Instant,
    renewed: Option<Instant>,
}

impl State {
    async fn step(&mut self, cluster: &Cluster, candidate: &Candidate) -> Result<(), ClusterError> {
        let place = LEASES.named(&candidate.namespace, &candidate.name);
        let begun = Instant::now();
        let found = match cluster.get::<Value>(&place).await {
            Ok(lease) => Some(record(&lease)),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error),
        };
        if found != self.record {
            self.seen = Instant::now();
            self.record = found;
        }
        let step = decide(self.record.as_ref(), &candidate.identity, self.seen, Instant::now());
        let old = self.record.clone().unwrap_or_default();
        let now = now();
        let lease = match step {
            Step::Wait => {
                self.renewed = None;
                return Ok(());
            }
            Step::Create => {
                let body = body(candidate, &old, &now, &now, 0);
                cluster.create::<Value>(&LEASES.all(Some(&candidate.namespace)), &body).await
            }
            Step::Renew => {
                let body = body(candidate, &old, &old.acquired, &now, old.transitions);
                cluster.replace(&place, &body).await
            }
            Step::Take => {
                let body = body(candidate, &old, &now, &now, old.transitions + 1);
                cluster.replace(&place, &body).await
            }
        };
        let lease = lease.inspect_err(|error| {
            if error.is_conflict() {
                self.renewed = None;
            }
        })?;
        // Counted from before the call: the Lease may have been taken at any time since.
        self.renewed = Some(begun);
        self.record = Some(record(&lease));
        self.seen = begun;
        Ok(())
    }

    async fn release(&self, cluster: &Cluster, candidate: &Candidate) -> Result<(), ClusterError> {
        let Some(record) = &self.record else { return Ok(()) };
        let mut free = body(candidate, record, &record.acquired, &now(), record.transitions);
        free["spec"]["holderIdentity"] = json!("");
        free["spec"]["leaseDurationSeconds"] = json!(1);
        let place = LEASES.named(&candidate.namespace, &candidate.name);
        cluster.replace::<Value>(&place, &free).await.map(drop)
    }
}

fn record(lease: &Value) -> Record {
    let text = |path: &str| lease.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    Record {
        version: text("/metadata/resourceVersion"),
        holder: text("/spec/holderIdentity"),
        transitions: lease.pointer("/spec/leaseTransitions").and_then(Value::as_i64).unwrap_or_default(),
        acquired: text("/spec/acquireTime"),
    }
}

fn body(candidate: &Candidate, old: &Record, acquired: &str, renewed: &str, transitions: i64) -> Value {
    let acquired = if acquired.is_empty() { renewed } else { acquired };
    let mut body = json!({
        "apiVersion": LEASES.api_version(),
        "kind": "Lease",
        "metadata": {"name": candidate.name, "namespace": candidate.namespace},
        "spec": {
            "holderIdentity": candidate.identity,
            "leaseDurationSeconds": DURATION.as_secs(),
            "acquireTime": acquired,
            "renewTime": renewed,
            "leaseTransitions": transitions,
        },
    });
    if !old.version.is_empty() {
        body["metadata"]["resourceVersion"] = json!(old.version);
    }
    body
}

/// Now as a MicroTime.
fn now() -> String {
    format!("{:.6}", jiff::Timestamp::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_by(holder: &str) -> Record {
        Record { holder: holder.into(), ..Record::default() }
    }

    #[test]
    fn a_lease_is_taken_only_when_it_is_free_or_was_not_renewed_for_its_time() {
        let seen = Instant::now();
        let (soon, late) = (seen + DURATION / 2, seen + DURATION);
        let cases = [
            (None, soon, Step::Create),
            (Some("me"), late, Step::Renew),
            (Some(""), soon, Step::Take),
            (Some("you"), soon, Step::Wait),
            (Some("you"), late, Step::Take),
        ];
        for (holder, now, step) in cases {
            let record = holder.map(held_by);
            assert_eq!(decide(record.as_ref(), "me", seen, now), step, "{holder:?}");
        }
    }

    #[test]
    fn a_leader_stops_before_its_lease_can_be_taken() {
        const { assert!(DEADLINE.as_secs() + 2 * EVERY.as_secs() < DURATION.as_secs() + 1) };
    }

    #[test]
    fn a_time_is_written_as_kubernetes_reads_it() {
        let text = now();
        assert!(text.ends_with('Z') && text.split('.').nth(1).is_some_and(|part| part.len() == 7), "{text}");
    }
}
