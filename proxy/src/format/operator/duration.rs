//! `COMMON_DURATION(FROM:TO:PRECISION)`: the time between two moments of an exchange.

use std::time::{Duration, Instant};

use crate::config::ConfigError;
use crate::format::Info;

/// Two moments, and the unit of the time between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Between {
    from: Moment,
    to: Moment,
    unit: Unit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Milli,
    Micro,
    Nano,
}

/// A moment, by Envoy's name: `DS` downstream, `US` upstream; `RX` and `TX` the first and last bytes, `CX` the connect,
/// `HS` the TLS handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    DownstreamReceived(End),
    DownstreamSent(End),
    Connect(End),
    HandshakeEnd,
    UpstreamSent(End),
    UpstreamReceived(End),
    /// One that a filter could note; none here does.
    Own,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    First,
    Last,
}

impl Between {
    pub(super) fn parse(text: &str) -> Result<Self, ConfigError> {
        let parts: Vec<&str> = text.split(':').collect();
        let (from, to, unit) = match parts.as_slice() {
            [from, to] => (from, to, "ms"),
            [from, to, unit] => (from, to, *unit),
            _ => return Err(ConfigError::new("", "arguments must be two moments and, if need be, a precision")),
        };
        let unit = match unit {
            "ms" => Unit::Milli,
            "us" => Unit::Micro,
            "ns" => Unit::Nano,
            _ => return Err(ConfigError::new("", "the precision must be ms, us or ns")),
        };
        Ok(Self { from: Moment::parse(from), to: Moment::parse(to), unit })
    }

    pub(super) fn value(self, info: &Info<'_>) -> Option<u64> {
        let time = self.to.of(info)?.checked_duration_since(self.from.of(info)?)?;
        let count = match self.unit {
            Unit::Milli => time.as_millis(),
            Unit::Micro => time.as_micros(),
            Unit::Nano => time.as_nanos(),
        };
        u64::try_from(count).ok()
    }
}

impl Moment {
    fn parse(name: &str) -> Self {
        match name {
            "DS_RX_BEG" => Self::DownstreamReceived(End::First),
            "DS_RX_END" => Self::DownstreamReceived(End::Last),
            "DS_TX_BEG" => Self::DownstreamSent(End::First),
            "DS_TX_END" => Self::DownstreamSent(End::Last),
            "US_CX_BEG" => Self::Connect(End::First),
            "US_CX_END" => Self::Connect(End::Last),
            "US_HS_END" => Self::HandshakeEnd,
            "US_TX_BEG" => Self::UpstreamSent(End::First),
            "US_TX_END" => Self::UpstreamSent(End::Last),
            "US_RX_BEG" => Self::UpstreamReceived(End::First),
            "US_RX_END" => Self::UpstreamReceived(End::Last),
            _ => Self::Own,
        }
    }

    fn of(self, info: &Info<'_>) -> Option<Instant> {
        let after = |time: Option<Duration>| time.map(|time| info.start + time);
        let upstream = &info.upstream.times;
        match self {
            Self::DownstreamReceived(End::First) => Some(info.start),
            Self::DownstreamReceived(End::Last) => after(info.request_duration),
            Self::DownstreamSent(End::First) => info.first_sent,
            Self::DownstreamSent(End::Last) => after(info.duration).filter(|_| info.first_sent.is_some()),
            Self::Connect(End::First) => upstream.dial.map(|dial| dial.began),
            Self::Connect(End::Last) => upstream.dial.map(|dial| dial.connected),
            Self::HandshakeEnd => upstream.dial.and_then(|dial| dial.secured),
            Self::UpstreamSent(End::First) => upstream.first_sent,
            Self::UpstreamSent(End::Last) => upstream.last_sent,
            Self::UpstreamReceived(End::First) => upstream.first_received,
            Self::UpstreamReceived(End::Last) => upstream.last_received,
            Self::Own => None,
        }
    }
}
