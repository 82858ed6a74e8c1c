//! Envoy's OverloadManager message into monitors and actions.

use std::path::PathBuf;
use std::time::Duration;

use ferromesh_proto::Any;
use ferromesh_proto::envoy::config::overload::v3 as proto;
use ferromesh_proto::envoy::extensions::resource_monitors as monitors;

use super::Action;
use crate::config::supported::Table;
use crate::config::{At, ConfigError, duration, required};

/// Fields of this room's messages that are implemented.
///
/// `ShrinkHeapConfig` has no effect of its own: memory is given back as often as the pressure is measured.
pub const SUPPORTED: Table = &[
    ("envoy.config.overload.v3.OverloadManager", "refresh_interval resource_monitors actions"),
    ("envoy.config.overload.v3.ResourceMonitor", "name typed_config"),
    ("envoy.config.overload.v3.OverloadAction", "name triggers"),
    ("envoy.config.overload.v3.Trigger", "name threshold scaled"),
    ("envoy.config.overload.v3.ThresholdTrigger", "*"),
    ("envoy.config.overload.v3.ScaledTrigger", "*"),
    ("envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig", "max_heap_size_bytes"),
    ("envoy.extensions.resource_monitors.cgroup_memory.v3.CgroupMemoryConfig", "*"),
    ("envoy.extensions.resource_monitors.injected_resource.v3.InjectedResourceConfig", "*"),
    ("envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig", "*"),
];

/// The configuration of an overload manager.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub(super) interval: Duration,
    pub(super) resources: Vec<(String, Resource)>,
    pub(super) actions: Vec<(Action, Vec<Trigger>)>,
    /// Connections of all listeners at most, if a monitor says so.
    pub most_connections: Option<u64>,
}

impl Default for Config {
    fn default() -> Self {
        let interval = Duration::from_secs(1);
        Self { interval, resources: Vec::new(), actions: Vec::new(), most_connections: None }
    }
}

/// What is measured; pressure is what is used of the most, 0 to 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Resource {
    /// Resident bytes of the process.
    Heap(u64),
    /// Bytes of the control group; its own limit if that is less.
    Cgroup(Option<u64>),
    /// The number that a file holds.
    Injected(PathBuf),
}

/// When an action begins.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Trigger {
    /// Name of the resource.
    pub resource: String,
    /// Pressure where it begins, and where it is whole.
    pub from: f64,
    pub to: f64,
}

impl Trigger {
    /// How far the action is active, 0 to 1.
    pub(super) fn value(&self, pressure: f64) -> f64 {
        if pressure >= self.to {
            1.0
        } else if pressure <= self.from {
            0.0
        } else {
            (pressure - self.from) / (self.to - self.from)
        }
    }
}

impl Config {
    /// Decodes the manager of a bootstrap.
    ///
    /// # Errors
    /// Names the monitor, action or field that cannot be served.
    pub fn decode(manager: Option<&proto::OverloadManager>) -> Result<Self, ConfigError> {
        manager.map_or_else(|| Ok(Self::default()), decode).at("overload_manager")
    }
}

fn decode(manager: &proto::OverloadManager) -> Result<Config, ConfigError> {
    let mut config = Config::default();
    if let Some(interval) = duration(manager.refresh_interval, "refresh_interval")? {
        config.interval = interval.max(Duration::from_millis(1));
    }
    for (place, monitor) in manager.resource_monitors.iter().enumerate() {
        let at = format!("resource_monitors[{place}]");
        if config.resources.iter().any(|(name, _)| *name == monitor.name) {
            return Err(ConfigError::new(format!("{at}.name"), format!("{:?} comes twice", monitor.name)));
        }
        let proto::resource_monitor::ConfigType::TypedConfig(any) =
            required(monitor.config_type.as_ref(), "typed_config").at(&at)?;
        match resource(any).at("typed_config").at(&at)? {
            Measured::Pressure(resource) => config.resources.push((monitor.name.clone(), resource)),
            Measured::Connections(most) => config.most_connections = Some(most),
        }
    }
    for (place, action) in manager.actions.iter().enumerate() {
        let at = format!("actions[{place}]");
        let known = Action::ALL.into_iter().find(|known| known.name() == action.name);
        let unknown = || ConfigError::new("name", format!("{:?} is not implemented", action.name));
        let known = known.ok_or_else(unknown).at(&at)?;
        let triggers = action
            .triggers
            .iter()
            .enumerate()
            .map(|(place, found)| trigger(found, &config.resources).at(format_args!("triggers[{place}]")));
        let triggers = triggers.collect::<Result<_, _>>().at(&at)?;
        config.actions.push((known, triggers));
    }
    Ok(config)
}

enum Measured {
    Pressure(Resource),
    Connections(u64),
}

