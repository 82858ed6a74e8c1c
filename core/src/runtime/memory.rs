//! Freed memory goes back to the system.

use std::time::Duration;

/// The allocator (mimalloc, its `purge_delay`) keeps freed memory for so long before it goes back.
pub const KEPT: Duration = Duration::from_millis(1100);

/// Larger blocks than that have a page of their own.
const BLOCK: usize = 2 << 20;
/// One call looks at a part of what is kept.
const PARTS: usize = 8;

/// Gives back what was freed [`KEPT`] ago. The allocator looks for it when a page is freed, so that without this a process
/// at rest would keep what its last work needed.
pub fn give_back() {
    for _ in 0..PARTS {
        drop(std::hint::black_box(Vec::<u8>::with_capacity(BLOCK)));
    }
}
