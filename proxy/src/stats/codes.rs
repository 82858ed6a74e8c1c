//! Answers by their status: room for all of them is made by the first.

use std::sync::OnceLock;

use super::Count;

/// The first status that is counted.
const FIRST: u16 = 100;
/// How many are.
const MANY: usize = 500;

/// Counts statuses 100 to 599; those that came are shown.
#[derive(Debug, Default)]
pub struct Codes(OnceLock<Box<[Count]>>);

impl Codes {
    /// Counts one; what is no status is not counted.
    pub fn count(&self, status: u16) {
        let counts = self.0.get_or_init(|| (0..MANY).map(|_| Count::default()).collect());
        if let Some(count) = status.checked_sub(FIRST).and_then(|place| counts.get(usize::from(place))) {
            count.inc();
        }
    }

    /// Shows each status that came, and how often.
    pub fn each(&self, see: &mut dyn FnMut(u16, u64)) {
        let counts = self.0.get().into_iter().flatten();
        for (status, count) in (FIRST..).zip(counts).filter(|(_, count)| count.get() > 0) {
            see(status, count.get());
        }
    }

    /// Counts from zero again.
    pub fn reset(&self) {
        self.0.get().into_iter().flatten().for_each(Count::reset);
    }
}
