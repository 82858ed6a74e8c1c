//! The connection manager that a connection uses now: a listener update in, the next request's configuration out.

use std::cell::{Ref, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use crate::http::HttpConnectionManager;

/// Names the connection manager of the connections of one filter chain in one worker.
///
/// Each request takes what it names when its head has come and keeps that to its end. What a codec fixes when the
/// connection begins (HTTP/2's header list size and keepalive) stays as it was.
#[derive(Clone)]
pub struct ManagerHandle(Rc<RefCell<Arc<HttpConnectionManager>>>);

impl ManagerHandle {
    /// A handle that names `manager`.
    pub fn new(manager: Arc<HttpConnectionManager>) -> Self {
        Self(Rc::new(RefCell::new(manager)))
    }

    /// From the next request on, `manager` is used.
    pub fn store(&self, manager: Arc<HttpConnectionManager>) {
        *self.0.borrow_mut() = manager;
    }

    /// The manager now. Not to be held over an `await`.
    pub fn get(&self) -> Ref<'_, Arc<HttpConnectionManager>> {
        self.0.borrow()
    }
}
