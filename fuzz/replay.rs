//! Runs a fuzz target's body over its corpus and the near neighbours of it, on a stable compiler: a plain test.
//!
//! A crate's test takes this in by `#[path]`, so that fuzzing and testing run the same bodies on the same inputs.

use std::path::Path;

/// Changed copies of each input that are tried, unless FERROMESH_FUZZ_NEIGHBOURS says how many.
const NEIGHBOURS: u64 = 200;

/// Runs `body` on each file of `fuzz/corpus/<target>`, and on copies with some bytes changed, cut or doubled. Which
/// changes is decided by the file alone, so that a failure comes again.
pub fn replay(target: &str, body: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut names: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    names.sort();
    assert!(!names.is_empty(), "{} has no inputs", folder.display());
    let asked = std::env::var("FERROMESH_FUZZ_NEIGHBOURS").ok().and_then(|number| number.parse().ok());
    let neighbours: u64 = asked.unwrap_or(NEIGHBOURS);
    for path in names {
        let bytes = std::fs::read(&path).unwrap();
        run(target, body, &bytes, &path, 0);
        let mut random = Random(
            bytes
                .iter()
                .fold(0x9e37_79b9_7f4a_7c15, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
                | 1,
        );
        for number in 1..=neighbours {
            let mut changed = bytes.clone();
            for _ in 0..=random.below(4) {
                change(&mut changed, &mut random);
            }
            run(target, body, &changed, &path, number);
        }
    }
}

fn run(target: &str, body: fn(&[u8]), bytes: &[u8], path: &Path, number: u64) {
    if std::panic::catch_unwind(|| body(bytes)).is_err() {
        let shown: String = bytes.escape_ascii().to_string();
        panic!("{target} fails on neighbour {number} of {}: b\"{shown}\"", path.display());
    }
}

fn change(bytes: &mut Vec<u8>, random: &mut Random) {
    let interesting = *b"\0\x01\x7f\x80\xff\r\n\t :;,/\\%?#.{}[]\"'$(*+|^-09aZ";
    let at = random.below(bytes.len() as u64 + 1);
    match random.below(6) {
        0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
        1 if at < bytes.len() => bytes[at] = interesting[random.below(interesting.len() as u64)],
        2 => bytes.insert(at, interesting[random.below(interesting.len() as u64)]),
        3 if at < bytes.len() => drop(bytes.remove(at)),
        4 => bytes.truncate(at),
        _ => {
            let end = (at + random.below(16)).min(bytes.len());
            let doubled = bytes[at.min(end)..end].to_vec();
            bytes.splice(at..at, doubled);
        }
    }
}

/// Xorshift: good enough to choose bytes.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit.max(1)).unwrap_or(0)
    }
}
