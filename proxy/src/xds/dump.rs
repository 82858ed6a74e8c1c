//! Configuration as it came, kept for `/config_dump` in Envoy's shape.

use std::collections::BTreeMap;
use std::time::SystemTime;

use bytes::Bytes;
use ferromesh_proto::{Any, json};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::Kind;

/// What is done with a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// From the bootstrap.
    Static,
    /// Serves.
    Active,
    /// Waits for what it refers to.
    Warming,
}

#[derive(Debug, Clone)]
struct Entry {
    version: Box<str>,
    /// The encoded resource; its type is that of its kind.
    value: Bytes,
    state: State,
    updated: SystemTime,
    /// The last update that was refused, and why.
    error: Option<Box<(String, String)>>,
}

/// A resource as it came.
pub(super) struct Known {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) any: Any,
    pub(super) is_static: bool,
}

/// Who is not ready yet, and what for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The proxy itself, or one of its resources.
    pub who: String,
    /// What has not come.
    pub targets: Vec<String>,
}

/// What the names of shown resources match; `None` for all.
type Names<'a> = Option<&'a regex::Regex>;

/// Every resource that the proxy holds.
#[derive(Debug, Default)]
pub struct Dump {
    bootstrap: Mutex<Option<(Any, SystemTime)>>,
    entries: Mutex<BTreeMap<(Kind, String), Entry>>,
    waiting: Mutex<Vec<Waiting>>,
}

impl Dump {
    /// Notes the bootstrap.
    pub fn set_bootstrap(&self, any: Any) {
        *self.bootstrap.lock() = Some((any, SystemTime::now()));
    }

    /// Notes an accepted resource, and shares its bytes.
    pub fn set(&self, kind: Kind, name: &str, version: &str, any: &Any, state: State) {
        let mut entries = self.entries.lock();
        let key = (kind, name.to_owned());
        // What came again is kept once, by whoever kept it before.
        let known = entries.get(&key).map(|entry| &entry.value).filter(|value| **value == any.value);
        let value = known.unwrap_or(&any.value).clone();
        let entry = Entry { version: version.into(), value, state, updated: SystemTime::now(), error: None };
        entries.insert(key, entry);
    }

    /// Notes that a resource serves now.
    pub fn activate(&self, kind: Kind, name: &str) {
        if let Some(entry) = self.entries.lock().get_mut(&(kind, name.to_owned()))
            && entry.state == State::Warming
        {
            entry.state = State::Active;
        }
    }

    /// Notes that an update was refused; the last good form stays.
    pub fn refuse(&self, kind: Kind, name: &str, version: &str, error: &str) {
        if let Some(entry) = self.entries.lock().get_mut(&(kind, name.to_owned())) {
            entry.error = Some(Box::new((version.to_owned(), error.to_owned())));
        }
    }

    /// Notes that a resource is gone.
    pub fn remove(&self, kind: Kind, name: &str) {
        self.entries.lock().remove(&(kind, name.to_owned()));
    }

    /// Notes who waits.
    pub(super) fn set_waiting(&self, waiting: Vec<Waiting>) {
        *self.waiting.lock() = waiting;
    }

    /// Who waits.
    pub fn waiting(&self) -> Vec<Waiting> {
        self.waiting.lock().clone()
    }

    /// Resources of a kind.
    pub(super) fn known(&self, kind: Kind) -> Vec<Known> {
        let known = |(name, entry): (String, Entry)| Known {
            name,
            version: entry.version.into(),
            any: Any { type_url: kind.type_url(), value: entry.value },
            is_static: entry.state == State::Static,
        };
        self.of(kind, None).into_iter().map(known).collect()
    }

    /// Versions by name.
    pub fn versions(&self, kind: Kind) -> Vec<(String, String)> {
        self.of(kind, None).into_iter().map(|(name, entry)| (name, entry.version.into())).collect()
    }

    fn of(&self, kind: Kind, names: Names<'_>) -> Vec<(String, Entry)> {
        let entries = self.entries.lock();
        let is_asked = |name: &str| names.is_none_or(|names| names.is_match(name));
        let of_kind = entries.iter().filter(|((found, name), _)| *found == kind && is_asked(name));
        of_kind.map(|((_, name), entry)| (name.clone(), entry.clone())).collect()
    }

    /// The dump in Envoy's shape; endpoints only if `eds`, resources only of these names. Private keys are never shown.
    pub fn to_json(&self, eds: bool, names: Names<'_>) -> Value {
        let mut configs = Vec::new();
        if let Some((any, updated)) = &*self.bootstrap.lock() {
            let mut bootstrap = json::any_to_json(any, false);
            redact(&mut bootstrap);
            configs.push(json!({
                "@type": "type.googleapis.com/envoy.admin.v3.BootstrapConfigDump",
                "bootstrap": bootstrap,
                "last_updated": timestamp(*updated),
            }));
        }
        configs.push(self.clusters(names));
        if eds {
            configs.push(self.plain(
                "EndpointsConfigDump",
                Kind::Endpoint,
                "endpoint_configs",
                "endpoint_config",
                names,
            ));
        }
        configs.push(self.listeners(names));
        configs.push(self.plain("RoutesConfigDump", Kind::Route, "route_configs", "route_config", names));
        configs.push(self.secrets(names));
        configs.push(self.plain("EcdsConfigDump", Kind::Extension, "ecds_filters", "ecds_filter", names));
        let mut dump = json!({ "configs": configs });
        // Clusters and listeners may hold keys inline, too.
        redact(&mut dump);
        dump
    }

