//! The `grpc-timeout` header: how long a gRPC client waits (gRPC over HTTP/2, "Requests"). Pure.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::route::GrpcTimeout;

const NAME: HeaderName = HeaderName::from_static("grpc-timeout");

/// Most digits that the header has.
const DIGITS: usize = 8;

/// What the client asks for, if it does so in the right form.
pub fn asked(headers: &HeaderMap) -> Option<Duration> {
    headers.get(NAME).and_then(|value| parse(value.as_bytes()))
}

/// Tells the upstream.
pub fn tell(headers: &mut HeaderMap, limit: Duration) {
    if let Ok(value) = HeaderValue::from_str(&format(limit)) {
        headers.insert(NAME, value);
    }
}

/// What a route makes of what the client asks for; zero is no limit.
pub fn bounded(asked: Duration, rule: &GrpcTimeout) -> Duration {
    let shorten = |limit: Duration| match rule.offset {
        Some(offset) if offset < limit => limit - offset,
        _ => limit,
    };
    let bound = |limit: Duration| {
        let beyond = !rule.max.is_zero() && (limit.is_zero() || limit > rule.max);
        if beyond { rule.max } else { limit }
    };
    // Envoy's two settings differ in the order.
    if rule.of_stream { shorten(bound(asked)) } else { bound(shorten(asked)) }
}

fn parse(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > DIGITS || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let amount: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(amount * 3600),
        b'M' => Duration::from_secs(amount * 60),
        b'S' => Duration::from_secs(amount),
        b'm' => Duration::from_millis(amount),
        b'u' => Duration::from_micros(amount),
        b'n' => Duration::from_nanos(amount),
        _ => return None,
    })
}

/// In milliseconds, or the finest unit that the digits are enough for.
fn format(limit: Duration) -> String {
    let most = 10_u128.pow(DIGITS as u32) - 1;
    let mut amount = limit.as_millis();
    for (unit, next) in [("m", 1000), ("S", 60), ("M", 60)] {
        if amount <= most {
            return format!("{amount}{unit}");
        }
        amount /= next;
    }
    format!("{}H", amount.min(most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_read_and_malformed_values_are_not() {
        let table: &[(&[u8], Option<Duration>)] = &[
            (b"1H", Some(Duration::from_secs(3600))),
            (b"2M", Some(Duration::from_secs(120))),
            (b"3S", Some(Duration::from_secs(3))),
            (b"99999999m", Some(Duration::from_millis(99_999_999))),
            (b"5u", Some(Duration::from_micros(5))),
            (b"6n", Some(Duration::from_nanos(6))),
            (b"99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            (b"999999999S", None),
            (b"S", None),
            (b"", None),
            (b"-1S", None),
            (b"1X", None),
        ];
        for (text, wanted) in table {
            assert_eq!(parse(text), *wanted, "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn what_is_told_can_be_read_again() {
        let table =
            [(1, "1m"), (99_999_999, "99999999m"), (100_000_000, "100000S"), (100_000_000_000_000, "27777777H")];
        for (millis, text) in table {
            assert_eq!(format(Duration::from_millis(millis)), text);
            assert!(parse(text.as_bytes()).is_some());
        }
        assert_eq!(format(Duration::MAX), "99999999H");
    }

    #[test]
    fn a_route_shortens_and_bounds_what_is_asked_for() {
        let seconds = Duration::from_secs;
        let rule =
            |max, offset: Option<u64>| GrpcTimeout { max: seconds(max), offset: offset.map(seconds), of_stream: false };
        let table = [
            (seconds(5), rule(0, None), seconds(5)),
            (seconds(5), rule(3, None), seconds(3)),
            (seconds(0), rule(3, None), seconds(3)),
            (seconds(0), rule(0, None), seconds(0)),
            (seconds(5), rule(10, Some(1)), seconds(4)),
            (seconds(1), rule(10, Some(1)), seconds(1)),
            (seconds(20), rule(10, Some(1)), seconds(10)),
            (seconds(20), GrpcTimeout { of_stream: true, ..rule(10, Some(1)) }, seconds(9)),
        ];
        for (asked, rule, wanted) in table {
            assert_eq!(bounded(asked, &rule), wanted, "{asked:?} by {rule:?}");
        }
    }
}
