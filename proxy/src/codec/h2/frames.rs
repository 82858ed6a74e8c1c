//! Finds the frames in the bytes of an HTTP/2 connection (RFC 9113, 4.1), without keeping any.

use super::PREFACE;

/// Reads frame heads as they pass.
#[derive(Debug)]
pub(super) struct Frames {
    /// Bytes of preface or payload to pass over.
    skip: usize,
    header: [u8; 9],
    have: usize,
    /// Frames in a row that carry nothing and end nothing.
    empty_run: u32,
    head: Head,
    /// The first bytes of GOAWAY's payload, and how many of them are here; beyond 8, none is read.
    goaway: [u8; 8],
    have_goaway: usize,
}

/// How far the head of a message has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Head {
    /// There is none, or it is whole.
    None,
    /// A CONTINUATION must follow.
    Open,
    /// The frame that ends it is being read.
    Ending,
}

/// What was in some bytes: frames whose heads end in them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// SETTINGS, PING, GOAWAY, and frames of types that nobody knows; acknowledgements aside.
    pub(super) control: u32,
    /// PRIORITY.
    pub(super) priorities: u32,
    /// DATA.
    pub(super) data: u32,
    /// The longest row of HEADERS, CONTINUATION and DATA that carry nothing and end nothing, which ends or goes on here.
    pub(super) empty_run: u32,
    /// WINDOW_UPDATE.
    pub(super) updates: u32,
    /// RST_STREAM.
    pub(super) resets: u32,
    /// HEADERS.
    pub(super) heads: u32,
    /// SETTINGS, acknowledgements aside.
    pub(super) settings: u32,
    /// The last stream and the error code of a GOAWAY.
    pub(super) goaway: Option<(u32, u32)>,
}

impl Frames {
    /// What a client sends: the preface first.
    pub(super) fn of_client() -> Self {
        Self { skip: PREFACE.len(), ..Self::of_server() }
    }

    /// What a server sends.
    pub(super) fn of_server() -> Self {
        Self { skip: 0, header: [0; 9], have: 0, empty_run: 0, head: Head::None, goaway: [0; 8], have_goaway: 8 }
    }

    /// Counts the frames of the next bytes.
    pub(super) fn count(&mut self, mut bytes: &[u8]) -> Counts {
        let mut counts = Counts::default();
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.look(&bytes[..skipped], &mut counts);
                self.skip -= skipped;
                self.end_head();
                bytes = &bytes[skipped..];
                continue;
            }
            let taken = (self.header.len() - self.have).min(bytes.len());
            self.header[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have == self.header.len() {
                self.begin(&mut counts);
            }
        }
        counts
    }

    fn begin(&mut self, counts: &mut Counts) {
        let [a, b, c, kind, flags, ..] = self.header;
        self.skip = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        self.have = 0;
        if matches!(kind, 1 | 9) {
            self.head = if flags & 4 == 0 { Head::Open } else { Head::Ending };
            self.end_head();
        }
        if matches!(kind, 0 | 1 | 9) {
            self.empty_run = if self.skip == 0 && (flags & 1 == 0 || kind == 9) { self.empty_run + 1 } else { 0 };
            counts.empty_run = counts.empty_run.max(self.empty_run);
        }
        match kind {
            0 => counts.data += 1,
            1 => counts.heads += 1,
            2 => counts.priorities += 1,
            3 => counts.resets += 1,
            // Acknowledgements answer what we asked.
            4 | 6 if flags & 1 == 1 => {}
            // SETTINGS, PING, GOAWAY, and what no RFC of HTTP/2 itself names.
            4 | 6 | 7 | 10.. => {
                counts.control += 1;
                counts.settings += u32::from(kind == 4);
                if kind == 7 {
                    self.have_goaway = 0;
                }
            }
            8 => counts.updates += 1,
            _ => {}
        }
    }

    fn end_head(&mut self) {
        if self.skip == 0 && self.head == Head::Ending {
            self.head = Head::None;
        }
    }

    /// Whether a message's head has begun and is not whole (RFC 9113, 6.10: nothing else may come before it is).
    pub(super) fn is_in_head(&self) -> bool {
        self.head != Head::None
    }

    /// Whether the bytes so far end with a frame.
    pub(super) fn is_between(&self) -> bool {
        self.skip == 0 && self.have == 0
    }

    /// Reads the last stream and the code out of GOAWAY's payload.
    fn look(&mut self, payload: &[u8], counts: &mut Counts) {
        let wanted = self.goaway.len() - self.have_goaway;
        if wanted == 0 {
            return;
        }
        let taken = wanted.min(payload.len());
        self.goaway[self.have_goaway..self.have_goaway + taken].copy_from_slice(&payload[..taken]);
        self.have_goaway += taken;
        if self.have_goaway == self.goaway.len() {
            let [a, b, c, d, code @ ..] = self.goaway;
            counts.goaway = Some((u32::from_be_bytes([a, b, c, d]) & 0x7fff_ffff, u32::from_be_bytes(code)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0, 0, payload.len() as u8, kind, flags, 0, 0, 0, 0];
        frame.extend_from_slice(payload);
        frame
    }

    #[test]
    fn a_head_is_whole_with_the_last_byte_of_its_last_frame() {
        let mut frames = Frames::of_server();
        let (begin, end) = (frame(1, 0, b"abc"), frame(9, 4, b"def"));
        for (bytes, within) in [(&begin[..], true), (&end[..11], true), (&end[11..], false), (&frame(1, 4, b""), false)]
        {
            frames.count(bytes);
            assert_eq!(frames.is_in_head(), within, "{bytes:?}");
        }
    }

    #[test]
    fn frames_are_counted_however_the_bytes_are_cut() {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        for (kind, flags, payload) in [
            (4, 0, &b""[..]),
            (4, 1, b""),
            (6, 0, b"12345678"),
            (6, 1, b"12345678"),
            (2, 0, b"12345"),
            (0x21, 0, b"?"),
            (1, 5, b"headers"),
            (0, 0, b"data of some length"),
            (0, 0, b""),
            (9, 0, b""),
            (0, 0, b""),
            (0, 1, b""),
            (0, 0, b""),
            (8, 0, b"\0\0\0\x01"),
            (3, 0, b"\0\0\0\x08"),
            (7, 0, b"\x80\0\0\x07\0\0\0\x0bwhy"),
        ] {
            bytes.extend(frame(kind, flags, payload));
        }
        let wanted = Counts {
            control: 4,
            priorities: 1,
            data: 5,
            empty_run: 3,
            updates: 1,
            resets: 1,
            heads: 1,
            settings: 1,
            goaway: Some((7, 11)),
        };
        for size in 1..bytes.len() {
            let (mut frames, mut all) = (Frames::of_client(), Counts::default());
            for piece in bytes.chunks(size) {
                let counts = frames.count(piece);
                all.control += counts.control;
                all.priorities += counts.priorities;
                all.data += counts.data;
                all.empty_run = all.empty_run.max(counts.empty_run);
                all.updates += counts.updates;
                all.resets += counts.resets;
                all.heads += counts.heads;
                all.settings += counts.settings;
                all.goaway = all.goaway.or(counts.goaway);
            }
            assert_eq!(all, wanted, "in pieces of {size}");
            assert!(frames.is_between(), "in pieces of {size}");
        }
    }
}
