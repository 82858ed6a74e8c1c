//! Measures the pressure on each resource, and sets the actions by it.

use std::path::Path;
use std::sync::Arc;

use super::decode::{Config, Resource};
use super::{Overload, WHOLE};
use crate::stats::Store;

impl Config {
    /// Measures for ever; gives up nothing if a measure fails, which is counted.
    pub async fn run(self, overload: Arc<Overload>, stats: Arc<Store>) {
        if self.resources.is_empty() {
            return;
        }
        let scope = stats.root().scope("overload");
        let gauges: Vec<_> = self
            .resources
            .iter()
            .map(|(name, _)| (scope.scope(name).gauge("pressure"), scope.scope(name).counter("failed_updates")))
            .collect();
        let shown: Vec<_> = self
            .actions
            .iter()
            .map(|(action, _)| {
                let scope = scope.scope(action.name());
                (scope.gauge("active"), scope.gauge("scale_percent"))
            })
            .collect();
        let mut pressures = vec![0.0; self.resources.len()];
        loop {
            for (((_, resource), (gauge, failed)), pressure) in self.resources.iter().zip(&gauges).zip(&mut pressures) {
                match measure(resource) {
                    Ok(measured) => {
                        *pressure = measured;
                        gauge.set((measured * 100.0) as u64);
                    }
                    Err(error) => {
                        failed.inc();
                        tracing::debug!(?resource, error, "a resource cannot be measured");
                    }
                }
            }
            for ((action, triggers), (active, percent)) in self.actions.iter().zip(&shown) {
                let of = |name: &str| self.resources.iter().position(|(found, _)| found == name);
                let pressure =
                    |name: &str| of(name).and_then(|place| pressures.get(place)).copied().unwrap_or_default();
                let value =
                    triggers.iter().map(|trigger| trigger.value(pressure(&trigger.resource))).fold(0.0, f64::max);
                let before = overload.values[*action as usize].load(std::sync::atomic::Ordering::Relaxed);
                overload.set(*action, value);
                if (before == WHOLE) != (value >= 1.0) {
                    tracing::warn!(action = action.name(), active = value >= 1.0, "overload");
                }
                active.set(u64::from(value >= 1.0));
                percent.set((value * 100.0) as u64);
            }
            tokio::time::sleep(self.interval).await;
        }
    }
}

fn measure(resource: &Resource) -> Result<f64, String> {
    match resource {
        Resource::Heap(most) => Ok(share(crate::linux::resident_bytes().map_err(|error| error.to_string())?, *most)),
        Resource::Cgroup(most) => cgroup(*most),
        Resource::Injected(path) => number(path)?.parse().map_err(|_| format!("{} holds no number", path.display())),
    }
}

fn share(used: u64, most: u64) -> f64 {
    used as f64 / most.max(1) as f64
}

/// Version 2 of control groups, else version 1.
fn cgroup(most: Option<u64>) -> Result<f64, String> {
    let files = [
        ("/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.max"),
        ("/sys/fs/cgroup/memory/memory.usage_in_bytes", "/sys/fs/cgroup/memory/memory.limit_in_bytes"),
    ];
    let (used, limit) =
        files.into_iter().find(|(used, _)| Path::new(used).exists()).ok_or("there is no control group of memory")?;
    let used = number(Path::new(used))?.parse::<u64>().map_err(|error| error.to_string())?;
    // "max" is no limit.
    let limit = number(Path::new(limit)).ok().and_then(|limit| limit.parse::<u64>().ok());
    let most = [most, limit].into_iter().flatten().min().ok_or("the control group has no limit")?;
    Ok(share(used, most))
}

fn number(path: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(text.trim().to_owned())
}
