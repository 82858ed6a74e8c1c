//! A proxy's listeners go in; patched listeners come out: `LISTENER`, `LISTENER_FILTER`, `FILTER_CHAIN`,
//! `NETWORK_FILTER` here, `HTTP_FILTER` and inline routes in [`super::http`].

use ferromesh_proto::Any;
use ferromesh_proto::envoy::config::core::v3::{TransportSocket, transport_socket};
use ferromesh_proto::envoy::config::listener::v3::{Filter, FilterChain, Listener, filter};

use super::http;
use super::matching::{ListenerMatch, PatchListener, same_name};
use super::merge::{Lists, merge_any, merge_into};
use super::outcome::{Numbered, Run, Stage};
use super::patch::{ApplyTo, Context, Operation, Patch};
use super::splice::{Place, splice};

/// Name of the listener that stands for every inbound port.
pub const VIRTUAL_INBOUND: &str = "virtualInbound";
/// Name of the listener that stands for every outbound port.
pub const VIRTUAL_OUTBOUND: &str = "virtualOutbound";

/// Patches a proxy's listeners; `contexts` are those that the proxy has, for listeners that patches add.
pub fn patch_listeners(run: &mut Run<'_>, listeners: Vec<PatchListener>, contexts: &[Context]) -> Vec<Listener> {
    if run.is_empty() {
        return listeners.into_iter().map(|subject| subject.listener).collect();
    }
    let mut patched = Vec::with_capacity(listeners.len());
    for mut subject in listeners {
        if patch_listener(run, &mut subject) {
            patched.push(subject.listener);
        }
    }
    for context in contexts {
        for Numbered { number, patch, .. } in run.patches(ApplyTo::Listener, *context) {
            // A patch for any context adds its listener once.
            if patch.operation == Operation::Add && !run.has_applied(number) {
                match patch.typed::<Listener>() {
                    Ok(listener) => {
                        patched.push(listener);
                        run.applied(number, 1);
                    }
                    Err(why) => run.result(number, Err(why)),
                }
            }
        }
    }
    patched
}

/// False if the listener is removed.
fn patch_listener(run: &mut Run<'_>, subject: &mut PatchListener) -> bool {
    let context = subject.context.unwrap_or(Context::Any);
    for Numbered { number, patch, .. } in run.patches(ApplyTo::Listener, context) {
        if patch.operation == Operation::Add || !fits(patch, subject, true) {
            continue;
        }
        if patch.operation == Operation::Remove {
            run.applied(number, 1);
            return false;
        }
        run.result(number, merge_patch(&mut subject.listener, patch));
    }
    patch_listener_filters(run, subject, context);
    let mut chains = std::mem::take(&mut subject.listener.filter_chains);
    chains.retain_mut(|chain| patch_chain(run, subject, context, chain));
    subject.listener.filter_chains = chains;
    if let Some(mut chain) = subject.listener.default_filter_chain.take()
        && patch_chain(run, subject, context, &mut chain)
    {
        subject.listener.default_filter_chain = Some(chain);
    }
    for Numbered { number, patch, .. } in run.patches(ApplyTo::FilterChain, context) {
        if patch.operation == Operation::Add && fits(patch, subject, false) {
            let added = patch.typed().map(|chain| {
                subject.listener.filter_chains.push(chain);
                1
            });
            run.result(number, added);
        }
    }
    true
}

fn fits(patch: &Patch, subject: &PatchListener, whole: bool) -> bool {
    patch.listener.as_ref().is_none_or(|matching| matching.fits(subject, whole))
}

fn merge_patch<M>(target: &mut M, patch: &Patch) -> Result<usize, String>
where
    M: prost::Message + prost::Name + Default,
{
    merge_into(target, patch.packed()?, Lists::from(patch.operation)).map(|()| 1)
}

fn patch_listener_filters(run: &mut Run<'_>, subject: &mut PatchListener, context: Context) {
    for Numbered { number, patch, .. } in run.patches(ApplyTo::ListenerFilter, context) {
        if !fits(patch, subject, false) {
            continue;
        }
        run.reach(number, Stage::Resource);
        let name = patch.listener.as_ref().and_then(ListenerMatch::listener_filter_name);
        let filters = &mut subject.listener.listener_filters;
        let result = with_value(patch).map(|value| match name {
            Some(name) => splice(filters, patch.operation, &Place::Item(&|filter| filter_name(filter, name)), value),
            None => splice(filters, patch.operation, &Place::Anywhere, value),
        });
        run.result(number, result);
    }
}

fn filter_name(filter: &ferromesh_proto::envoy::config::listener::v3::ListenerFilter, name: &str) -> bool {
    same_name(name, &filter.name)
}

/// The value, but for a removal, which needs none.
fn with_value<M: prost::Message + Default>(patch: &Patch) -> Result<Option<M>, String> {
    if patch.operation == Operation::Remove { Ok(None) } else { patch.typed().map(Some) }
}

