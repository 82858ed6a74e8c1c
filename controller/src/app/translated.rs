//! The translator as what the xDS port serves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::Compile;
use super::endpoints::LastEndpoints;
use crate::envoyfilter::Facts;
use crate::index::{Changes, View};
use crate::serve::client::ClientError;
use crate::serve::hub::Affected;
use crate::serve::session::Wanted;
use crate::serve::{Client, Kind, Kinds, Resource, ResourceSet, Snapshot};
use crate::translate::{self, Node, Translator, TypeSet};

/// Serves what the translator makes of each view; its caches live as long as this does.
#[derive(Default)]
pub struct Translated(Arc<Kept>);

#[derive(Default)]
struct Kept {
    translator: Translator,
    endpoints: LastEndpoints,
}

impl Compile for Translated {
    fn snapshot(&self, view: Arc<View>) -> Arc<dyn Snapshot> {
        Arc::new(Scene { kept: Arc::clone(&self.0), view, sets: Mutex::default(), all_visible: OnceLock::new() })
    }

    fn facts(&self, view: &View) -> Facts {
        self.0.translator.facts(view)
    }

    fn affected(&self, changes: &Changes, old: &View, new: &View) -> Affected {
        let affected = translate::Affected::of(changes, old, new);
        Arc::new(move |client| kinds(affected.of_proxy(client.id.kind, &client.id.namespace, &client.id.pod)))
    }
}

/// Sets made for different lists of names under one key; more are made for each proxy alone.
const MOST_LISTS: usize = 64;

type Names = Arc<BTreeSet<Arc<str>>>;
type Shared = Arc<OnceLock<ResourceSet>>;
type Lists = Vec<(Names, Shared)>;

struct Scene {
    kept: Arc<Kept>,
    view: Arc<View>,
    /// What proxies that see the same share, by type and what they see, then by the names that they want.
    sets: Mutex<BTreeMap<(Kind, String), Lists>>,
    /// Whether every namespace sees every Service.
    all_visible: OnceLock<bool>,
}

impl Scene {
    /// Endpoints are the same for all proxies to which the same Services are exported.
    fn endpoints_group(&self, namespace: &str) -> String {
        let is_open = *self.all_visible.get_or_init(|| translate::all_visible(&self.view));
        if is_open { String::new() } else { namespace.to_owned() }
    }

    /// The place for the set of all proxies like this one, if there are others like it.
    fn shared(&self, node: &Node, kind: Kind, names: &Names) -> Option<Shared> {
        let group = match kind {
            Kind::Cluster => self.kept.translator.clusters_shared_by(&self.view, node),
            Kind::Endpoint => self.endpoints_group(&node.namespace),
            Kind::Route => self.kept.translator.routes_shared_by(&self.view, node),
            Kind::NameTable => self.kept.translator.names_shared_by(&self.view, node),
            Kind::Listener | Kind::Secret | Kind::ExtensionConfig => return None,
        };
        // All clusters are made, and all names, whichever are wanted.
        let all = matches!(kind, Kind::Cluster | Kind::NameTable);
        let names = if all { Names::default() } else { Arc::clone(names) };
        let mut sets = self.sets.lock();
        let lists = sets.entry((kind, group)).or_default();
        if let Some((_, shared)) = lists.iter().find(|(list, _)| Arc::ptr_eq(list, &names) || *list == names) {
            return Some(Arc::clone(shared));
        }
        (lists.len() < MOST_LISTS).then(|| {
            let shared = Shared::default();
            lists.push((names, Arc::clone(&shared)));
            shared
        })
    }

    fn make(&self, node: &Node, kind: Kind, wanted: &Wanted) -> ResourceSet {
        let shared = |made: translate::Resource| Resource { name: made.name, version: made.version, any: made.any };
        let names = || wanted.names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
        let made = match kind {
            Kind::Cluster => self.kept.translator.clusters(&self.view, node),
            Kind::Listener => self.kept.translator.listeners(&self.view, node),
            Kind::Endpoint => {
                let group = self.endpoints_group(&node.namespace);
                return self.kept.endpoints.set(group, &wanted.names, &self.view, |names| {
                    let made = self.kept.translator.endpoints(&self.view, node, names);
                    made.into_iter().map(shared).collect()
                });
            }
            Kind::Route => self.kept.translator.routes(&self.view, node, &names()),
            Kind::Secret => self.kept.translator.secrets(&self.view, node, &names()),
            Kind::ExtensionConfig => self.kept.translator.extension_configs(&self.view, node, &names()),
            Kind::NameTable => self.kept.translator.name_table(&self.view, node).into_iter().collect(),
        };
        ResourceSet::new(made.into_iter().map(shared).collect())
    }
}

impl Snapshot for Scene {
    fn admits(&self, client: &Client) -> Result<(), ClientError> {
        client.check_pod(self.view.pods.named(&client.id.namespace, &client.id.pod).map(|pod| &**pod))
    }

    fn ready(&self, client: &Client, kind: Kind, wanted: &Wanted) -> Option<ResourceSet> {
        if kind != Kind::Endpoint {
            return None;
        }
        let sets = self.sets.lock();
        let lists = sets.get(&(kind, self.endpoints_group(&client.id.namespace)))?;
        let (_, shared) = lists.iter().find(|(list, _)| Arc::ptr_eq(list, &wanted.names))?;
        shared.get().cloned()
    }

    fn resources(&self, client: &Client, kind: Kind, wanted: &Wanted) -> ResourceSet {
        let Some(node) = node(client) else { return ResourceSet::default() };
        match self.shared(&node, kind, &wanted.names) {
            Some(shared) => shared.get_or_init(|| self.make(&node, kind, wanted)).clone(),
            None => self.make(&node, kind, wanted),
        }
    }
}

/// The node for translation; kinds of proxies that the translator does not know get nothing.
fn node(client: &Client) -> Option<Node> {
    let mut node = Node::from_proto(&client.proto)
        .inspect_err(|error| tracing::debug!(proxy = client.name(), %error, "cannot be translated for"))
        .ok()?;
    // What was checked against the certificate counts, not what the metadata says.
    node.pod.clone_from(&client.id.pod);
    node.namespace.clone_from(&client.id.namespace);
    if let Some(account) = &client.service_account {
        node.service_account.clone_from(account);
    }
    Some(node)
}

fn kinds(types: TypeSet) -> Kinds {
    let pairs = [
        (types.clusters, Kind::Cluster),
        (types.endpoints, Kind::Endpoint),
        (types.listeners, Kind::Listener),
        (types.routes, Kind::Route),
        (types.secrets, Kind::Secret),
        (types.extension_configs, Kind::ExtensionConfig),
        (types.names, Kind::NameTable),
    ];
    pairs.into_iter().filter(|(changed, _)| *changed).map(|(_, kind)| kind).collect()
}
