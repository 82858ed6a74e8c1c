//! gRPC's status, by name and number.

use std::borrow::Cow;

use crate::config::ConfigError;
use crate::format::{Info, Rendered};

/// Names of gRPC status codes, as Envoy's logs write them.
pub const GRPC_NAMES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// The same, in gRPC's own spelling.
const SNAKE_NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// How a status is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// `DeadlineExceeded`
    Camel,
    /// `DEADLINE_EXCEEDED`
    Snake,
    /// `4`
    Number,
}

impl Style {
    pub(super) fn parse(text: &str) -> Result<Self, ConfigError> {
        match text {
            "" | "CAMEL_STRING" => Ok(Self::Camel),
            "SNAKE_STRING" => Ok(Self::Snake),
            "NUMBER" => Ok(Self::Number),
            _ => Err(ConfigError::new("", "argument must be CAMEL_STRING, SNAKE_STRING or NUMBER")),
        }
    }

    pub(super) fn value<'a>(self, info: &Info<'_>) -> Rendered<'a> {
        let Some(status) = grpc_status(info) else { return Rendered::Missing };
        let names = match self {
            Self::Camel => GRPC_NAMES,
            Self::Snake => SNAKE_NAMES,
            Self::Number => return Rendered::Number(status.into()),
        };
        let name = names.get(status as usize);
        Rendered::Text(name.map_or_else(|| Cow::Owned(status.to_string()), |name| Cow::Borrowed(*name)))
    }
}

/// The gRPC status of the response: of its trailers, else of its head, else what its HTTP status stands for. `None` if
/// the request is not a gRPC one.
pub fn grpc_status(info: &Info<'_>) -> Option<u32> {
    info.request.filter(|head| head.is_grpc())?;
    let of = |headers: &http::HeaderMap| headers.get("grpc-status")?.to_str().ok()?.parse().ok();
    let told = info.trailers.and_then(of).or_else(|| of(&info.response?.headers));
    let implied = || http::StatusCode::from_u16(info.status?).ok().map(crate::message::grpc_status);
    told.or_else(implied)
}
