//! A route configuration goes in and comes out patched: `ROUTE_CONFIGURATION`, `VIRTUAL_HOST`, `HTTP_ROUTE`.

use ferromesh_proto::envoy::config::route::v3::{Route, RouteConfiguration, VirtualHost};

use super::matching::RouteConfigurationMatch;
use super::merge::{Lists, merge_into};
use super::outcome::{Numbered, Run, Stage};
use super::patch::{ApplyTo, Context, Operation, Patch};
use super::splice::{Place, splice};

const ROUTES: [ApplyTo; 3] = [ApplyTo::RouteConfiguration, ApplyTo::VirtualHost, ApplyTo::HttpRoute];

impl Run<'_> {
    /// Whether any patch may change a route configuration in this context.
    pub fn routes_in(&mut self, context: Context) -> bool {
        ROUTES.into_iter().any(|apply_to| !self.patches(apply_to, context).is_empty())
    }
}

/// Patches one route configuration.
pub fn patch_routes(run: &mut Run<'_>, context: Context, config: &mut RouteConfiguration) {
    if run.is_empty() || !run.routes_in(context) {
        return;
    }
    for Numbered { number, patch, .. } in run.patches(ApplyTo::RouteConfiguration, context) {
        if !fits(run, number, patch, context, config) {
            continue;
        }
        let result = patch.packed().and_then(|value| merge_into(config, value, Lists::from(patch.operation)));
        run.result(number, result.map(|()| 1));
    }
    let mut hosts = std::mem::take(&mut config.virtual_hosts);
    hosts.retain_mut(|host| patch_host(run, context, config, host));
    config.virtual_hosts = hosts;
    for Numbered { number, patch, .. } in run.patches(ApplyTo::VirtualHost, context) {
        if patch.operation == Operation::Add && fits(run, number, patch, context, config) {
            let added = patch.typed::<VirtualHost>().map(|host| {
                config.virtual_hosts.push(host);
                1
            });
            run.result(number, added);
        }
    }
}

fn fits(run: &mut Run<'_>, number: usize, patch: &Patch, context: Context, config: &RouteConfiguration) -> bool {
    let fits = patch.route_configuration.as_ref().is_none_or(|matching| matching.fits(context, config));
    if fits {
        run.reach(number, Stage::Resource);
    }
    fits
}

fn fits_host(run: &mut Run<'_>, number: usize, patch: &Patch, host: &VirtualHost) -> bool {
    let fits = patch.route_configuration.as_ref().is_none_or(|matching| matching.fits_virtual_host(host));
    if fits {
        run.reach(number, Stage::Part);
    }
    fits
}

/// False if the virtual host is removed.
fn patch_host(run: &mut Run<'_>, context: Context, config: &RouteConfiguration, host: &mut VirtualHost) -> bool {
    for Numbered { number, patch, .. } in run.patches(ApplyTo::VirtualHost, context) {
        if patch.operation == Operation::Add
            || !fits(run, number, patch, context, config)
            || !fits_host(run, number, patch, host)
        {
            continue;
        }
        if patch.operation == Operation::Remove {
            run.applied(number, 1);
            return false;
        }
        let result = match patch.operation {
            Operation::Replace => patch.typed::<VirtualHost>().map(|value| *host = value),
            operation => patch.packed().and_then(|value| merge_into(host, value, Lists::from(operation))),
        };
        run.result(number, result.map(|()| 1));
    }
    // What is added is not merged into, nor removed again, in whichever order the patches are written (as in Istio).
    let mut patches = run.patches(ApplyTo::HttpRoute, context);
    patches.sort_by_key(|found| !(found.patch.is_merge() || found.patch.operation == Operation::Remove));
    for Numbered { number, patch, .. } in patches {
        if fits(run, number, patch, context, config) && fits_host(run, number, patch, host) {
            let result = patch_route_list(&mut host.routes, patch);
            run.result(number, result);
        }
    }
    true
}

fn patch_route_list(routes: &mut Vec<Route>, patch: &Patch) -> Result<usize, String> {
    let wanted = patch.route_configuration.as_ref().and_then(RouteConfigurationMatch::route);
    let matches = |route: &Route| wanted.is_none_or(|wanted| wanted.fits(route));
    if patch.is_merge() {
        let mut count = 0;
        for route in routes.iter_mut().filter(|route| matches(route)) {
            merge_into(route, patch.packed()?, Lists::from(patch.operation))?;
            count += 1;
        }
        return Ok(count);
    }
    if patch.operation == Operation::Remove {
        return Ok(splice(routes, patch.operation, &Place::Item(&matches), None));
    }
    // INSERT_FIRST by a route that is not there inserts nothing.
    if patch.operation == Operation::InsertFirst && !routes.iter().any(matches) {
        return Ok(0);
    }
    let value = Some(patch.typed::<Route>()?);
    let place = if wanted.is_some() { Place::Item(&matches) } else { Place::Anywhere };
    Ok(splice(routes, patch.operation, &place, value))
}
