//! Which encoding a client gets: what it accepts (RFC 9110, 12.5.3) against what the compressors offer. Pure.

/// What a compressor offers.
pub(super) struct Offer {
    /// The content coding.
    pub(super) encoding: &'static str,
    /// It goes before others that the client likes as much.
    pub(super) is_first: bool,
}

/// What the client gets.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Choice {
    /// An encoding that it names.
    Named(&'static str),
    /// An encoding that it leaves to the proxy.
    Wildcard(&'static str),
    /// It asks for the body as it is.
    Identity,
    /// It takes none of them.
    Nothing,
}

impl Choice {
    /// The encoding.
    pub(super) fn encoding(&self) -> Option<&'static str> {
        match self {
            Self::Named(encoding) | Self::Wildcard(encoding) => Some(encoding),
            Self::Identity | Self::Nothing => None,
        }
    }
}

/// What Envoy gives: the encoding of the highest weight; of equal ones the first that the client names, or the last one
/// that is to go first; for `*` the first compressor's. Names are heeded with their case.
pub(super) fn choose(accepted: &str, mut offers: Vec<Offer>) -> Choice {
    let mut known: Vec<&str> = Vec::new();
    offers.retain(|offer| {
        let is_new = !known.contains(&offer.encoding);
        known.push(offer.encoding);
        is_new
    });
    let wanted: Vec<(&str, f32)> = accepted.split(',').filter(|token| !token.is_empty()).filter_map(weighted).collect();
    offers.retain(|offer| !wanted.iter().any(|(name, weight)| *weight == 0.0 && *name == offer.encoding));
    if wanted.is_empty() || offers.is_empty() {
        return Choice::Nothing;
    }
    let offered = |name: &str| offers.iter().find(|offer| offer.encoding == name);
    let (mut best, mut highest) = ("identity", 0.0);
    for (name, weight) in wanted {
        let is_possible = name == "identity" || name == "*" || offered(name).is_some();
        let goes_first = weight == highest && offered(name).is_some_and(|offer| offer.is_first);
        if weight > highest && is_possible || goes_first {
            (best, highest) = (name, weight);
        }
    }
    match best {
        "*" => offers.first().map_or(Choice::Nothing, |offer| Choice::Wildcard(offer.encoding)),
        "identity" => Choice::Identity,
        name => offered(name).map_or(Choice::Nothing, |offer| Choice::Named(offer.encoding)),
    }
}

/// A name and its weight, 1 unless told; `None` if the weight is no number.
fn weighted(token: &str) -> Option<(&str, f32)> {
    let Some((name, parameter)) = token.split_once(';') else { return Some((token.trim(), 1.0)) };
    let weight = match parameter.split_once('=') {
        Some((key, value)) if key.trim().eq_ignore_ascii_case("q") => value.trim().parse().ok()?,
        _ => 1.0,
    };
    Some((name.trim(), weight))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_weight_wins_and_the_order_decides_among_equals() {
        let offers = |first: &[&str]| {
            let offer = |encoding: &'static str| Offer { encoding, is_first: first.contains(&encoding) };
            ["br", "zstd", "gzip"].map(offer).into_iter().collect::<Vec<_>>()
        };
        let cases: &[(&str, &[&str], Choice)] = &[
            ("gzip, br", &[], Choice::Named("gzip")),
            ("gzip;q=0.5, br;q=0.6", &[], Choice::Named("br")),
            ("*", &[], Choice::Wildcard("br")),
            ("br;q=0, *", &[], Choice::Wildcard("zstd")),
            ("gzip, br", &["br"], Choice::Named("br")),
            ("br, gzip, zstd", &["br", "gzip"], Choice::Named("gzip")),
            ("identity, gzip", &[], Choice::Identity),
            ("gzip;q=0", &[], Choice::Identity),
            ("gzip;q=x", &[], Choice::Nothing),
            ("", &[], Choice::Nothing),
            ("GZIP", &[], Choice::Identity),
            ("gzip ; Q = 0.3, deflate", &[], Choice::Named("gzip")),
            ("br;q=NaN, gzip;q=1e-3", &[], Choice::Named("gzip")),
        ];
        for (accepted, first, expected) in cases {
            assert_eq!(&choose(accepted, offers(first)), expected, "{accepted} with {first:?} first");
        }
    }
}
