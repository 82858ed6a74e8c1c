//! Bodies of the fuzz targets: any bytes from outside go in, a broken promise is a panic.
//!
//! Each room has its own beside the code (`<room>/fuzz.rs`); `fuzz/` runs them under libFuzzer, the test below runs them
//! over the same corpus on every build.

#[cfg(test)]
#[path = "../../fuzz/replay.rs"]
mod replay;

use ferromesh_proto::Any;
use ferromesh_proto::json;

pub use crate::agent::dns::fuzz::dns;
pub use crate::codec::h2::fuzz::h2_frames;
pub use crate::format::fuzz::format;
pub use crate::http::fuzz::{grpc_timeout, h1_request, h1_response, path};
pub use crate::listener::fuzz::{detection, proxy_protocol, sni};
pub use crate::matcher::fuzz::regex;
pub use crate::network::fuzz::peer_metadata;
pub use crate::xds::fuzz::xds;

/// YAML or JSON text as a message: what is read shows as JSON, and that reads as the same.
pub fn json(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = crate::bootstrap::parse(text);
    let Ok(value) = json::yaml_value(text) else { return };
    let Ok(any) = json::any_from_json(value) else { return };
    let _ = json::resolve_typed_struct(&any);
    let shown = json::any_to_json(&any, true);
    let again: Any = json::any_from_json(shown.clone()).unwrap_or_else(|error| panic!("{error}: {shown}"));
    assert_eq!(json::any_to_json(&again, true), shown);
}

#[cfg(test)]
mod tests {
    use super::replay::replay;

    /// A test of each target, so that they run beside each other.
    macro_rules! replayed {
        ($($name:ident)*) => {
            $(#[test]
            fn $name() {
                replay(stringify!($name), super::$name);
            })*
        };
    }

    replayed!(detection dns format grpc_timeout h1_request h1_response h2_frames json path peer_metadata proxy_protocol regex sni xds);
}
