//! Which requests are logged. Pure.

use ferromesh_proto::envoy::config::accesslog::v3 as accesslog;
use http::StatusCode;

use crate::config::{At, ConfigError, required};
use crate::format::{Info, grpc_status};
use crate::matcher::{HeaderMatcher, MetadataMatcher, hit, per_million};
use crate::message;

/// A compiled filter.
#[derive(Debug)]
pub struct Filter(Kind);

#[derive(Debug)]
enum Kind {
    Status(Comparison),
    Duration(Comparison),
    NotHealthCheck,
    /// Requests that a tracer follows; there is none that could not follow one.
    Traceable,
    Fraction(u32),
    And(Vec<Filter>),
    Or(Vec<Filter>),
    Header(HeaderMatcher),
    /// Flags; empty means any.
    Flags(Vec<String>),
    Grpc(Vec<u32>, bool),
    Metadata(MetadataMatcher, bool),
}

#[derive(Debug)]
struct Comparison {
    op: accesslog::comparison_filter::Op,
    value: u64,
}

/// Left in the filter state by the health_check filter.
#[derive(Debug, Clone, Copy)]
pub struct HealthCheckRequest;

impl Filter {
    /// Compiles a filter.
    ///
    /// # Errors
    /// Names the field that is missing, wrong or not implemented.
    pub fn decode(message: &accesslog::AccessLogFilter) -> Result<Self, ConfigError> {
        use accesslog::access_log_filter::FilterSpecifier as Message;
        let list = |filters: &[accesslog::AccessLogFilter], field: &str| -> Result<Vec<Self>, ConfigError> {
            if filters.len() < 2 {
                return Err(ConfigError::new(field, "must have at least two filters"));
            }
            filters
                .iter()
                .enumerate()
                .map(|(index, filter)| Self::decode(filter).at(format!("{field}.filters[{index}]")))
                .collect()
        };
        Ok(Self(match required(message.filter_specifier.as_ref(), "filter_specifier")? {
            Message::StatusCodeFilter(filter) => {
                Kind::Status(Comparison::decode(filter.comparison.as_ref()).at("status_code_filter.comparison")?)
            }
            Message::DurationFilter(filter) => {
                Kind::Duration(Comparison::decode(filter.comparison.as_ref()).at("duration_filter.comparison")?)
            }
            Message::NotHealthCheckFilter(_) => Kind::NotHealthCheck,
            Message::TraceableFilter(_) => Kind::Traceable,
            Message::RuntimeFilter(filter) => Kind::Fraction(filter.percent_sampled.as_ref().map_or(0, per_million)),
            Message::AndFilter(filter) => Kind::And(list(&filter.filters, "and_filter")?),
            Message::OrFilter(filter) => Kind::Or(list(&filter.filters, "or_filter")?),
            Message::HeaderFilter(filter) => {
                let header = required(filter.header.as_ref(), "header_filter.header")?;
                Kind::Header(HeaderMatcher::decode(header).at("header_filter.header")?)
            }
            Message::ResponseFlagFilter(filter) => Kind::Flags(filter.flags.clone()),
            Message::GrpcStatusFilter(filter) => Kind::Grpc(
                filter.statuses.iter().filter_map(|status| u32::try_from(*status).ok()).collect(),
                filter.exclude,
            ),
            Message::MetadataFilter(filter) => {
                let matcher = required(filter.matcher.as_ref(), "metadata_filter.matcher")?;
                let matcher = MetadataMatcher::decode(matcher).at("metadata_filter.matcher")?;
                Kind::Metadata(matcher, filter.match_if_key_not_found.unwrap_or(true))
            }
            Message::LogTypeFilter(_) => return Err(ConfigError::new("log_type_filter", "is not implemented")),
            Message::ExtensionFilter(filter) => {
                let reason = format!("filter {:?} is not implemented", filter.name);
                return Err(ConfigError::new("extension_filter", reason));
            }
        }))
    }

    /// Whether it wants a request; `random` decides about fractions.
    pub fn wants(&self, info: &Info<'_>, random: u64) -> bool {
        match &self.0 {
            Kind::Status(comparison) => comparison.holds(info.status.unwrap_or(0).into()),
            Kind::Duration(comparison) => {
                let duration = info.duration.unwrap_or_else(|| info.start.elapsed());
                comparison.holds(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
            }
            Kind::NotHealthCheck => info.state.is_none_or(|state| state.get::<HealthCheckRequest>().is_none()),
            Kind::Traceable => true,
            Kind::Fraction(share) => hit(*share, random),
            Kind::And(all) => all.iter().all(|filter| filter.wants(info, random)),
            Kind::Or(any) => any.iter().any(|filter| filter.wants(info, random)),
            Kind::Header(matcher) => info.request.is_some_and(|head| matcher.matches_request(head)),
            Kind::Flags(flags) => info.causes.iter().any(|cause| {
                !cause.flag().is_empty() && (flags.is_empty() || flags.iter().any(|flag| flag == cause.flag()))
            }),
            Kind::Grpc(statuses, exclude) => {
                let status = grpc_status(info).unwrap_or_else(|| implied_grpc_status(info.status));
                statuses.contains(&status) != *exclude
            }
            Kind::Metadata(matcher, if_absent) => match info.metadata {
                Some(metadata) if matcher.is_in(metadata) => matcher.matches(metadata),
                _ => *if_absent,
            },
        }
    }
}

/// gRPC's status for an HTTP one; UNKNOWN if nothing was sent.
fn implied_grpc_status(status: Option<u16>) -> u32 {
    status.and_then(|status| StatusCode::from_u16(status).ok()).map_or(2, message::grpc_status)
}

impl Comparison {
    fn decode(message: Option<&accesslog::ComparisonFilter>) -> Result<Self, ConfigError> {
        let message = required(message, "")?;
        let value = required(message.value.as_ref(), "value")?;
        Ok(Self { op: message.op(), value: value.default_value.into() })
    }

    fn holds(&self, value: u64) -> bool {
        use accesslog::comparison_filter::Op;
        match self.op {
            Op::Eq => value == self.value,
            Op::Ge => value >= self.value,
            Op::Le => value <= self.value,
            Op::Ne => value != self.value,
        }
    }
}
