//! What became of each patch: how often it applied, or how far it came and why it stopped there.

use super::matching::Proxy;
use super::patch::{ApplyTo, CompiledFilter, Context, Patch, PatchSet};

/// How far a patch came in finding something to change; later is further.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Nothing of its kind was generated.
    #[default]
    Nothing,
    /// The context (and proxy) fits.
    Context,
    /// The listener, route configuration or cluster fits.
    Resource,
    /// The filter chain (or virtual host) fits.
    Part,
    /// The network filter (or route) fits.
    Filter,
}

/// What became of a patch on one proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Changed so many places.
    Applied(usize),
    /// Changed nothing; why.
    NoMatch(String),
    /// Could not be used; why.
    Failed(String),
}

/// What became of one patch of one filter on one proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatchReport {
    /// Namespace of the EnvoyFilter.
    pub namespace: String,
    /// Name of the EnvoyFilter.
    pub name: String,
    /// Place in `configPatches`.
    pub index: usize,
    /// What became of it.
    pub outcome: Outcome,
}

#[derive(Clone, Debug, Default)]
struct State {
    applied: usize,
    stage: Stage,
    failure: Option<String>,
}

/// The patches of one proxy while they run.
#[derive(Debug)]
pub struct Run<'a> {
    set: &'a PatchSet,
    /// The proxy.
    pub proxy: &'a Proxy,
    states: Vec<State>,
}

/// A patch with its number in the run.
#[derive(Clone, Copy, Debug)]
pub struct Numbered<'a> {
    /// Its number.
    pub number: usize,
    /// Its filter.
    pub filter: &'a CompiledFilter,
    /// The patch.
    pub patch: &'a Patch,
}

impl<'a> Run<'a> {
    /// Starts.
    pub fn new(set: &'a PatchSet, proxy: &'a Proxy) -> Self {
        Self { set, proxy, states: vec![State::default(); set.patches().count()] }
    }

    /// Whether there is nothing to run.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// The usable patches for `apply_to` in `context`, in order.
    pub fn patches(&mut self, apply_to: ApplyTo, context: Context) -> Vec<Numbered<'a>> {
        let set = self.set;
        let mut found = Vec::new();
        for (number, (filter, patch)) in set.patches().enumerate() {
            let fits = patch.broken.is_none()
                && patch.apply_to == Some(apply_to)
                && (patch.context == context || patch.context == Context::Any)
                && patch.is_for(self.proxy);
            if fits {
                self.reach(number, Stage::Context);
                found.push(Numbered { number, filter, patch });
            }
        }
        found
    }

    /// The same, merges last: they change what the others have put there, too, in whichever order they are written (as in
    /// Istio).
    pub fn patches_then_merges(&mut self, apply_to: ApplyTo, context: Context) -> Vec<Numbered<'a>> {
        let mut found = self.patches(apply_to, context);
        found.sort_by_key(|found| found.patch.is_merge());
        found
    }

    /// Notes how far a patch came.
    pub fn reach(&mut self, number: usize, stage: Stage) {
        if let Some(state) = self.states.get_mut(number) {
            state.stage = state.stage.max(stage);
        }
    }

    /// Notes changes.
    pub fn applied(&mut self, number: usize, count: usize) {
        if let Some(state) = self.states.get_mut(number) {
            state.applied += count;
        }
    }

    /// Whether this patch has changed something already.
    pub fn has_applied(&self, number: usize) -> bool {
        self.states.get(number).is_some_and(|state| state.applied > 0)
    }

    /// Notes a change or why it could not be made.
    pub fn result(&mut self, number: usize, result: Result<usize, String>) {
        match result {
            Ok(count) => self.applied(number, count),
            Err(why) => {
                if let Some(state) = self.states.get_mut(number) {
                    state.failure.get_or_insert(why);
                }
            }
        }
    }

    /// What became of every patch.
    pub fn report(self) -> Vec<PatchReport> {
        let Self { set, proxy, states } = self;
        let outcome = |patch: &Patch, state: State| {
            if let Some(why) = patch.broken.clone().or(state.failure) {
                return Outcome::Failed(why);
            }
            if state.applied > 0 {
                return Outcome::Applied(state.applied);
            }
            Outcome::NoMatch(why_not(patch, proxy, state.stage))
        };
        set.patches()
            .zip(states)
            .map(|((filter, patch), state)| PatchReport {
                namespace: filter.namespace.clone(),
                name: filter.name.clone(),
                index: patch.index,
                outcome: outcome(patch, state),
            })
            .collect()
    }
}

fn why_not(patch: &Patch, proxy: &Proxy, stage: Stage) -> String {
    let gateway_only = patch.context == Context::Gateway;
    if proxy.gateway && matches!(patch.context, Context::SidecarInbound | Context::SidecarOutbound) {
        return format!(
            "match.context {} is for sidecars, and this proxy is a gateway; write GATEWAY or ANY",
            patch.context
        );
    }
    if !proxy.gateway && gateway_only {
        return "match.context GATEWAY is for gateways, and this proxy is a sidecar; write SIDECAR_INBOUND, \
                SIDECAR_OUTBOUND or ANY"
            .to_owned();
    }
    if !patch.is_for(proxy) {
        return "match.proxy does not fit this proxy's version or metadata".to_owned();
    }
    let apply_to = patch.apply_to.map_or("", ApplyTo::as_str);
    match (stage, patch.apply_to) {
        (Stage::Nothing, _) => format!("nothing that {apply_to} could change is generated for this proxy"),
        (Stage::Context, Some(ApplyTo::Cluster)) => "no cluster fits match.cluster".to_owned(),
        (Stage::Context, Some(ApplyTo::ExtensionConfig)) => "no filter asks for this extension config".to_owned(),
        (Stage::Context, Some(ApplyTo::RouteConfiguration | ApplyTo::VirtualHost | ApplyTo::HttpRoute)) => {
            "no route configuration fits match.routeConfiguration (name, portNumber, portName, gateway)".to_owned()
        }
        (Stage::Context, _) => "no listener fits match.listener (name, portNumber)".to_owned(),
        (Stage::Resource, Some(ApplyTo::VirtualHost | ApplyTo::HttpRoute)) => {
            "no virtual host fits match.routeConfiguration.vhost".to_owned()
        }
        (Stage::Resource, Some(ApplyTo::ListenerFilter)) => {
            "no listener filter has the name in match.listener.listenerFilter".to_owned()
        }
        (Stage::Resource, _) => "no filter chain fits match.listener.filterChain".to_owned(),
        (Stage::Part, Some(ApplyTo::HttpRoute)) => "no route fits match.routeConfiguration.vhost.route".to_owned(),
        (Stage::Part, _) => "no network filter has the name in match.listener.filterChain.filter".to_owned(),
        (Stage::Filter, _) => {
            "no HTTP filter has the name in match.listener.filterChain.filter.subFilter, or its configuration is \
             of another type"
                .to_owned()
        }
    }
}
