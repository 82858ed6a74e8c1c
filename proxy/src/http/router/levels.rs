//! Priorities that further tries avoid (Envoy, "Retry plugin configuration", `previous_priorities`). Pure.

use std::sync::Arc;

use crate::cluster::Host;

/// The priorities to avoid.
#[derive(Debug, Default)]
pub(super) struct AvoidedLevels {
    /// They.
    pub(super) avoided: Vec<u32>,
    /// Tries before this one do not count any more.
    from: usize,
}

impl AvoidedLevels {
    /// Before a further try: after every `every` tries, all priorities that were tried are avoided.
    pub(super) fn update(&mut self, previous: &[Arc<Host>], every: u32) {
        let counted = previous.get(self.from..).unwrap_or_default();
        if counted.len() >= every as usize && counted.len().is_multiple_of(every as usize) {
            self.avoided = counted.iter().map(|host| host.priority).collect();
        }
    }

    /// A host was picked after `tries` tries: one of an avoided priority says that no other was left, so that all
    /// begins anew.
    pub(super) fn picked(&mut self, host: &Host, tries: usize) {
        if self.avoided.contains(&host.priority) {
            self.avoided.clear();
            self.from = tries;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::LbContext;
    use crate::cluster::tests::cluster;

    #[test]
    fn priorities_take_turns_and_begin_anew_when_all_were_tried() {
        let endpoint = |level: u32| {
            format!(
                "{{priority: {level}, lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.{}, \
                 port_value: 1}}}}}}}}]}}",
                level + 1
            )
        };
        let cluster = cluster(&format!(
            "{{name: c, load_assignment: {{cluster_name: c, endpoints: [{}, {}, {}]}}}}",
            endpoint(0),
            endpoint(1),
            endpoint(2)
        ));
        let tried = |every: u32| {
            let (mut levels, mut previous) = (AvoidedLevels::default(), Vec::new());
            for _ in 0..7 {
                levels.update(&previous, every);
                let context = LbContext { avoid_levels: &levels.avoided, ..LbContext::default() };
                let host = cluster.pick(&context).expect("a host");
                levels.picked(&host, previous.len());
                previous.push(host);
            }
            previous.iter().map(|host| host.priority).collect::<Vec<_>>()
        };
        assert_eq!(tried(1), [0, 1, 2, 0, 1, 2, 0]);
        assert_eq!(tried(2), [0, 0, 1, 1, 2, 2, 0]);
    }
}
