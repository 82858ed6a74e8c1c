//! One worker thread's own state: what its connections share without locks.

use std::rc::Rc;
use std::sync::Arc;

use crate::context::Context;
use crate::timer::Timers;
use crate::upstream::Pools;

/// A worker. Lives in one thread; handed around as `Rc<Worker>`.
pub struct Worker {
    /// 0 to concurrency - 1.
    pub index: usize,
    /// What it shares with the other workers.
    pub context: Arc<Context>,
    /// Its upstream connections.
    pub pools: Rc<Pools>,
    /// Timers between two requests.
    pub timers: Timers,
}

impl Worker {
    /// A worker without connections; call inside its thread's runtime.
    pub fn new(index: usize, context: Arc<Context>) -> Rc<Self> {
        let pools = Rc::new(Pools::numbered_by(context.connection_ids.clone()));
        Rc::new(Self { index, pools, context, timers: Timers::default() })
    }
}
