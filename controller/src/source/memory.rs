//! Objects that the program makes itself, such as the Pods of a laptop mesh.

use super::{Source, SourceError, send_all};
use crate::index::{Event, Object, ObjectRef};
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

/// How many events may wait.
const WAITING: usize = 256;

/// The source.
pub struct Memory {
    initial: Vec<Object>,
    events: mpsc::Receiver<Event>,
}

/// Changes what a [`Memory`] holds. The source ends when every handle is gone.
#[derive(Clone, Debug)]
pub struct MemoryHandle {
    events: mpsc::Sender<Event>,
}

impl Memory {
    /// A source with these objects to begin with, and the handle to change them.
    pub fn new(initial: Vec<Object>) -> (Self, MemoryHandle) {
        let (sender, events) = mpsc::channel(WAITING);
        (Self { initial, events }, MemoryHandle { events: sender })
    }
}

impl MemoryHandle {
    /// Puts an object there, or another in its place. False if the source has ended.
    pub async fn apply(&self, object: impl Into<Object>) -> bool {
        self.events.send(Event::Apply(object.into())).await.is_ok()
    }

    /// Takes an object away. False if the source has ended.
    pub async fn delete(&self, object: ObjectRef) -> bool {
        self.events.send(Event::Delete(object)).await.is_ok()
    }
}

impl Source for Memory {
    fn name(&self) -> String {
        "memory".to_owned()
    }

    fn run(mut self: Box<Self>, events: mpsc::Sender<Event>) -> BoxFuture<'static, Result<(), SourceError>> {
        Box::pin(async move {
            let initial = std::mem::take(&mut self.initial).into_iter().map(Event::Apply);
            let mut going = send_all(&events, initial.chain([Event::Synced]).collect()).await;
            while going {
                going = tokio::select! {
                    () = events.closed() => false,
                    event = self.events.recv() => match event {
                        Some(event) => events.send(event).await.is_ok(),
                        None => false,
                    },
                };
            }
            Ok(())
        })
    }
}