fn resource(any: &Any) -> Result<Measured, ConfigError> {
    let broken = |error: ferromesh_proto::UnpackError| ConfigError::new("", error.to_string());
    if any.is::<monitors::fixed_heap::v3::FixedHeapConfig>() {
        let config: monitors::fixed_heap::v3::FixedHeapConfig = any.unpack().map_err(broken)?;
        if config.max_heap_size_bytes == 0 {
            return Err(ConfigError::new("max_heap_size_bytes", "must be greater than 0"));
        }
        return Ok(Measured::Pressure(Resource::Heap(config.max_heap_size_bytes)));
    }
    if any.is::<monitors::cgroup_memory::v3::CgroupMemoryConfig>() {
        let config: monitors::cgroup_memory::v3::CgroupMemoryConfig = any.unpack().map_err(broken)?;
        let most = Some(config.max_memory_bytes).filter(|most| *most > 0);
        return Ok(Measured::Pressure(Resource::Cgroup(most)));
    }
    if any.is::<monitors::injected_resource::v3::InjectedResourceConfig>() {
        let config: monitors::injected_resource::v3::InjectedResourceConfig = any.unpack().map_err(broken)?;
        return Ok(Measured::Pressure(Resource::Injected(config.filename.into())));
    }
    if any.is::<monitors::downstream_connections::v3::DownstreamConnectionsConfig>() {
        let config: monitors::downstream_connections::v3::DownstreamConnectionsConfig = any.unpack().map_err(broken)?;
        return match u64::try_from(config.max_active_downstream_connections) {
            Ok(most @ 1..) => Ok(Measured::Connections(most)),
            _ => Err(ConfigError::new("max_active_downstream_connections", "must be greater than 0")),
        };
    }
    Err(ConfigError::new("", format!("resource monitor {:?} is not implemented", any.type_url)))
}

fn trigger(found: &proto::Trigger, resources: &[(String, Resource)]) -> Result<Trigger, ConfigError> {
    use proto::trigger::TriggerOneof;
    if !resources.iter().any(|(name, _)| *name == found.name) {
        return Err(ConfigError::new(
            "name",
            format!("{:?} is no resource monitor that measures pressure", found.name),
        ));
    }
    let (from, to) = match required(found.trigger_oneof.as_ref(), "threshold")? {
        TriggerOneof::Threshold(threshold) => (threshold.value, threshold.value),
        TriggerOneof::Scaled(scaled) if scaled.scaling_threshold < scaled.saturation_threshold => {
            (scaled.scaling_threshold, scaled.saturation_threshold)
        }
        TriggerOneof::Scaled(_) => {
            return Err(ConfigError::new("scaled", "scaling_threshold must be less than saturation_threshold"));
        }
    };
    if !(0.0..=1.0).contains(&from) || !(0.0..=1.0).contains(&to) {
        return Err(ConfigError::new("threshold", "must be 0 to 1"));
    }
    Ok(Trigger { resource: found.name.clone(), from, to })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(yaml: &str) -> Result<Config, ConfigError> {
        Config::decode(Some(&ferromesh_proto::json::from_yaml(yaml).unwrap()))
    }

    const HEAP: &str = "{name: heap, typed_config: {'@type': type.googleapis.com/envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig, max_heap_size_bytes: 1000}}";

    #[test]
    fn a_trigger_is_whole_at_its_threshold_and_grows_between_two() {
        let scaled = Trigger { resource: String::new(), from: 0.5, to: 0.9 };
        for (pressure, value) in [(0.4, 0.0), (0.5, 0.0), (0.7, 0.5), (0.9, 1.0), (2.0, 1.0)] {
            assert!((scaled.value(pressure) - value).abs() < 1e-9, "{pressure}");
        }
        let threshold = Trigger { resource: String::new(), from: 0.9, to: 0.9 };
        assert_eq!([0.89, 0.9].map(|pressure| threshold.value(pressure)), [0.0, 1.0]);
    }

    #[test]
    fn what_is_not_known_is_refused_by_its_path() {
        let action = |name: &str, resource: &str| {
            format!(
                "{{resource_monitors: [{HEAP}], actions: [{{name: {name}, triggers: [{{name: {resource}, threshold: {{value: 0.9}}}}]}}]}}"
            )
        };
        assert!(decoded(&action("envoy.overload_actions.shrink_heap", "heap")).is_ok());
        for (yaml, path) in [
            (action("envoy.overload_actions.reduce_timeouts", "heap"), "overload_manager.actions[0].name"),
            (action("envoy.overload_actions.shrink_heap", "other"), "overload_manager.actions[0].triggers[0].name"),
            (format!("{{resource_monitors: [{HEAP}, {HEAP}]}}"), "overload_manager.resource_monitors[1].name"),
        ] {
            assert_eq!(decoded(&yaml).unwrap_err().path, path);
        }
    }
}
