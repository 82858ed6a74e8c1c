//! Each rule finds what it is for, and lets pass what it is not for.

use crate::rooms;
use crate::rules;
use crate::source::{Source, blank};

fn rust(text: &str) -> Source {
    Source::new("a/src/b.rs", text)
}

fn lines(count: usize) -> String {
    "x();\n".repeat(count)
}

#[test]
fn only_code_is_left_of_a_source() {
    let table = [
        ("let a = \"{ \\\" {\"; b", "let a =         ; b"),
        ("a // { }\nb", "a       \nb"),
        ("a /* { /* } */ { */ b", "a                   b"),
        ("let a = '{'; let b: &'static str;", "let a =    ; let b: &'static str;"),
        ("'\\'' b'{' '\\\\' 'é' x", "                    x"),
        ("r#\"a\"{\"# x r\"{\" br\"{\"", "         x             "),
        ("for r in b\"{\" { }", "for r in      { }"),
        ("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}"),
    ];
    for (text, code) in table {
        let blanked = blank(text);
        assert_eq!(blanked.trim_end(), code.trim_end(), "{text}");
        assert_eq!(blanked.len(), text.len());
    }
}

#[test]
fn a_long_file_is_found_and_its_inline_tests_do_not_count() {
    assert!(rules::file_length(&rust(&lines(800))).is_none());
    assert_eq!(rules::file_length(&rust(&lines(801))).unwrap().line, 801);
    let tests = format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", lines(700), lines(90));
    assert!(rules::file_length(&rust(&tests)).is_none());
}

#[test]
fn a_long_function_is_found_with_its_name_and_line() {
    let long = format!("\nfn short() {{}}\nimpl A {{\n    pub async fn long(a: fn(u8)) -> B {{\n{}}}\n}}\n", lines(99));
    let found = rules::function_length(&rust(&long));
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].line, 4);
    assert!(found[0].message.contains("fn long has 101 lines"));
    let array = format!("fn f(a: [u8; 4]) -> [u8; 2] {{\n{}}}\n", lines(100));
    assert_eq!(rules::function_length(&rust(&array)).len(), 1);
    let braces_in_text = format!("fn f() {{\n let a = \"{{\";\n}}\n{}", lines(200));
    assert!(rules::function_length(&rust(&braces_in_text)).is_empty());
    let declared = format!("trait A {{ fn f(); }}\nfn g() {{}}\n{}", lines(200));
    assert!(rules::function_length(&rust(&declared)).is_empty());
}

#[test]
fn a_long_inline_test_module_is_found() {
    let module = |count| format!("fn a() {{}}\n#[cfg(test)]\nmod tests {{\n{}}}\n", lines(count));
    assert!(rules::test_module_length(&rust(&module(97))).is_empty());
    assert_eq!(rules::test_module_length(&rust(&module(98)))[0].line, 2);
    assert!(rules::test_module_length(&rust(&format!("#[cfg(test)]\nmod tests;\n{}", lines(200)))).is_empty());
}

#[test]
fn a_file_named_mod_is_found() {
    assert!(rules::file_name(&Source::new("a/src/b/mod.rs", "")).is_some());
    assert!(rules::file_name(&Source::new("a/src/mod_b.rs", "")).is_none());
}

#[test]
fn a_glob_of_the_whole_crate_is_found() {
    for text in ["use crate::*;", "fn a() {\n    use crate::{b, *};\n}"] {
        assert_eq!(rules::glob_of_crate(&rust(text)).len(), 1, "{text}");
    }
    for text in ["use crate::a::b;", "// use crate::*;", "use super::*;", "use crate::{a::{b, c}, d};"] {
        assert!(rules::glob_of_crate(&rust(text)).is_empty(), "{text}");
    }
}

#[test]
fn a_forbidden_word_is_found_in_any_file() {
    for word in
        [concat!("to", "do!()"), concat!("unimple", "mented!()"), concat!("/wo", "rk/x"), concat!("sub", "agent")]
    {
        let found = rules::forbidden_words(&Source::new("a/README.md", &format!("fine\n{word}\n")));
        assert_eq!(found.iter().map(|finding| finding.line).collect::<Vec<_>>(), [2], "{word}");
    }
    assert!(rules::forbidden_words(&Source::new("a", "a workload's to-do")).is_empty());
}

