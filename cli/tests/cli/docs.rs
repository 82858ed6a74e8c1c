//! Documents that repeat what the code says: they must not fall behind it.

use std::fmt::Write;

use ferromesh_controller::analyze::mesh::NOT_YET;
use ferromesh_controller::index::Kind;
use ferromesh_proxy::cause::Cause;
use ferromesh_proxy::http::filters::FILTERS;

use super::repository;

fn causes() -> String {
    let mut text = String::from(
        "# Causes\n\nEvery reason for which the proxy answers or closes by itself. Details are `%RESPONSE_CODE_DETAILS%`, the flag is\n\
         `%RESPONSE_FLAGS%` of the access log and the label `response_flags` of the metrics. Status 0: the answer is\n\
         another's, or there is none; a detail `-`: that of the answer. `GET /explain?code=` of the admin address says the same.\n\n\
         This page is made from `proxy/src/cause.rs`: `UPDATE=1 cargo test -p ferromesh-cli --test cli docs`.\n\n\
         | cause | status | flag | details | what happened |\n|---|---|---|---|---|\n",
    );
    for cause in Cause::ALL {
        let shown = |word| if str::is_empty(word) { "-" } else { word };
        let flag = shown(cause.flag());
        let row = (cause.status(), shown(cause.details()).replace('|', "\\|"), cause.explain());
        let _ = writeln!(text, "| {cause:?} | {} | {flag} | `{}` | {} |", row.0, row.1, row.2);
    }
    text
}

#[test]
fn the_page_of_causes_is_up_to_date() {
    let (path, wanted) = (repository().join("docs/causes.md"), causes());
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &wanted).expect("written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == wanted,
        "docs/causes.md is out of date; make it anew: UPDATE=1 cargo test -p ferromesh-cli --test cli docs"
    );
}

#[test]
fn the_page_of_status_names_every_kind_and_every_field_that_is_not_honoured() {
    let page = std::fs::read_to_string(repository().join("docs/status.md")).expect("docs/status.md");
    let kinds = Kind::ALL.iter().map(|kind| kind.as_str());
    let missing: Vec<&str> = kinds.chain(NOT_YET).filter(|name| !page.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "docs/status.md does not name {missing:?}");
}

#[test]
fn the_page_of_status_names_every_http_filter() {
    let page = std::fs::read_to_string(repository().join("docs/status.md")).expect("docs/status.md");
    let named = |message: &str| message.split('.').any(|part| page.contains(&format!("`{part}`")));
    let missing: Vec<&str> = FILTERS.iter().map(|filter| filter.message).filter(|message| !named(message)).collect();
    assert!(missing.is_empty(), "docs/status.md does not name {missing:?}");
}

#[test]
fn the_examples_are_valid() {
    let text = std::fs::read_to_string(repository().join("examples/envoy.yaml")).expect("examples/envoy.yaml");
    ferromesh_proxy::bootstrap::parse(&text).expect("a bootstrap");
    let (code, stdout, _) = super::run(&super::runtime(), &["analyze", "-f", "examples/shop"], "");
    assert_eq!(code, Some(0), "{stdout}");
}
