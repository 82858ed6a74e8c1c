//! What in an object breaks a rule of its own API, by path: what an API server refuses by the kind's schema.

use super::{Object, ObjectRef, View};
use ferromesh_api::gateway_api::rules;

/// What breaks a rule in an object; nothing for kinds whose schema is no more than their types.
pub fn broken(object: &Object) -> Vec<String> {
    match object {
        Object::Gateway(gateway) => rules::gateway(gateway),
        Object::GatewayClass(class) => rules::gateway_class(class),
        Object::HttpRoute(route) => rules::http_route(route),
        Object::GrpcRoute(route) => rules::grpc_route(route),
        Object::ReferenceGrant(grant) => rules::reference_grant(grant),
        _ => Vec::new(),
    }
}

/// The objects of a view that break a rule: an old CRD, or none, has let them in.
pub fn broken_in(view: &View) -> Vec<(ObjectRef, Vec<String>)> {
    let kinds = super::Kind::ALL.iter().filter(|kind| kind.group() == ferromesh_api::gateway_api::GROUP);
    let all = kinds.flat_map(|kind| view.objects(*kind));
    all.map(|object| (object.reference(), broken(&object))).filter(|(_, broken)| !broken.is_empty()).collect()
}
