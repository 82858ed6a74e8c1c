//! A network filter goes in; if it is an HTTP connection manager, it comes out with its HTTP filters (`HTTP_FILTER`)
//! and inline routes patched.

use ferromesh_proto::Any;
use ferromesh_proto::envoy::config::listener::v3::{Filter, filter};
pub(super) use ferromesh_proto::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use ferromesh_proto::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, http_connection_manager::RouteSpecifier, http_filter,
};

use super::listener::typed_config;
use super::matching::{ListenerMatch, PatchListener, same_name};
use super::merge::{Lists, merge_any};
use super::outcome::{Numbered, Run, Stage};
use super::patch::{ApplyTo, Context, FilterClass, Operation, Patch};
use super::route;
use super::splice::{Place, splice};

/// Says whether a patch is meant for this connection manager.
pub(super) type Fits<'f> = dyn FnMut(&mut Run<'_>, usize, &Patch, &Filter) -> bool + 'f;

pub(super) fn patch_http(
    run: &mut Run<'_>,
    subject: &PatchListener,
    context: Context,
    filter: &mut Filter,
    fits: &mut Fits<'_>,
) {
    let Some(config) = typed_config(filter).filter(|any| any.is::<HttpConnectionManager>()) else { return };
    let patches = run.patches_then_merges(ApplyTo::HttpFilter, context);
    let patches: Vec<_> = patches.into_iter().filter(|found| fits(run, found.number, found.patch, filter)).collect();
    let routes = run.routes_in(context);
    if patches.is_empty() && !routes {
        return;
    }
    let Ok(mut manager) = config.unpack::<HttpConnectionManager>() else { return };
    for Numbered { number, patch, .. } in patches {
        run.reach(number, Stage::Filter);
        let result = patch_filters(&mut manager.http_filters, patch);
        run.result(number, result);
    }
    if routes && let Some(RouteSpecifier::RouteConfig(config)) = &mut manager.route_specifier {
        // The match of inbound inline routes names the container's port.
        let named = config.name.clone();
        if let Some(port) = subject.port {
            config.name = format!("inbound|{port}||");
        }
        route::patch_routes(run, context, config);
        if subject.port.is_some() {
            config.name = named;
        }
    }
    filter.config_type = Some(filter::ConfigType::TypedConfig(Any::pack(&manager)));
}

fn patch_filters(filters: &mut Vec<HttpFilter>, patch: &Patch) -> Result<usize, String> {
    let name = patch.listener.as_ref().and_then(ListenerMatch::sub_filter_name);
    if patch.is_merge() {
        return merge_filters(filters, patch, name);
    }
    let value = if patch.operation == Operation::Remove { None } else { Some(patch.typed::<HttpFilter>()?) };
    if patch.operation == Operation::Add
        && let Some(anchors) = anchors(patch.filter_class)
    {
        let before = |filter: &HttpFilter| anchors.iter().any(|name| same_name(name, &filter.name));
        return Ok(splice(filters, Operation::InsertBefore, &Place::Item(&before), value));
    }
    Ok(match name {
        Some(name) => {
            let matches = |filter: &HttpFilter| same_name(name, &filter.name);
            splice(filters, patch.operation, &Place::Item(&matches), value)
        }
        None => splice(filters, patch.operation, &Place::Anywhere, value),
    })
}

/// The filters of which the first one comes right after those of a class: the order of Istio's own filters, in which
/// what authenticates stands before what authorizes, and both before what counts. The router is always last.
fn anchors(class: FilterClass) -> Option<&'static [&'static str]> {
    const ORDER: [&str; 4] =
        ["envoy.filters.http.jwt_authn", "envoy.filters.http.rbac", "istio.stats", "envoy.filters.http.router"];
    match class {
        FilterClass::Unspecified => None,
        FilterClass::Authn => Some(&ORDER),
        FilterClass::Authz => ORDER.get(1..),
        FilterClass::Stats => ORDER.get(2..),
    }
}

fn merge_filters(filters: &mut [HttpFilter], patch: &Patch, name: Option<&str>) -> Result<usize, String> {
    let value: HttpFilter = patch.typed()?;
    let lists = Lists::from(patch.operation);
    let wanted = name.or_else(|| (!value.name.is_empty()).then_some(value.name.as_str()));
    let Some(wanted) = wanted else {
        return Err("MERGE of an HTTP filter needs a name: match.listener.filterChain.filter.subFilter.name".to_owned());
    };
    let mut count = 0;
    for filter in filters.iter_mut().filter(|filter| same_name(wanted, &filter.name)) {
        use http_filter::ConfigType::TypedConfig;
        match (&filter.config_type, &value.config_type) {
            (Some(TypedConfig(own)), Some(TypedConfig(other))) => {
                filter.config_type = Some(TypedConfig(merge_any(own, other, lists)?));
            }
            (_, Some(other)) => filter.config_type = Some(other.clone()),
            (_, None) => {}
        }
        if !value.name.is_empty() {
            filter.name.clone_from(&value.name);
        }
        filter.is_optional |= value.is_optional;
        filter.disabled |= value.disabled;
        count += 1;
    }
    Ok(count)
}
