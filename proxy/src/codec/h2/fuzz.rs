//! Frames of HTTP/2 as the guard counts them: the same, wherever the bytes are cut.

use super::frames::{Counts, Frames};

fn counted(mut frames: Frames, pieces: impl Iterator<Item = impl AsRef<[u8]>>) -> Counts {
    let mut all = Counts::default();
    for piece in pieces {
        let counts = frames.count(piece.as_ref());
        all.control += counts.control;
        all.priorities += counts.priorities;
        all.data += counts.data;
        all.empty_run = all.empty_run.max(counts.empty_run);
        all.updates += counts.updates;
        all.resets += counts.resets;
        all.heads += counts.heads;
        all.settings += counts.settings;
        all.goaway = counts.goaway.or(all.goaway);
    }
    all
}

/// Bytes of either side, whole and in pieces.
pub fn h2_frames(data: &[u8]) {
    for frames in [Frames::of_client, Frames::of_server] {
        let whole = counted(frames(), std::iter::once(data));
        let most = u32::try_from(data.len() / 9).unwrap_or(u32::MAX);
        assert!(
            whole.control.saturating_add(whole.priorities).saturating_add(whole.updates).saturating_add(whole.resets)
                <= most
        );
        for size in [1, 2, 7, 9, 10] {
            assert_eq!(counted(frames(), data.chunks(size)), whole, "in pieces of {size}");
        }
    }
}
