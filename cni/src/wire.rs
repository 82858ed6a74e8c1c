//! What the plugin asks the agent: one line of JSON with the network namespace as a descriptor (SCM_RIGHTS), and one line back.
//!
//! The namespace goes as a descriptor, so that the agent needs no view of the node's folders, and no name that may mean
//! another namespace by then.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Longest line, in bytes.
const LONGEST: usize = 16 * 1024;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Verb {
    /// Redirect.
    Add,
    /// See whether it is.
    Check,
}

/// The question. Fields may be added: plugins of other versions ask, too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Question {
    /// What.
    pub verb: Verb,
    /// The pod's namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID, where the runtime says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "outcome", content = "reason")]
pub enum Answer {
    /// Its traffic goes to its proxy.
    Redirected,
    /// It is none of ours: why.
    Left(String),
    /// It is ours, and is not redirected: why.
    Failed(String),
    /// It cannot be told whether it is ours: why.
    Unknown(String),
}

/// Sends the question with a descriptor.
///
/// # Errors
/// If the other side is gone or does not read within the socket's time.
pub fn ask(stream: &UnixStream, question: &Question, namespace: BorrowedFd<'_>) -> io::Result<()> {
    let bytes = line(question)?;
    let descriptors = [namespace];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let sent = rustix::net::sendmsg(stream, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)?;
    let mut stream = stream;
    stream.write_all(bytes.get(sent..).unwrap_or_default())
}

/// Reads a question and its descriptor.
///
/// # Errors
/// If it is none, has no descriptor, or does not come within the socket's time.
pub fn question(stream: &UnixStream) -> io::Result<(Question, OwnedFd)> {
    let mut text = Vec::new();
    let mut descriptor = None;
    while !text.contains(&b'\n') {
        let mut buffer = [0; 1024];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let parts = &mut [IoSliceMut::new(&mut buffer)];
        let read = rustix::net::recvmsg(stream.as_fd(), parts, &mut control, RecvFlags::CMSG_CLOEXEC)?.bytes;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                // Any further one is closed.
                for one in descriptors {
                    descriptor.get_or_insert(one);
                }
            }
        }
        text.extend_from_slice(buffer.get(..read).unwrap_or_default());
        if read == 0 || text.len() > LONGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no question"));
        }
    }
    let descriptor = descriptor.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no network namespace"))?;
    Ok((parse(&text)?, descriptor))
}

/// Sends the answer.
///
/// # Errors
/// If the other side is gone or does not read within the socket's time.
pub fn reply(mut stream: &UnixStream, answer: &Answer) -> io::Result<()> {
    stream.write_all(&line(answer)?)
}

/// Reads the answer.
///
/// # Errors
/// If it is none, or does not come within the socket's time.
pub fn answer(stream: &UnixStream) -> io::Result<Answer> {
    let mut text = Vec::new();
    stream.take(LONGEST as u64).read_to_end(&mut text)?;
    parse(&text)
}

fn line(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(value)?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn parse<T: DeserializeOwned>(text: &[u8]) -> io::Result<T> {
    Ok(serde_json::from_slice(text)?)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn pod() -> Question {
        Question { verb: Verb::Add, namespace: "shop".into(), name: "cart".into(), uid: Some("1".into()) }
    }

    #[test]
    fn a_question_comes_with_its_descriptor_and_its_answer_goes_back() {
        let (client, server) = UnixStream::pair().unwrap();
        let file = tempfile::tempfile().unwrap();
        ask(&client, &pod(), file.as_fd()).unwrap();
        let (asked, descriptor) = question(&server).unwrap();
        assert_eq!(asked, pod());
        assert_eq!(File::from(descriptor).metadata().unwrap().ino(), file.metadata().unwrap().ino());
        reply(&server, &Answer::Left("no sidecar".into())).unwrap();
        drop(server);
        assert_eq!(answer(&client).unwrap(), Answer::Left("no sidecar".into()));
    }

    #[test]
    fn fields_of_a_later_version_are_passed_over() {
        let text = br#"{"verb":"check","namespace":"a","name":"b","later":[1]}"#;
        let asked: Question = parse(text).unwrap();
        assert_eq!((asked.verb, asked.uid), (Verb::Check, None));
    }

    #[test]
    fn what_is_no_question_is_an_error() {
        for (text, needle) in
            [(&b""[..], "no question"), (b"{}\n", "no network namespace"), (&[b'x'; 40_000], "no question")]
        {
            let (client, server) = UnixStream::pair().unwrap();
            std::thread::scope(|scope| {
                scope.spawn(move || {
                    let mut client = client;
                    // The other side may hang up in the middle.
                    let _ = client.write_all(text);
                });
                assert!(question(&server).unwrap_err().to_string().contains(needle));
                drop(server);
            });
        }
    }
}