/// False if the chain is removed.
fn patch_chain(run: &mut Run<'_>, subject: &PatchListener, context: Context, chain: &mut FilterChain) -> bool {
    for Numbered { number, patch, .. } in run.patches(ApplyTo::FilterChain, context) {
        if patch.operation == Operation::Add || !chain_fits(run, number, patch, subject, chain) {
            continue;
        }
        if patch.operation == Operation::Remove {
            run.applied(number, 1);
            return false;
        }
        run.result(number, merge_chain(chain, patch));
    }
    patch_network_filters(run, subject, context, chain);
    for filter in &mut chain.filters {
        http::patch_http(run, subject, context, filter, &mut |run, number, patch, filter| {
            // The chain's match is checked without its filters, which are being changed.
            let matching = patch.listener.as_ref();
            if !fits(patch, subject, false) {
                return false;
            }
            run.reach(number, Stage::Resource);
            if !matching
                .is_none_or(|matching| matching.fits_chain(subject, &bare(&chain.filter_chain_match, &chain.name)))
            {
                return false;
            }
            run.reach(number, Stage::Part);
            matching.is_none_or(|matching| matching.fits_filter(filter))
        });
    }
    true
}

fn bare(matching: &Option<ferromesh_proto::envoy::config::listener::v3::FilterChainMatch>, name: &str) -> FilterChain {
    FilterChain { filter_chain_match: matching.clone(), name: name.to_owned(), ..FilterChain::default() }
}

fn chain_fits(run: &mut Run<'_>, number: usize, patch: &Patch, subject: &PatchListener, chain: &FilterChain) -> bool {
    if !fits(patch, subject, false) {
        return false;
    }
    run.reach(number, Stage::Resource);
    if !patch.listener.as_ref().is_none_or(|matching| matching.fits_chain(subject, chain)) {
        return false;
    }
    run.reach(number, Stage::Part);
    true
}

/// Merges a filter chain; its transport socket's configuration is merged, not replaced, if it is of one type.
fn merge_chain(chain: &mut FilterChain, patch: &Patch) -> Result<usize, String> {
    let value: FilterChain = patch.typed()?;
    let lists = Lists::from(patch.operation);
    let socket = match (&chain.transport_socket, &value.transport_socket) {
        (Some(own), Some(other)) => merge_socket(own, other, lists)?,
        _ => None,
    };
    merge_into(chain, patch.packed()?, lists)?;
    if socket.is_some() {
        chain.transport_socket = socket;
    }
    Ok(1)
}

/// Two transport sockets of one name, merged; nothing if they are of different kinds.
pub(super) fn merge_socket(
    own: &TransportSocket,
    patch: &TransportSocket,
    lists: Lists,
) -> Result<Option<TransportSocket>, String> {
    use transport_socket::ConfigType::TypedConfig;
    let (Some(TypedConfig(target)), Some(TypedConfig(value))) = (&own.config_type, &patch.config_type) else {
        return Ok(None);
    };
    if own.name != patch.name || target.type_name() != value.type_name() {
        return Ok(None);
    }
    let merged = merge_any(target, value, lists)?;
    Ok(Some(TransportSocket { name: own.name.clone(), config_type: Some(TypedConfig(merged)) }))
}

fn patch_network_filters(run: &mut Run<'_>, subject: &PatchListener, context: Context, chain: &mut FilterChain) {
    for Numbered { number, patch, .. } in run.patches_then_merges(ApplyTo::NetworkFilter, context) {
        if !chain_fits(run, number, patch, subject, chain) {
            continue;
        }
        let name = patch.listener.as_ref().and_then(ListenerMatch::filter_name);
        let result = if patch.is_merge() {
            merge_network_filters(chain, patch, name)
        } else {
            with_value(patch).map(|value| match name {
                Some(name) => {
                    let matches = |filter: &Filter| same_name(name, &filter.name);
                    splice(&mut chain.filters, patch.operation, &Place::Item(&matches), value)
                }
                None => splice(&mut chain.filters, patch.operation, &Place::Anywhere, value),
            })
        };
        run.result(number, result);
    }
}

fn merge_network_filters(chain: &mut FilterChain, patch: &Patch, name: Option<&str>) -> Result<usize, String> {
    let value: Filter = patch.typed()?;
    let lists = Lists::from(patch.operation);
    let mut count = 0;
    for filter in &mut chain.filters {
        if !name.is_none_or(|name| same_name(name, &filter.name)) {
            continue;
        }
        if let (Some(own), Some(other)) = (typed_config(filter), typed_config(&value)) {
            filter.config_type = Some(filter::ConfigType::TypedConfig(merge_any(own, other, lists)?));
        } else if value.config_type.is_some() {
            filter.config_type.clone_from(&value.config_type);
        }
        if !value.name.is_empty() {
            filter.name.clone_from(&value.name);
        }
        count += 1;
    }
    Ok(count)
}

/// The packed configuration of a network filter.
pub(super) fn typed_config(filter: &Filter) -> Option<&Any> {
    match filter.config_type.as_ref()? {
        filter::ConfigType::TypedConfig(any) => Some(any),
        filter::ConfigType::ConfigDiscovery(_) => None,
    }
}
