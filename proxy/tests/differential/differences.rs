//! The one list of what may differ from Envoy, each with its reason.

/// A difference that is meant.
#[derive(Debug)]
pub struct Difference {
    /// Cases `group/name`; see [`matches`] for `*`.
    pub case: &'static str,
    /// What differs, as the report names it.
    pub what: &'static str,
    /// Why.
    #[allow(dead_code, reason = "for readers, and shown by Debug")]
    pub reason: &'static str,
}

impl Difference {
    /// Whether this is about a fact of a case.
    pub fn covers(&self, case: &str, what: &str) -> bool {
        matches(self.case, case) && matches(self.what, what)
    }
}

/// `*` stands for anything; at most two are in a pattern.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|text| match rest.strip_suffix('*') {
            Some(middle) => text.contains(middle),
            None => text.ends_with(rest),
        }),
    }
}

/// Messages that Envoy repairs or forwards and this proxy refuses, each with a sentence as body: a peer that reads them
/// otherwise would see another request than the policy did.
const STRICTER: &str = "refused on purpose, or refused with another code and a sentence that says why";
/// Both refuse; Envoy's body is the status's reason phrase or empty.
const TEXT: &str = "the body and termination details say what is wrong with the request; Envoy's do not";
/// Known, and not decided: Envoy's way is to be taken unless a reason against it is written here.
const OPEN: &str = "not decided yet";

const fn known(case: &'static str, what: &'static str, reason: &'static str) -> Difference {
    Difference { case, what, reason }
}

/// Every difference.
#[rustfmt::skip]
pub const DIFFERENCES: &[Difference] = &[
    known("strict/*", "*", STRICTER),
    known("http10/chunked", "*", STRICTER),
    known("http10/-", "*", STRICTER),
    known("headers/present", "*", TEXT),
    known("headers/-", "*", TEXT),
    known("framing/too *", "*", TEXT),
    known("framing/-", "*", TEXT),
    known("*/fragment", "*", TEXT),
    known("path*/-", "*", TEXT),
    known("*/bytes", "*", OPEN),
    known("*/encoded zero", "*", OPEN),
    known("framing/own method", "*", OPEN),
    known("upgrades/*", "*", OPEN),
    known("headers/several", "*", OPEN),
    known("query/encoded", "*", OPEN),
    known("*", "echo[0] header x-envoy-external-address", OPEN),
    known("*/envoy headers*", "echo[0] header x-envoy-original-*", OPEN),
    known("clusters/*", "*", OPEN),
    known("cors/*", "*", OPEN),
    known("retries/*", "*", OPEN),
    known("header rules/*", "*", OPEN),
    known("edge/envoy headers", "answer header x-request-id", OPEN),
    known("fault/*", "log cluster", OPEN),
    known("fault/*", "log flags", OPEN),
    known("framing/*", "log scheme", OPEN),
    known("framing/chunked with trailers", "echo[0] trailer x-t", OPEN),
    known("framing/connect", "log path", OPEN),
    known("framing/expect", "answer 100", OPEN),
    known("framing/head chunked", "answer header transfer-encoding", OPEN),
    known("framing/options star", "log details", OPEN),
    known("framing/options star", "log flags", OPEN),
    known("framing/options star", "log id", OPEN),
    known("framing/upstream trailers", "answer trailer x-trailer", OPEN),
    known("framing/upstream trailers", "log trailer", OPEN),
    known("health/check", "answer header x-envoy-upstream-healthchecked-cluster", OPEN),
    known("health/check", "log cluster", OPEN),
    known("inner hops/*", "log path", OPEN),
    known("inner hops/two lines", "echo[0] header x-forwarded-for", OPEN),
    known("inner hops/two lines", "log xff", OPEN),
    known("inner/*", "log path", OPEN),
    known("inner/two lines", "echo[0] header x-forwarded-for", OPEN),
    known("inner/two lines", "log xff", OPEN),
    known("limit/*", "log cluster", OPEN),
    known("limit/grpc", "log grpc", OPEN),
    known("no id/*", "log path", OPEN),
    known("no id/two lines", "echo[0] header x-forwarded-for", OPEN),
    known("no id/two lines", "log xff", OPEN),
    known("path redirect/*", "log path", OPEN),
    known("path redirect/*", "log scheme", OPEN),
    known("path reject/*", "answer body", OPEN),
    known("path reject/*", "answer header connection", OPEN),
    known("path reject/*", "answer header content-length", OPEN),
    known("path reject/*", "answer header content-type", OPEN),
    known("path reject/*", "log path", OPEN),
    known("path reject/*", "log scheme", OPEN),
    known("path reject/*", "log sent", OPEN),
    known("rbac/*", "log cluster", OPEN),
    known("redirects/direct with request body", "answer header connection", OPEN),
    known("rewrites/*", "echo[0] header x-envoy-original-host", OPEN),
    known("skip xff/two lines", "echo[0] header x-forwarded-for", OPEN),
    known("skip xff/two lines", "log xff", OPEN),
    known("timeouts/stream", "echo[0] header x-envoy-expected-rq-timeout-ms", OPEN),
    known("timeouts/stream", "log flags", OPEN),
];
