//! The agent's socket: questions of the plugin in, rules in a pod's network namespace and answers out.
//!
//! A fixed number of threads accept and answer, one question each at a time; whoever comes beyond waits in the kernel's queue.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::decide::{Decision, decide};
use crate::metrics::{AgentMetrics, Outcome};
use crate::netns;
use crate::pods::Pods;
use crate::wire::{self, Answer, Question, Verb};

/// Questions that are answered at a time.
const WORKERS: usize = 16;
/// For the question to come, and for the answer to be taken.
const PATIENCE: Duration = Duration::from_secs(5);
/// After an accept that failed.
const PAUSE: Duration = Duration::from_millis(100);

struct Shared {
    listener: UnixListener,
    pods: Box<dyn Pods>,
    metrics: AgentMetrics,
}

/// Listens and answers until the process ends. The socket is root's alone; one that an agent before has left makes way
/// in one step, so that there is no time without any.
///
/// # Errors
/// If the socket cannot be made.
pub fn start(socket: &Path, pods: Box<dyn Pods>, metrics: AgentMetrics) -> io::Result<()> {
    let mut beside = socket.as_os_str().to_owned();
    beside.push(".new");
    crate::files::remove(Path::new(&beside))?;
    let listener = UnixListener::bind(&beside)?;
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o600))?;
    let shared = Arc::new(Shared { listener, pods, metrics });
    for number in 0..WORKERS {
        let shared = Arc::clone(&shared);
        std::thread::Builder::new().name(format!("pods-{number}")).spawn(move || work(&shared))?;
    }
    std::fs::rename(&beside, socket)
}

fn work(shared: &Shared) {
    loop {
        match shared.listener.accept() {
            Ok((stream, _)) => {
                if let Err(error) = serve(shared, &stream) {
                    tracing::warn!(%error, "a question could not be answered");
                }
            }
            // Out of file descriptors, most likely: do not spin on it.
            Err(error) => {
                tracing::warn!(%error, "accept");
                std::thread::sleep(PAUSE);
            }
        }
    }
}

fn serve(shared: &Shared, stream: &UnixStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let (question, namespace) = wire::question(stream)?;
    let answer = answer(shared.pods.as_ref(), &question, &namespace);
    let Question { namespace, name, .. } = &question;
    let outcome = match &answer {
        Answer::Redirected => {
            tracing::info!(namespace, name, verb = ?question.verb, "redirected");
            "redirected"
        }
        Answer::Left(reason) => {
            tracing::debug!(namespace, name, reason, "left alone");
            "left"
        }
        Answer::Failed(reason) => {
            tracing::error!(namespace, name, reason, "not redirected");
            "failed"
        }
        Answer::Unknown(reason) => {
            tracing::warn!(namespace, name, reason, "not known");
            "unknown"
        }
    };
    shared.metrics.pods.get_or_create(&Outcome::of(outcome)).inc();
    wire::reply(stream, &answer)
}

fn answer(pods: &dyn Pods, question: &Question, namespace: &impl AsFd) -> Answer {
    let pod = match pods.get(&question.namespace, &question.name) {
        Ok(Some(pod)) => pod,
        Ok(None) => return Answer::Unknown("the API server has no such pod".into()),
        Err(reason) => return Answer::Unknown(reason),
    };
    // Another pod of the name, before or after this one; a static pod has one UID here and another at the API server.
    if question.uid.is_some() && question.uid != pod.metadata.uid {
        return Answer::Unknown("the API server has another pod of that name".into());
    }
    let plan = match decide(&pod) {
        Ok(Decision::Redirect(plan)) => plan,
        Ok(Decision::Leave(reason)) => return Answer::Left(reason.into()),
        Err(error) => return Answer::Failed(error.to_string()),
    };
    let done = match question.verb {
        Verb::Add => netns::redirect(namespace.as_fd(), &plan),
        Verb::Check => netns::check(namespace.as_fd()),
    };
    done.map_or_else(|error| Answer::Failed(error.to_string()), |()| Answer::Redirected)
}
