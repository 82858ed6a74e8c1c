//! Times in Envoy's formats: strftime with `%3f`, `%E3S` and the like for fractions of seconds.

use std::time::SystemTime;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::config::ConfigError;

/// What stands for an empty format in the machine's time zone.
const LOCAL: &str = "%Y-%m-%dT%H:%M:%E3S%z";

/// A compiled time format.
#[derive(Debug, Clone)]
pub enum TimeFormat {
    /// `2026-01-02T03:04:05.678Z`
    Iso,
    /// Pieces of strftime and digits of the fraction; the bool says in the machine's time zone.
    Custom(Vec<Piece>, bool),
}

/// A piece of a time format.
#[derive(Debug, Clone)]
pub enum Piece {
    /// For strftime.
    Text(String),
    /// That many digits of the fraction.
    Fraction(usize),
}

impl TimeFormat {
    /// Compiles a format; an empty one is ISO 8601 with milliseconds. `local` asks for the machine's time zone.
    ///
    /// # Errors
    /// If strftime does not know a directive.
    pub fn parse(text: &str, local: bool) -> Result<Self, ConfigError> {
        if !local && (text.is_empty() || text == "%Y-%m-%dT%H:%M:%E3SZ") {
            return Ok(Self::Iso);
        }
        let text = if text.is_empty() { LOCAL } else { text };
        if text.contains("%n") {
            return Err(ConfigError::new("", format!("time format {text:?}: a line must not end in it")));
        }
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            plain.push_str(&rest[..at]);
            rest = &rest[at..];
            let Some((seconds, digits, length)) = fraction(rest) else {
                let length = rest.chars().take(2).map(char::len_utf8).sum();
                plain.push_str(&rest[..length]);
                rest = &rest[length..];
                continue;
            };
            if seconds {
                plain.push_str("%S.");
            }
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            pieces.push(Piece::Fraction(digits));
            rest = &rest[length..];
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        let zoned = Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
        for piece in &pieces {
            if let Piece::Text(text) = piece {
                jiff::fmt::strtime::format(text, &zoned)
                    .map_err(|error| ConfigError::new("", format!("time format {text:?}: {error}")))?;
            }
        }
        Ok(Self::Custom(pieces, local))
    }

    /// The time in this format.
    pub fn format(&self, time: SystemTime) -> String {
        let timestamp = Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH);
        let zone = if matches!(self, Self::Custom(_, true)) { TimeZone::system() } else { TimeZone::UTC };
        let zoned = timestamp.to_zoned(zone);
        match self {
            Self::Iso => iso(&zoned),
            Self::Custom(pieces, _) => pieces.iter().fold(String::new(), |mut out, piece| {
                match piece {
                    Piece::Text(text) => {
                        // Compiled once without error, so that it is empty never.
                        out.push_str(&jiff::fmt::strtime::format(text, &zoned).unwrap_or_default());
                    }
                    Piece::Fraction(digits) => {
                        let nanos = format!("{:09}", zoned.subsec_nanosecond());
                        out.push_str(nanos.get(..*digits).unwrap_or(&nanos));
                    }
                }
                out
            }),
        }
    }
}

/// Each line of a log begins with it, so it is written digit by digit.
fn iso(time: &jiff::Zoned) -> String {
    let mut text = String::with_capacity(24);
    let mut put = |number: i16, digits: u32, after: char| {
        for place in (0..digits).rev() {
            let digit = number.unsigned_abs() / 10u16.pow(place) % 10;
            text.push(char::from(b'0' + digit as u8));
        }
        text.push(after);
    };
    put(time.year(), 4, '-');
    put(time.month().into(), 2, '-');
    put(time.day().into(), 2, 'T');
    put(time.hour().into(), 2, ':');
    put(time.minute().into(), 2, ':');
    put(time.second().into(), 2, '.');
    put(time.millisecond(), 3, 'Z');
    text
}

/// Reads `%f`, `%3f` and `%E3S`: (with seconds before it, digits, length of the directive).
fn fraction(text: &str) -> Option<(bool, usize, usize)> {
    match text.as_bytes() {
        [b'%', b'f', ..] => Some((false, 9, 2)),
        [b'%', digit @ b'1'..=b'9', b'f', ..] => Some((false, usize::from(digit - b'0'), 3)),
        [b'%', b'E', b'*', b'S' | b'f', ..] => Some((text.as_bytes().get(3) == Some(&b'S'), 9, 4)),
        [b'%', b'E', digit @ b'1'..=b'9', kind @ (b'S' | b'f'), ..] => {
            Some((*kind == b'S', usize::from(digit - b'0'), 4))
        }
        _ => None,
    }
}