#[test]
fn a_dependency_that_a_crate_may_not_have_is_found() {
    let found = |path: &str, text: &str| rules::dependencies(&Source::new(path, text)).len();
    assert_eq!(found("proxy/Cargo.toml", "[dependencies]\nkube = \"1\"\nkube-client.workspace = true\n"), 2);
    assert_eq!(found("proxy/Cargo.toml", "[dev-dependencies]\nferromesh-api = { workspace = true }\n"), 1);
    assert_eq!(found("proxy/Cargo.toml", "[dependencies.ferromesh-controller]\nworkspace = true\n"), 1);
    assert_eq!(found("ca/Cargo.toml", "[dependencies]\nferromesh-controller = { workspace = true }\n"), 1);
    assert_eq!(found("core/Cargo.toml", "[dependencies]\nferromesh-proto = { workspace = true }\n"), 1);
    assert_eq!(found("proto/Cargo.toml", "[build-dependencies]\nferromesh-core = { workspace = true }\n"), 1);
    let fine = "[package]\nname = \"kube\"\n[dependencies]\n# kube\nkubernetes-like = \"1\"\nferromesh-core = \"1\"\n";
    assert_eq!(found("proxy/Cargo.toml", fine), 0);
}

#[test]
fn rooms_that_use_each_other_are_found_however_they_do_it() {
    let cycle = |a: &str, b: &str| {
        let lib = Source::new("p/src/lib.rs", "pub mod a;\nmod b;\npub use a::{inner::Shown, Other as Named};");
        let sources = [
            lib,
            Source::new("p/src/a.rs", a),
            Source::new("p/src/b/inner.rs", b),
            Source::new("q/src/b.rs", "use crate::a::X;"),
        ];
        rooms::room_cycles(&sources).len()
    };
    assert_eq!(cycle("use crate::b::B;", "use crate::a::A;"), 2);
    assert_eq!(cycle("use crate::{c, b::{B, C}};", "\nuse crate::{a};"), 2);
    assert_eq!(cycle("fn f(b: &crate::b::B) {}", "fn f() { crate::a::g() }"), 2);
    assert_eq!(cycle("use super::b;", "use super::super::a::A;"), 2);
    assert_eq!(cycle("use crate::b;", "use crate::Shown;"), 2, "a name of the other room at the root");
    assert_eq!(cycle("use crate::b;", "fn f(a: super::super::Named) {}"), 2);
    assert_eq!(cycle("use crate::b::B;", "use crate::c::C;"), 0);
    assert_eq!(cycle("use crate::a::A;", "use crate::b::B;"), 0, "within a room");
    assert_eq!(cycle("use crate::b;", "use super::a;\nmod c {\n    use super::super::a;\n}"), 0, "of its own room");
    let in_tests = "fn f() {}\n#[cfg(test)]\nmod tests {\n    use crate::a::A;\n}\n";
    assert_eq!(cycle("use crate::b::B;", in_tests), 0);
}

#[test]
fn a_cycle_of_any_length_is_found_and_its_way_is_told() {
    let sources = [
        Source::new("p/src/a.rs", "use crate::b;"),
        Source::new("p/src/b.rs", "\nuse crate::{c, d};"),
        Source::new("p/src/c.rs", "use crate::a;"),
        Source::new("p/src/d.rs", ""),
    ];
    let found = rooms::room_cycles(&sources);
    let places: Vec<_> = found.iter().map(|finding| (finding.path.as_str(), finding.line)).collect();
    assert_eq!(places, [("p/src/a.rs", 1), ("p/src/b.rs", 2), ("p/src/c.rs", 1)]);
    assert!(found[0].message.starts_with("a uses b, which uses c, which uses a: "), "{}", found[0].message);
    assert!(rooms::room_cycles(&sources[1..]).is_empty());
}
