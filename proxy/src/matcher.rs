//! Compiled matchers that several rooms use: of headers, query parameters, metadata, texts and shares. Pure.

use ferromesh_proto::envoy::config::core::v3 as core;
use ferromesh_proto::envoy::r#type::v3 as types;

use crate::message::RequestHead;

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
pub mod header;
pub mod metadata;
mod query;
pub mod string;

pub use ferromesh_core::re2;
pub use header::HeaderMatcher;
pub use metadata::MetadataMatcher;
pub use query::{QueryMatcher, query_value};
pub use string::StringMatcher;

/// The value of a cookie of the request, without quotes.
pub fn cookie<'a>(head: &'a RequestHead, name: &str) -> Option<&'a str> {
    head.headers
        .get_all(http::header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value))
}

/// A fraction in millionths.
pub fn per_million(fraction: &types::FractionalPercent) -> u32 {
    use types::fractional_percent::DenominatorType;
    let factor = match fraction.denominator() {
        DenominatorType::Hundred => 10_000,
        DenominatorType::TenThousand => 100,
        DenominatorType::Million => 1,
    };
    fraction.numerator.saturating_mul(factor).min(1_000_000)
}

/// A fraction in millionths; what the runtime says is its default already.
pub fn runtime_per_million(fraction: &core::RuntimeFractionalPercent) -> u32 {
    fraction.default_value.as_ref().map_or(0, per_million)
}

/// Whether a share in millionths is hit by this random number.
pub fn hit(per_million: u32, random: u64) -> bool {
    random % 1_000_000 < u64::from(per_million)
}
