//! The plugin's side of the agent's socket.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::{CniError, Pod};
use crate::wire::{self, Answer, Question, Verb};

/// How the agent is spoken to.
#[derive(Debug, Clone)]
pub struct Agent {
    /// Longest time of the answer; the agent itself takes no longer than its own limits, which are shorter.
    pub patience: Duration,
}

impl Default for Agent {
    fn default() -> Self {
        Self { patience: Duration::from_secs(30) }
    }
}

impl Agent {
    /// Lets the agent do it, or says why the pod cannot start.
    pub(super) fn attend(&self, verb: Verb, pod: &Pod, namespace: &str, socket: &str) -> Result<(), CniError> {
        let Pod { namespace: of, name, .. } = pod;
        let answer = match self.answer(verb, pod, namespace, socket) {
            Ok(answer) => answer,
            Err(error) => Answer::Unknown(format!("the node's agent does not answer at {socket}: {error}")),
        };
        match answer {
            Answer::Redirected | Answer::Left(_) => Ok(()),
            Answer::Failed(reason) => {
                let message = format!("pod {of}/{name}: its traffic is not redirected to its sidecar: {reason}");
                Err(CniError::new(CniError::NOT_REDIRECTED, message))
            }
            Answer::Unknown(reason) if pod.promised == Some(true) => Err(CniError::new(
                CniError::LATER,
                format!(
                    "pod {of}/{name} has a sidecar, and its traffic cannot be redirected yet: {reason}; the kubelet tries \
                     again; look at this node's pod of the agent: kubectl get pods -A -o wide -l app=ferromesh-cni"
                ),
            )),
            // It is not known to have one; its istio-validation would hold it up if it has.
            Answer::Unknown(reason) => {
                eprintln!("ferromesh-cni: pod {of}/{name} goes on without being looked at: {reason}");
                Ok(())
            }
        }
    }

    fn answer(&self, verb: Verb, pod: &Pod, namespace: &str, socket: &str) -> io::Result<Answer> {
        let opened = File::open(namespace)
            .map_err(|error| io::Error::new(error.kind(), format!("network namespace {namespace}: {error}")))?;
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(self.patience))?;
        stream.set_write_timeout(Some(self.patience))?;
        let question =
            Question { verb, namespace: pod.namespace.clone(), name: pod.name.clone(), uid: pod.uid.clone() };
        wire::ask(&stream, &question, opened.as_fd())?;
        wire::answer(&stream)
    }
}
