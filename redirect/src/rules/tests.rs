use clap::Parser;

use super::*;
use crate::args::Args;

fn text_of(args: &[&str]) -> String {
    let args = Args::try_parse_from(std::iter::once(&"ferromesh-init").chain(args)).unwrap();
    text(&chains(&args.plan()))
}

#[test]
fn all_is_redirected_but_the_proxys_own_traffic_and_ports() {
    let text = text_of(&["-d", "15090,15021,15020"]);
    for rule in [
        "tcp dport 15090 return",
        "meta l4proto tcp redirect to :15006",
        "tcp dport != 15008 oifname \"lo\" ip daddr != 127.0.0.1 meta skuid 1337 jump to_inbound",
        "meta skuid 1337 return",
        "meta skgid 1337 return",
        "oifname \"lo\" ip saddr 127.0.0.6 return",
        "ip daddr 127.0.0.1 return",
        "meta l4proto tcp jump to_outbound",
    ] {
        assert!(text.lines().any(|line| line.trim() == rule), "{rule} is not in\n{text}");
    }
    assert!(!text.contains("15053"));
}

#[test]
fn the_proxys_rules_come_before_those_of_the_applications() {
    let text = text_of(&["--redirect-dns"]);
    let at = |rule: &str| text.find(rule).unwrap_or_else(|| panic!("{rule} is not in\n{text}"));
    assert!(at("jump to_inbound") < at("meta skuid 1337 return"));
    assert!(at("meta skuid 1337 return") < at("udp dport 53 redirect to :15053"));
    assert!(at("udp dport 53 redirect to :15053") < at("oifname \"lo\" return"), "also to a resolver on the loopback");
}

#[test]
fn questions_of_the_proxy_and_of_applications_are_tracked_apart() {
    let text = text_of(&["--redirect-dns"]);
    let chain = |name: &str| -> Vec<&str> {
        let begin = format!("chain {name} {{");
        let rules = text.split(begin.as_str()).nth(1).unwrap_or_else(|| panic!("no {name} in\n{text}"));
        rules.lines().map(str::trim).skip(1).take_while(|line| *line != "}").collect()
    };
    assert_eq!(
        chain("dns_out"),
        [
            "type filter hook output priority -300; policy accept;",
            "udp dport 53 meta skuid 1337 ct zone set 1 return",
            "udp sport 15053 meta skuid 1337 ct zone set 2 return",
            "udp dport 53 meta skgid 1337 ct zone set 1 return",
            "udp sport 15053 meta skgid 1337 ct zone set 2 return",
            "udp dport 53 ct zone set 2 return",
        ]
    );
    assert_eq!(
        chain("dns_in"),
        ["type filter hook prerouting priority -300; policy accept;", "udp sport 53 ct zone set 1 return"]
    );
    assert!(!text_of(&[]).contains("zone"));
}

#[test]
fn lists_narrow_what_is_redirected() {
    let text = text_of(&["-i", "10.0.0.0/8,fd00::/8", "-x", "10.1.2.3/32", "-o", "5432", "-q", "8080", "-b", "80,443"]);
    let outbound: Vec<&str> =
        text.split("chain outbound {").nth(1).unwrap().lines().map(str::trim).take_while(|line| *line != "}").collect();
    assert_eq!(
        outbound[1..],
        [
            "tcp dport 5432 return",
            "ip daddr 10.1.2.3 return",
            "tcp dport 8080 jump to_outbound",
            "meta l4proto tcp ip daddr 10.0.0.0/8 jump to_outbound",
            "meta l4proto tcp ip6 daddr fd00::/8 jump to_outbound",
        ]
    );
    assert!(text.contains("tcp dport 443 jump to_inbound"));
}

#[test]
fn tproxy_diverts_what_belongs_to_a_transparent_socket_first() {
    let text = text_of(&["-m", "TPROXY", "-d", "9000"]);
    let at = |rule: &str| text.find(rule).unwrap_or_else(|| panic!("{rule} is not in\n{text}"));
    assert!(at("socket transparent 1 meta mark set") < at("tcp dport 9000 return"));
    assert!(at("tcp dport 9000 return") < at("tproxy to :15006"));
}

#[test]
fn interfaces_are_left_alone_or_turned_round() {
    let text = text_of(&["-c", "net1", "-k", "tap0"]);
    assert_eq!(text.matches("fname \"net1\" return").count(), 2);
    assert!(text.contains("iifname \"tap0\" jump outbound"));
}

#[test]
fn wrong_arguments_are_refused_with_what_is_wrong() {
    for (args, needle) in [
        (["-i", "10.0.0.0/40"], "10.0.0.0/40"),
        (["-b", "80,http"], "http"),
        (["-m", "BOTH"], "REDIRECT or TPROXY"),
        (["-p", "70000"], "70000"),
    ] {
        let error = Args::try_parse_from(std::iter::once("ferromesh-init").chain(args)).unwrap_err().to_string();
        assert!(error.contains(needle), "{error}");
    }
}
