//! A duration as Istio (Go) writes it, `10s`, `1h30m`, `250ms`, `1.5s`, and as Gateway API does, which has less
//! ([`gateway_api`]).

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::str::FromStr;

/// A span of time, never negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Duration(pub std::time::Duration);

/// Why a text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a duration; write a number with a unit (h, m, s, ms, us, ns), for example 10s or 1m30s")]
pub struct NotADuration {
    /// What was written.
    pub text: String,
}

impl Duration {
    /// So many seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(std::time::Duration::from_secs(seconds))
    }

    /// So many milliseconds.
    pub const fn from_millis(milliseconds: u64) -> Self {
        Self(std::time::Duration::from_millis(milliseconds))
    }
}

impl FromStr for Duration {
    type Err = NotADuration;

    fn from_str(text: &str) -> Result<Self, NotADuration> {
        let wrong = || NotADuration { text: text.to_owned() };
        if text == "0" {
            return Ok(Self::default());
        }
        let mut rest = text;
        let mut total = std::time::Duration::ZERO;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
            let (number, tail) = rest.split_at(digits);
            let letters = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
            let (unit, next) = tail.split_at(letters);
            let nanoseconds: u64 = match unit {
                "h" => 3_600_000_000_000,
                "m" => 60_000_000_000,
                "s" => 1_000_000_000,
                "ms" => 1_000_000,
                "us" | "µs" => 1_000,
                "ns" => 1,
                _ => return Err(wrong()),
            };
            total = total.checked_add(part(number, nanoseconds).ok_or_else(wrong)?).ok_or_else(wrong)?;
            rest = next;
        }
        if text.is_empty() { Err(wrong()) } else { Ok(Self(total)) }
    }
}

/// `number` (which may have a decimal point) times `unit` nanoseconds.
fn part(number: &str, unit: u64) -> Option<std::time::Duration> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || fraction.len() > 18 {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut nanoseconds = u128::from(whole) * u128::from(unit);
    if !fraction.is_empty() {
        let scale = 10u128.pow(fraction.len() as u32);
        nanoseconds += fraction.parse::<u128>().ok()? * u128::from(unit) / scale;
    }
    u64::try_from(nanoseconds).ok().map(std::time::Duration::from_nanos)
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, nanoseconds) = (self.0.as_secs(), self.0.subsec_nanos());
        match (seconds, nanoseconds) {
            (0, 0) => f.write_str("0s"),
            (_, 0) => write!(f, "{seconds}s"),
            (0, n) if n % 1_000_000 == 0 => write!(f, "{}ms", n / 1_000_000),
            (_, n) if n % 1_000_000 == 0 => write!(f, "{seconds}s{}ms", n / 1_000_000),
            (_, n) => write!(f, "{seconds}s{n}ns"),
        }
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// Durations as Gateway API's fields have them: one to four of a number of up to five digits and its unit, `h`, `m`, `s` or
/// `ms` (GEP-2257). Its CRDs refuse others, such as `1.5s`, and so must readers of files. For serde's `with`.
pub mod gateway_api {
    use super::{Deserialize, Deserializer, Duration, Serialize, Serializer, de};

    /// Writes it as [`Duration`] does.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        duration.serialize(serializer)
    }

    /// Reads one.
    ///
    /// # Errors
    /// If it is not written so.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        let Some(text) = <Option<std::borrow::Cow<'de, str>>>::deserialize(deserializer)? else { return Ok(None) };
        if !is_written_so(&text) {
            return Err(de::Error::custom(format!(
                "{text:?} is not a duration of Gateway API; write up to four numbers of up to five digits, each with its \
                 unit (h, m, s, ms), for example 1s500ms"
            )));
        }
        text.parse().map(Some).map_err(de::Error::custom)
    }

    fn is_written_so(text: &str) -> bool {
        let mut rest = text;
        for _ in 0..4 {
            let after = rest.trim_start_matches(|c: char| c.is_ascii_digit());
            if !(1..=5).contains(&(rest.len() - after.len())) {
                return false;
            }
            let unit = ["ms", "h", "m", "s"].into_iter().find_map(|unit| after.strip_prefix(unit));
            match unit {
                Some("") => return true,
                Some(more) => rest = more,
                None => return false,
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateway_api_has_no_fractions_no_small_units_and_four_numbers_at_most() {
        let read = |text: &str| gateway_api::deserialize(&serde_json::Value::from(text));
        for (good, milliseconds) in [("10s", 10_000), ("0s", 0), ("1h2m3s4ms", 3_723_004), ("99999ms", 99_999)] {
            assert_eq!(read(good).ok(), Some(Some(Duration::from_millis(milliseconds))), "{good}");
        }
        for bad in ["1.5s", "0", "", "5", "s", "1us", "100000s", "1h1h1h1h1h", "-1s", "1s ", "1 s"] {
            assert!(read(bad).is_err_and(|error| error.to_string().contains("1s500ms")), "{bad}");
        }
    }

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, milliseconds) in [
            ("10s", 10_000),
            ("1h30m", 5_400_000),
            ("250ms", 250),
            ("1.5s", 1_500),
            ("0s", 0),
            ("0", 0),
            ("2m500ms", 120_500),
        ] {
            assert_eq!(text.parse::<Duration>(), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_by_name() {
        for text in ["", "10", "s", "-1s", "1 s", "1x", "1.2.3s", "99999999999999999999h"] {
            assert!(text.parse::<Duration>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_duration_is_written_so_that_it_reads_back() {
        for milliseconds in [0, 1, 999, 1_000, 61_500, 86_400_000] {
            let duration = Duration::from_millis(milliseconds);
            assert_eq!(duration.to_string().parse(), Ok(duration));
        }
    }
}
