//! The one list of what may differ from Envoy, each with its reason.

/// A difference that is meant.
#[derive(Debug)]
pub struct Difference {
    /// Cases `group/name`; see [`matches`] for `*`.
    pub case: &'static str,
    /// What differs.
    pub what: What,
    /// Why.
    #[allow(dead_code, reason = "for readers, and shown by Debug")]
    pub reason: &'static str,
}

/// What differs.
#[derive(Debug)]
pub enum What {
    /// One fact, as the report names it.
    Fact(&'static str),
    /// Envoy takes the request, or refuses it with another status; ours is refused with this one and goes nowhere.
    Refused(&'static str),
    /// Both refuse with the same status; ours says why.
    Explained,
    /// One fact, where ours is this.
    Ours(&'static str, &'static str),
    /// Everything: the request is taken for another.
    Everything,
}

impl Difference {
    /// Whether this is about a case.
    pub fn is_of(&self, case: &str) -> bool {
        // What differs over HTTP/1 may differ so over HTTP/2.
        let either = ["down ", "up "].iter().find_map(|prefix| case.strip_prefix(prefix));
        matches(self.case, case) || either.is_some_and(|case| matches(self.case, case))
    }

    /// Whether this is about a fact of a case, of which ours are these.
    pub fn covers(&self, case: &str, what: &str, ours: &[String]) -> bool {
        self.is_of(case)
            && match self.what {
                What::Fact(fact) => matches(fact, what),
                What::Refused(status) if what == "status" => ours == [status],
                What::Refused(_) => ours.is_empty() || what.starts_with("answer ") || what.starts_with("log "),
                What::Explained => EXPLAINED.iter().any(|fact| fact.eq_ignore_ascii_case(what)),
                What::Ours(fact, value) => matches(fact, what) && ours == [value],
                What::Everything => true,
            }
    }
}

/// What differs where both refuse a request: Envoy's body is the status's reason phrase or empty.
const EXPLAINED: &[&str] = &[
    "answer body",
    "answer header content-length",
    "answer header content-type",
    "log details",
    "log sent",
    "log termination",
];

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

/// The sentence of the cause, for whoever has to mend the client; details and termination tell it to whoever reads the log.
const SENTENCE: &str =
    "both refuse; the body says what is wrong with the request, where Envoy's is the status's name or empty";
/// RFC 9112, 6.3 and 5.2: two readers of the message would see two messages, of which a policy has checked one.
const AMBIGUOUS: &str = "two readers would read it as different requests, so that a policy could be passed by";

/// A path that is refused.
const AS_IT_CAME: &str = "the log shows the path that was refused as it came, not what it would have become";
/// A format may make a body for a 204, which Envoy announces and does not send.
const NO_BODY: &str = "a 204 has no body, and says nothing of one";
const AS_BYTES: &str = "bytes beyond ASCII go on as they came; Envoy encodes them with percent signs";
const READ: &str = "the rest of the head could be read, and is logged";

/// Envoy answers when the head has come and closes, since the body is still to be read; here the body was in the same
/// bytes and is read, so that the connection stays good.
const WHOLE: &str = "a request whose whole body has come is answered without closing the connection";
/// Envoy's lines name the route that a redirect leads to, also where it is not followed.
const WHOSE: &str = "a line of the log names the route and the cluster that gave the answer of the line";

/// Envoy writes the end of a body as a piece of its own, and libraries differ.
const DENSITY: &str = "how many bytes a body is compressed to";

const fn known(case: &'static str, what: &'static str, reason: &'static str) -> Difference {
    Difference { case, what: What::Fact(what), reason }
}

const fn refused(case: &'static str, status: &'static str, reason: &'static str) -> Difference {
    Difference { case, what: What::Refused(status), reason }
}

const fn explained(case: &'static str, reason: &'static str) -> Difference {
    Difference { case, what: What::Explained, reason }
}

const fn everything(case: &'static str, reason: &'static str) -> Difference {
    Difference { case, what: What::Everything, reason }
}

/// The framing of HTTP/2 is the library's, which does not tell.
const FRAMES: &str = "bytes of the wire are counted over HTTP/1 only";
/// Envoy counts the body of an answer that is followed by another try, where it came with the head.
const UNREAD: &str = "the body of an answer that is not given on is not read, and not counted";

/// Every difference.
#[rustfmt::skip]
pub const DIFFERENCES: &[Difference] = &[
    Difference { case: "up log texts/rewritten", what: What::Ours("log 048", "0"), reason: FRAMES },
    known("log texts/again", "log 048", UNREAD),
    explained("framing/options star", SENTENCE),
    explained("framing/own method", SENTENCE),
    explained("framing/too *", SENTENCE),
    explained("headers/present", SENTENCE),
    explained("path */bytes", SENTENCE),
    explained("path */encoded zero", SENTENCE),
    explained("path */fragment", SENTENCE),
    explained("paths/fragment", SENTENCE),
    explained("path reject/encoded *", SENTENCE),
    known("path reject/encoded *", "log path", AS_IT_CAME),
    refused("http10/chunked", "400", AMBIGUOUS),
    refused("strict/folded", "400", AMBIGUOUS),
    refused("strict/two hosts", "400", AMBIGUOUS),
    refused("strict/host with user", "400", "user information in an authority is forbidden (RFC 9110, 4.2.4), and hides the host from simple readers"),
    refused("strict/no version", "400", "HTTP/0.9 is malformed, not a version that could be upgraded"),
    refused("strict/version 2", "400", "HTTP/2 does not begin so: the line is malformed, not of a version that is too low"),
    explained("strict/bad chunk", SENTENCE),
    known("strict/bad chunk", "echo[0]*", "the first chunk has come with the head, and is looked at before anything is sent on"),
    explained("strict/host with space", SENTENCE),
    known("strict/host with space", "log case", READ),
    known("strict/host with space", "log method", READ),
    known("strict/host with space", "log path", READ),
    explained("strict/http 1.0", SENTENCE),
    explained("strict/length and chunked", SENTENCE),
    explained("strict/length in words", SENTENCE),
    explained("strict/no host", SENTENCE),
    explained("strict/nonsense", SENTENCE),
    explained("strict/same lengths", SENTENCE),
    explained("strict/space before colon", SENTENCE),
    explained("strict/two lengths", SENTENCE),
    explained("strict/unknown coding", SENTENCE),
    explained("strict/zero byte", SENTENCE),
    explained("absolute off/*", SENTENCE),
    everything("absolute on/query only", "a target without a path asks for / (RFC 9110, 4.2.3); Envoy takes the query for a path"),
    refused("http10 */empty host", "400", "an empty Host names nobody, and a server behind would have to refuse it"),
    explained("http10 no default/no host", SENTENCE),
    everything("http10 */upgrade", "an Upgrade in HTTP/1.0 is to be ignored (RFC 9110, 7.8); Envoy refuses the request"),
    explained("limit of */above", SENTENCE),
    explained("names */malformed", SENTENCE),
    Difference { case: "*", what: What::Ours("answer reason", "I'm a teapot"), reason: "the registry's name of a status that Envoy has none for" },
    explained("reply malformed/*", SENTENCE),
    explained("reply */no path", SENTENCE),
    known("reply */empty", "answer header content-*", NO_BODY),
    known("reply */empty", "log sent", NO_BODY),
    explained("http10 off/*", SENTENCE),
    explained("slash reject only/*", SENTENCE),
    known("slash reject only/*", "log path", AS_IT_CAME),
    explained("under reject/*", SENTENCE),
    known("under reject/*", "log authority", READ),
    known("under reject/*", "log case", READ),
    known("under reject/*", "log method", READ),
    known("under reject/*", "log path", READ),
    everything("down under reject/*", "a client that is told why can mend its request; Envoy resets the stream"),
    known("down reply */empty", "answer body", NO_BODY),
    known("down path */bytes", "* line", AS_BYTES),
    known("down path */bytes", "log path", AS_BYTES),
    explained("slash */only", SENTENCE),
    everything("slash * merge/root", "a path of nothing but slashes is merged to one as others are; Envoy keeps two"),
    known("followed/*", "log route", WHOSE),
    known("followed/*", "log cluster", WHOSE),
    known("followed/*", "log received", "the request's body came once, and is counted once"),
    known("followed/*", "log scheme", "Envoy doubles the scheme of a request whose redirect it does not follow in the end"),
    everything("followed/dots", "the path is normalized before its route is looked for, so that predicates judge the route that is taken"),
    known("compression*", "log sent", DENSITY),
    known("redirects/direct with request body", "answer header connection", WHOLE),
];
