//! `/explain`: what the proxy's own answers and closes mean, by the words that logs and metrics have for them.

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use super::{json_with, parameter, text};
use crate::cause::Cause;

/// So many names that resemble an unknown one are said.
const NEAR: usize = 5;
/// How alike two words are at least (Jaro and Winkler; 1 is equal) to be called near.
const ALIKE: f64 = 0.7;

/// All causes, or those of `code`; 404 with the nearest words if there is none.
pub(super) fn page(query: &str) -> Response<Full<Bytes>> {
    let as_json = parameter(query, "format").as_deref() == Some("json");
    let wanted = parameter(query, "code").unwrap_or_default();
    let causes = if wanted.is_empty() { Cause::ALL.to_vec() } else { Cause::find(&wanted) };
    if causes.is_empty() {
        let near = near(&wanted);
        let error = format!("no cause, response flag or response_code_details is called {wanted:?}");
        return if as_json {
            json_with(StatusCode::NOT_FOUND, &json!({ "error": error, "near": near }))
        } else {
            let said = if near.is_empty() { String::new() } else { format!("near: {}\n", near.join(", ")) };
            text(StatusCode::NOT_FOUND, format!("{error}\n{said}all of them: /explain\n"))
        };
    }
    if as_json {
        return json_with(StatusCode::OK, &causes.into_iter().map(shown_as_json).collect());
    }
    text(StatusCode::OK, causes.into_iter().map(shown).collect::<Vec<_>>().join("\n"))
}

fn shown(cause: Cause) -> String {
    let status = match cause.status() {
        0 => "none of its own: the answer is another's, or there is none".to_owned(),
        status => status.to_string(),
    };
    let shown = |word| if str::is_empty(word) { "-" } else { word };
    let (flag, details) = (shown(cause.flag()), shown(cause.details()));
    format!(
        "{cause:?}\n  status                 {status}\n  response flag          {flag}\n  response_code_details  {details}\n  {}\n",
        cause.explain()
    )
}

fn shown_as_json(cause: Cause) -> Value {
    json!({
        "cause": format!("{cause:?}"),
        "status": cause.status(),
        "response_flag": cause.flag(),
        "response_code_details": cause.details(),
        "explanation": cause.explain(),
    })
}

/// Names and details that resemble `wanted`, the nearest first.
fn near(wanted: &str) -> Vec<String> {
    let wanted = wanted.to_ascii_lowercase();
    let words = Cause::ALL
        .iter()
        .flat_map(|cause| [format!("{cause:?}"), cause.details().to_owned()])
        .filter(|word| !word.is_empty());
    let mut scored: Vec<(f64, String)> = words
        .map(|word| (strsim::jaro_winkler(&wanted, &word.to_ascii_lowercase()), word))
        .filter(|(alike, _)| *alike >= ALIKE)
        .collect();
    scored.sort_by(|(a, one), (b, other)| b.total_cmp(a).then_with(|| one.cmp(other)));
    scored.dedup();
    scored.into_iter().take(NEAR).map(|(_, word)| word).collect()
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn asked(query: &str) -> (u16, String) {
        let response = page(query);
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn without_a_code_every_cause_is_listed() {
        let (status, text) = asked("").await;
        assert_eq!(status, 200);
        for cause in Cause::ALL {
            assert!(text.contains(&format!("{cause:?}\n")) && text.contains(cause.explain()), "{cause:?}");
        }
        let (_, json) = asked("format=json").await;
        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json.as_array().unwrap().len(), Cause::ALL.len());
    }

    #[tokio::test]
    async fn a_code_is_explained_to_people_and_to_programs() {
        let (status, text) = asked("code=NR").await;
        assert_eq!(status, 200);
        assert!(text.contains("RouteNotFound") && text.contains("NoFilterChain") && !text.contains("ResponseTimeout"));
        let (status, json) = asked("code=response_timeout&format=json").await;
        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!((status, &json[0]["cause"]), (200, &json!("ResponseTimeout")));
        assert_eq!(json[0]["explanation"], Cause::ResponseTimeout.explain());
    }

    #[tokio::test]
    async fn an_unknown_code_is_404_with_what_is_near_it() {
        let (status, text) = asked("code=RouteNotFuond").await;
        assert_eq!(status, 404);
        assert!(text.contains("near: RouteNotFound"), "{text}");
        let (status, json) = asked("code=respons_timeout&format=json").await;
        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!((status, &json["near"][0]), (404, &json!("response_timeout")));
        assert!(asked("code=zzz").await.1.ends_with("all of them: /explain\n"));
    }
}
