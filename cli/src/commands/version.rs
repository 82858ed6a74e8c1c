//! `ferromesh version`.

use serde_json::json;

use crate::args::Version;
use crate::failure::Failure;
use crate::{Exit, output};

/// Shows the versions of what is in this binary.
///
/// # Errors
/// If the output cannot be rendered.
pub fn run(args: &Version) -> Result<Exit, Failure> {
    let build = ferromesh_core::runtime::BUILD;
    let value = json!({
        "ferromesh": build.version,
        "git": build.git,
        "rustc": build.rustc,
        "gatewayApi": "v1",
        "istioApi": "networking.istio.io/v1alpha3 EnvoyFilter, security.istio.io/v1 PeerAuthentication",
        "xds": "envoy v3",
    });
    output::value(args.output, &value, |_| {
        let fields = value.as_object().into_iter().flatten();
        fields.map(|(name, value)| format!("{name}: {}\n", value.as_str().unwrap_or("-"))).collect()
    })
    .map_err(Failure::usage)?;
    Ok(Exit::Ok)
}
