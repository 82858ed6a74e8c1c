//! `original_ip_detection_extensions`: where the client's address stands.
//!
//! Rules: Envoy, "Original IP detection".

use std::net::{IpAddr, SocketAddr};

use ferromesh_proto::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use ferromesh_proto::envoy::extensions::http::original_ip_detection::custom_header::v3::CustomHeaderConfig;
use ferromesh_proto::envoy::extensions::http::original_ip_detection::xff::v3::XffConfig;
use http::header::HeaderName;
use http::{HeaderMap, StatusCode};
use ipnet::IpNet;

use crate::config::supported::Table;
use crate::config::{At, ConfigError, required};
use crate::policy;

/// Fields of these messages that are implemented.
pub const SUPPORTED: Table = &[
    ("envoy.extensions.http.original_ip_detection.custom_header.v3.CustomHeaderConfig", "*"),
    ("envoy.extensions.http.original_ip_detection.xff.v3.XffConfig", "*"),
    ("envoy.extensions.http.original_ip_detection.xff.v3.XffTrustedCidrs", "*"),
];

/// The header of all proxies that a request came through.
pub const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// One way to find the client's address.
#[derive(Debug)]
pub enum Detection {
    /// In X-Forwarded-For, that many places before the last.
    Hops {
        /// Proxies in front that are trusted.
        hops: usize,
        /// The peer's address is not appended.
        skip_append: bool,
    },
    /// In X-Forwarded-For, the last address that is none of a trusted proxy; the peer must be one.
    Proxies {
        /// Where trusted proxies are.
        ranges: Vec<IpNet>,
        /// The peer's address is not appended.
        skip_append: bool,
    },
    /// In a header of its own.
    Header {
        /// The header.
        name: HeaderName,
        /// The address may make the request internal.
        trusted: bool,
        /// Requests without an address there are answered with this.
        reject: Option<StatusCode>,
    },
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detected {
    /// The client's address; the flag says that it may make the request internal.
    Address(IpAddr, bool),
    /// Nothing; the next may know.
    Unknown,
    /// The request is refused.
    Refused(StatusCode),
}

impl Detection {
    /// Decodes the manager's list.
    ///
    /// # Errors
    /// Names the extension that is wrong or not implemented, or the setting that it excludes.
    pub(super) fn decode_list(message: &hcm::HttpConnectionManager) -> Result<Vec<Self>, ConfigError> {
        let list = &message.original_ip_detection_extensions;
        let excludes = |field: &str| {
            let reason = format!("must not be set together with {field}");
            Err(ConfigError::new("original_ip_detection_extensions", reason))
        };
        if list.is_empty() {
            return Ok(Vec::new());
        }
        if message.use_remote_address.unwrap_or(false) {
            return excludes("use_remote_address");
        }
        if message.xff_num_trusted_hops > 0 {
            return excludes("xff_num_trusted_hops");
        }
        let decode = |(index, extension): (usize, &ferromesh_proto::envoy::config::core::v3::TypedExtensionConfig)| {
            let any = required(extension.typed_config.as_ref(), "typed_config");
            any.and_then(|any| Self::decode(any).at("typed_config"))
                .at(format!("original_ip_detection_extensions[{index}]"))
        };
        list.iter().enumerate().map(decode).collect()
    }

    fn decode(any: &ferromesh_proto::Any) -> Result<Self, ConfigError> {
        let wrong = |error: String| ConfigError::new("", error);
        if any.is::<XffConfig>() {
            let message: XffConfig = any.unpack().map_err(|error| wrong(error.to_string()))?;
            let skip_append = message.skip_xff_append.unwrap_or(true);
            let Some(trusted) = message.xff_trusted_cidrs else {
                return Ok(Self::Hops { hops: message.xff_num_trusted_hops as usize, skip_append });
            };
            if message.xff_num_trusted_hops > 0 {
                return Err(ConfigError::new(
                    "xff_trusted_cidrs",
                    "must not be set together with xff_num_trusted_hops",
                ));
            }
            let range = |(index, range)| policy::cidr(range).at(format!("xff_trusted_cidrs.cidrs[{index}]"));
            let ranges = trusted.cidrs.iter().enumerate().map(range).collect::<Result<_, _>>()?;
            return Ok(Self::Proxies { ranges, skip_append });
        }
        if any.is::<CustomHeaderConfig>() {
            let message: CustomHeaderConfig = any.unpack().map_err(|error| wrong(error.to_string()))?;
            let name = HeaderName::from_bytes(message.header_name.as_bytes())
                .map_err(|_| ConfigError::new("header_name", "is not a valid header name"))?;
            // Envoy takes what is no error for 403.
            let status = |code: i32| u16::try_from(code).ok().and_then(|code| StatusCode::from_u16(code).ok());
            let error = |code| status(code).filter(|code| code.as_u16() >= 400).unwrap_or(StatusCode::FORBIDDEN);
            return Ok(Self::Header {
                name,
                trusted: message.allow_extension_to_set_address_as_trusted,
                reject: message.reject_with_status.map(|status| error(status.code)),
            });
        }
        Err(wrong(format!("extension {:?} is not implemented", any.type_url)))
    }