    fn clusters(&self, names: Names<'_>) -> Value {
        let mut dump = json!({ "@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump" });
        for (_, entry) in self.of(Kind::Cluster, names) {
            let list = match entry.state {
                State::Static => "static_clusters",
                State::Active => "dynamic_active_clusters",
                State::Warming => "dynamic_warming_clusters",
            };
            push(&mut dump, list, shown(Kind::Cluster, "cluster", &entry));
        }
        dump
    }

    fn listeners(&self, names: Names<'_>) -> Value {
        let mut dump = json!({ "@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump" });
        for (name, entry) in self.of(Kind::Listener, names) {
            match entry.state {
                State::Static => push(&mut dump, "static_listeners", shown(Kind::Listener, "listener", &entry)),
                state => {
                    let place = if state == State::Active { "active_state" } else { "warming_state" };
                    let mut listener = json!({ "name": name, place: shown(Kind::Listener, "listener", &entry) });
                    if let Some((version, error)) = entry.error.as_deref() {
                        listener["error_state"] = json!({ "version_info": version, "details": error });
                    }
                    push(&mut dump, "dynamic_listeners", listener);
                }
            }
        }
        dump
    }

    fn plain(&self, message: &str, kind: Kind, lists: &str, field: &str, names: Names<'_>) -> Value {
        let mut dump = json!({ "@type": format!("type.googleapis.com/envoy.admin.v3.{message}") });
        for (_, entry) in self.of(kind, names) {
            let origin = if entry.state == State::Static { "static" } else { "dynamic" };
            push(&mut dump, &format!("{origin}_{lists}"), shown(kind, field, &entry));
        }
        dump
    }

    fn secrets(&self, names: Names<'_>) -> Value {
        let mut dump = json!({ "@type": "type.googleapis.com/envoy.admin.v3.SecretsConfigDump" });
        for (name, entry) in self.of(Kind::Secret, names) {
            let mut secret = shown(Kind::Secret, "secret", &entry);
            secret["name"] = name.into();
            redact(&mut secret);
            let list = if entry.state == State::Static { "static_secrets" } else { "dynamic_active_secrets" };
            push(&mut dump, list, secret);
        }
        dump
    }
}

fn push(dump: &mut Value, list: &str, value: Value) {
    if let Value::Array(items) = dump[list].take() {
        dump[list] = Value::Array(items.into_iter().chain([value]).collect());
    } else {
        dump[list] = json!([value]);
    }
}

fn shown(kind: Kind, field: &str, entry: &Entry) -> Value {
    let any = Any { type_url: kind.type_url(), value: entry.value.clone() };
    let mut value = json!({ field: json::any_to_json(&any, true), "last_updated": timestamp(entry.updated) });
    if entry.state != State::Static {
        value["version_info"] = (*entry.version).into();
    }
    value
}

/// Hides private keys and session ticket keys, at any depth.
fn redact(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(redact),
        Value::Object(fields) => {
            for (name, value) in fields {
                if matches!(name.as_str(), "private_key" | "password" | "session_ticket_keys" | "generic_secret") {
                    *value = json!({ "inline_string": "[redacted]" });
                } else {
                    redact(value);
                }
            }
        }
        _ => {}
    }
}

fn timestamp(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map(|time| time.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use ferromesh_proto::envoy::config::core::v3::{DataSource, data_source};
    use ferromesh_proto::envoy::extensions::transport_sockets::tls::v3::{Secret, TlsCertificate, secret};

    use super::*;

    #[test]
    fn a_private_key_is_never_shown() {
        let key = DataSource {
            specifier: Some(data_source::Specifier::InlineString("KEY MATERIAL".into())),
            ..DataSource::default()
        };
        let certificate = TlsCertificate { private_key: Some(key), ..TlsCertificate::default() };
        let secret = Secret { name: "s".into(), r#type: Some(secret::Type::TlsCertificate(certificate)) };
        let dump = Dump::default();
        dump.set(Kind::Secret, "s", "1", &Any::pack(&secret), State::Active);
        let shown = dump.to_json(false, None).to_string();
        assert!(shown.contains("[redacted]") && !shown.contains("KEY MATERIAL"), "{shown}");
    }

    #[test]
    fn a_refused_update_is_shown_beside_the_form_that_serves() {
        let dump = Dump::default();
        let any = Any { type_url: Kind::Listener.type_url(), value: bytes::Bytes::new() };
        dump.set(Kind::Listener, "l", "1", &any, State::Active);
        dump.refuse(Kind::Listener, "l", "2", "no");
        let shown = dump.to_json(false, None);
        let listeners = &shown["configs"][1];
        assert_eq!(listeners["dynamic_listeners"][0]["error_state"]["details"], "no");
        assert_eq!(listeners["dynamic_listeners"][0]["active_state"]["version_info"], "1");
    }
}
