//! Answers counted by their status under Envoy's names: `upstream_rq_503`, and the same by who asked (`external.`,
//! `internal.`) and of those after which another try came (`retry.`).
//!
//! Source: Envoy, "Cluster manager statistics", dynamic HTTP statistics.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};

use super::{Count, Value};

/// Who asked, or that another try came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// A request from outside.
    External,
    /// An internal request (`x-envoy-internal`).
    Internal,
    /// An answer that is not given on, because another try follows.
    Retry,
}

const SIDES: [(Side, &str); 3] = [(Side::External, "external"), (Side::Internal, "internal"), (Side::Retry, "retry")];

/// Few statuses are ever met in a cluster: a block holds some of them, and makes the next one when it is full.
#[derive(Debug, Default)]
pub struct StatusCodes(OnceLock<Box<Block>>);

#[derive(Debug, Default)]
struct Block {
    places: [Place; 8],
    next: StatusCodes,
}

#[derive(Debug, Default)]
struct Place {
    /// 0 as long as it is free.
    status: AtomicU16,
    counts: [Count; 3],
}

impl Place {
    /// Whether this is, or from now on is, the place of a status.
    fn is_of(&self, status: u16) -> bool {
        // Workers share the line: nothing is written to a place that is taken.
        match self.status.load(Ordering::Relaxed) {
            0 => match self.status.compare_exchange(0, status, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => true,
                Err(taken) => taken == status,
            },
            taken => taken == status,
        }
    }
}

impl StatusCodes {
    /// Counts an answer.
    pub fn count(&self, status: u16, side: Side) {
        let mut codes = self;
        // There are 500 statuses, eight in a block.
        while (100..600).contains(&status) {
            let block = codes.0.get_or_init(Box::default);
            if let Some(place) = block.places.iter().find(|place| place.is_of(status)) {
                return place.counts[side as usize].inc();
            }
            codes = &block.next;
        }
    }

    fn places(&self) -> Vec<&Place> {
        let (mut all, mut codes) = (Vec::new(), self);
        while let Some(block) = codes.0.get() {
            all.extend(block.places.iter().filter(|place| place.status.load(Ordering::Relaxed) != 0));
            codes = &block.next;
        }
        all
    }

    /// Shows each number under its name.
    pub fn each(&self, see: &mut dyn FnMut(&str, Value)) {
        let mut shown: BTreeMap<String, u64> = BTreeMap::new();
        for place in self.places() {
            let status = place.status.load(Ordering::Relaxed);
            for (side, prefix) in SIDES {
                let count = place.counts[side as usize].get();
                if count == 0 {
                    continue;
                }
                let class = format!("{}xx", status / 100);
                for name in ["completed", &class, &status.to_string()] {
                    *shown.entry(format!("{prefix}.upstream_rq_{name}")).or_default() += count;
                }
                if side != Side::Retry {
                    *shown.entry(format!("upstream_rq_{status}")).or_default() += count;
                }
            }
        }
        shown.iter().for_each(|(name, count)| see(name, Value::Counter(*count)));
    }

    /// Counts from zero again.
    pub fn reset(&self) {
        self.places().iter().flat_map(|place| &place.counts).for_each(Count::reset);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_count_by_who_asked() {
        let codes = StatusCodes::default();
        for status in 0..=u16::MAX {
            codes.count(status, Side::External);
        }
        codes.count(503, Side::Internal);
        codes.count(503, Side::Retry);
        let mut shown = BTreeMap::new();
        codes.each(&mut |name, value| {
            let Value::Counter(count) = value else { panic!("{name} is no counter") };
            shown.insert(name.to_owned(), count);
        });
        assert_eq!(shown.keys().filter(|name| name.starts_with("upstream_rq_")).count(), 500);
        for (name, count) in [
            ("upstream_rq_200", 1),
            ("upstream_rq_503", 2),
            ("external.upstream_rq_503", 1),
            ("external.upstream_rq_5xx", 100),
            ("external.upstream_rq_completed", 500),
            ("internal.upstream_rq_5xx", 1),
            ("retry.upstream_rq_completed", 1),
        ] {
            assert_eq!(shown.get(name), Some(&count), "{name}");
        }
        codes.reset();
        codes.each(&mut |name, _| panic!("{name} is still there"));
    }
}