    /// Looks for the address; the flag says that the peer's is to be appended to X-Forwarded-For. Pure.
    pub fn detect(&self, remote: SocketAddr, headers: &HeaderMap) -> (Detected, bool) {
        match self {
            Self::Hops { skip_append, .. } => (self.address(headers), !skip_append),
            Self::Proxies { ranges, .. } if !is_proxy(ranges, remote.ip()) => (Detected::Unknown, true),
            Self::Proxies { skip_append, .. } => (self.address(headers), !skip_append),
            Self::Header { .. } => (self.address(headers), false),
        }
    }

    fn address(&self, headers: &HeaderMap) -> Detected {
        match self {
            Self::Hops { hops, .. } => match forwarded(headers, *hops) {
                Some(ip) => Detected::Address(ip, *hops == 0 && count(headers) == 1),
                None => Detected::Unknown,
            },
            Self::Proxies { ranges, .. } => {
                let mut first = None;
                for text in addresses(headers).rev() {
                    let Some(ip) = parsed(text) else { return Detected::Unknown };
                    first = Some(ip);
                    if !is_proxy(ranges, ip) {
                        break;
                    }
                }
                first.map_or(Detected::Unknown, |ip| Detected::Address(ip, count(headers) == 1))
            }
            Self::Header { name, trusted, reject } => {
                let told = headers.get(name).and_then(|value| value.to_str().ok()?.parse().ok());
                match (told, reject) {
                    (Some(ip), _) => Detected::Address(ip, *trusted),
                    (None, Some(status)) => Detected::Refused(*status),
                    (None, None) => Detected::Unknown,
                }
            }
        }
    }
}

fn is_proxy(ranges: &[IpNet], ip: IpAddr) -> bool {
    ranges.iter().any(|range| policy::contains(range, ip))
}

fn addresses(headers: &HeaderMap) -> impl DoubleEndedIterator<Item = &str> {
    headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','))
}

/// How many addresses X-Forwarded-For has.
pub fn count(headers: &HeaderMap) -> usize {
    addresses(headers).count()
}

/// The address of X-Forwarded-For that is `skip` places before the last.
pub fn forwarded(headers: &HeaderMap, skip: usize) -> Option<IpAddr> {
    parsed(addresses(headers).rev().nth(skip)?)
}

fn parsed(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    text.parse::<IpAddr>().or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detected(detection: &Detection, headers: &[(&'static str, &'static str)]) -> (Detected, bool) {
        let headers =
            headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().expect("a value")));
        detection.detect(SocketAddr::from(([127, 0, 0, 1], 1)), &headers.collect())
    }

    fn address(text: &str, trusted: bool) -> Detected {
        Detected::Address(text.parse().expect("an address"), trusted)
    }

    #[test]
    fn the_last_address_that_is_no_proxy_is_the_clients_if_the_peer_is_a_proxy() {
        let ranges = |texts: &[&str]| texts.iter().map(|text| text.parse().expect("a range")).collect();
        let ours = Detection::Proxies { ranges: ranges(&["127.0.0.0/8", "10.0.0.0/8"]), skip_append: true };
        for (value, expected) in [
            ("8.8.8.8, 10.0.0.1", address("8.8.8.8", false)),
            ("9.9.9.9, 8.8.8.8", address("8.8.8.8", false)),
            ("10.0.0.2, 10.0.0.1", address("10.0.0.2", false)),
            ("10.0.0.1", address("10.0.0.1", true)),
            ("8.8.8.8, nobody, 10.0.0.1", Detected::Unknown),
        ] {
            assert_eq!(detected(&ours, &[("x-forwarded-for", value)]), (expected, false), "{value}");
        }
        let others = Detection::Proxies { ranges: ranges(&["10.0.0.0/8"]), skip_append: true };
        assert_eq!(detected(&others, &[("x-forwarded-for", "8.8.8.8")]), (Detected::Unknown, true));
    }

    #[test]
    fn a_header_of_its_own_names_the_client_or_refuses_the_request() {
        let name = HeaderName::from_static("x-client");
        let may = Detection::Header { name: name.clone(), trusted: true, reject: None };
        assert_eq!(detected(&may, &[("x-client", "2001:db8::1")]), (address("2001:db8::1", true), false));
        assert_eq!(detected(&may, &[("x-client", "8.8.8.8:80")]), (Detected::Unknown, false));
        let must = Detection::Header { name, trusted: false, reject: Some(StatusCode::UNAUTHORIZED) };
        assert_eq!(detected(&must, &[]), (Detected::Refused(StatusCode::UNAUTHORIZED), false));
    }
}
