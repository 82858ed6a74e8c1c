//! An upstream's redirect that the proxy follows: the request as it begins anew.

use http::{HeaderName, HeaderValue, Method, StatusCode};

use crate::body::Body;
use crate::http::head::normalize_path;
use crate::http::stream::Stream;
use crate::message::ResponseHead;
use crate::route::SelectedRoute;
use crate::route::internal_redirect::{Followed, InternalRedirect, Refusal, Step, Target};
use crate::text::Text;

const ORIGINAL_URL: HeaderName = HeaderName::from_static("x-envoy-original-url");

/// A request that begins anew; its head is that of the stream.
pub struct Redirected {
    /// The answer that told to.
    pub answer: ResponseHead,
    /// The request's body.
    pub body: Body,
}

/// Changes the stream's request into what `answer` redirects to; whether its body is to be sent again.
///
/// # Errors
/// Says why the redirect goes to the client; the request is as it was.
pub(super) fn follow(
    stream: &mut Stream,
    route: &SelectedRoute,
    policy: &InternalRedirect,
    answer: &ResponseHead,
) -> Result<bool, Refusal> {
    let location = answer.headers.get(http::header::LOCATION).map(HeaderValue::as_bytes);
    let target = location.and_then(Target::parse).ok_or(Refusal::BadLocation)?;
    // A scheme that only a header speaks of is not enough.
    let from_https = stream.request.scheme.as_str() == "https" && stream.connection.tls.is_some();
    let mut followed = stream.state.get::<Followed>().cloned().unwrap_or_default();
    policy.check(&followed, from_https, target.https)?;
    let before = stream.request.clone();
    let result = change(stream, policy, target, answer).and_then(|to| {
        let step = Step {
            from: &route.route().name,
            to: &to.route().name,
            from_https,
            to_https: stream.request.scheme.as_str() == "https",
        };
        policy.agree(&mut followed, step)
    });
    if let Err(refusal) = result {
        stream.request = before;
        stream.state.set(followed);
        return Err(refusal);
    }
    followed.count += 1;
    stream.state.set(followed);
    let url = format!("{}://{}{}", if from_https { "https" } else { "http" }, before.authority, before.path);
    if let Ok(url) = HeaderValue::try_from(url) {
        stream.request.headers.insert(ORIGINAL_URL, url);
    }
    let without_body = answer.status == StatusCode::SEE_OTHER && !matches!(before.method, Method::GET | Method::HEAD);
    if without_body {
        // RFC 9110, 15.4.4.
        stream.request.method = Method::GET;
        stream.request.headers.remove(http::header::CONTENT_LENGTH);
    }
    Ok(!without_body)
}

/// Changes the head; the route that it leads to.
fn change(
    stream: &mut Stream,
    policy: &InternalRedirect,
    target: Target,
    answer: &ResponseHead,
) -> Result<SelectedRoute, Refusal> {
    let request = &mut stream.request;
    policy.copy(&answer.headers, &mut request.headers);
    request.scheme = Text::from_static(if target.https { "https" } else { "http" });
    request.authority = target.authority;
    request.path = target.path;
    normalize_path(&stream.manager, request).map_err(|_| Refusal::BadLocation)?;
    stream.select_route().ok_or(Refusal::NoRoute)
}
