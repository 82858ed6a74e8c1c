use super::*;

fn chain(change: impl FnOnce(&mut proto::FilterChainMatch)) -> proto::FilterChain {
    let mut rule = proto::FilterChainMatch::default();
    change(&mut rule);
    proto::FilterChain { filter_chain_match: Some(rule), ..Default::default() }
}

fn cidr(text: &str) -> CidrRange {
    let (address, length) = text.split_once('/').unwrap();
    CidrRange { address_prefix: address.into(), prefix_len: Some(length.parse().unwrap()) }
}

fn facts() -> Facts<'static> {
    Facts {
        local: "10.0.0.1:80".parse().unwrap(),
        remote: "10.9.9.9:4000".parse().unwrap(),
        direct_remote: "10.9.9.9:4000".parse().unwrap(),
        server_name: "",
        transport: "raw_buffer",
        alpn: &[],
    }
}

#[test]
fn the_destination_port_decides_before_everything_else() {
    let chains = [
        chain(|rule| rule.destination_port = Some(80)),
        chain(|rule| rule.server_names = vec!["a.example".into()]),
        chain(|_| {}),
    ];
    let matcher = Matcher::build(&chains).unwrap();
    assert_eq!(matcher.find(&Facts { server_name: "a.example", ..facts() }), Some(0));
    let other = Facts { local: "10.0.0.1:81".parse().unwrap(), ..facts() };
    assert_eq!(matcher.find(&Facts { server_name: "a.example", ..other.clone() }), Some(1));
    assert_eq!(matcher.find(&other), Some(2));
}

#[test]
fn a_chain_that_names_the_port_but_not_the_rest_shuts_out_the_general_ones() {
    let chains = [
        chain(|rule| {
            rule.destination_port = Some(80);
            rule.transport_protocol = "tls".into();
        }),
        chain(|_| {}),
    ];
    assert_eq!(Matcher::build(&chains).unwrap().find(&facts()), None);
}

#[test]
fn the_longest_prefix_and_the_longest_wildcard_win() {
    let chains = [
        chain(|rule| rule.prefix_ranges = vec![cidr("10.0.0.0/8")]),
        chain(|rule| rule.prefix_ranges = vec![cidr("10.0.0.1/32")]),
    ];
    let matcher = Matcher::build(&chains).unwrap();
    assert_eq!(matcher.find(&facts()), Some(1));
    assert_eq!(matcher.find(&Facts { local: "10.0.0.2:80".parse().unwrap(), ..facts() }), Some(0));
    assert_eq!(matcher.find(&Facts { local: "11.0.0.2:80".parse().unwrap(), ..facts() }), None);

    let names = [&["*.example"][..], &["*.b.example", "c.example"], &["a.b.example"]];
    let chains = names.map(|names| chain(|rule| rule.server_names = names.iter().map(ToString::to_string).collect()));
    let matcher = Matcher::build(&chains).unwrap();
    for (name, found) in [
        ("x.example", Some(0)),
        ("x.y.example", Some(0)),
        ("x.b.example", Some(1)),
        ("c.example", Some(1)),
        ("a.b.example", Some(2)),
        ("example", None),
        ("", None),
    ] {
        assert_eq!(matcher.find(&Facts { server_name: name, ..facts() }), found, "{name}");
    }
}

#[test]
fn istio_s_inbound_chains_tell_mesh_tls_from_plain_text() {
    let alpn = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let chains = [
        chain(|rule| {
            rule.transport_protocol = "tls".into();
            rule.application_protocols = alpn(&["istio", "istio-h2", "istio-http/1.1"]);
        }),
        chain(|rule| rule.transport_protocol = "tls".into()),
        chain(|rule| rule.transport_protocol = "raw_buffer".into()),
    ];
    let matcher = Matcher::build(&chains).unwrap();
    let mesh = alpn(&["istio-h2", "h2"]);
    assert_eq!(matcher.find(&Facts { transport: "tls", alpn: &mesh, ..facts() }), Some(0));
    assert_eq!(matcher.find(&Facts { transport: "tls", alpn: &alpn(&["h2"]), ..facts() }), Some(1));
    assert_eq!(matcher.find(&facts()), Some(2));
}

#[test]
fn the_source_decides_last_by_kind_then_address_then_port() {
    let chains = [
        chain(|rule| rule.source_type = ConnectionSourceType::SameIpOrLoopback.into()),
        chain(|rule| {
            rule.source_type = ConnectionSourceType::External.into();
            rule.source_prefix_ranges = vec![cidr("10.9.0.0/16")];
            rule.source_ports = vec![4000];
        }),
        chain(|rule| {
            rule.source_type = ConnectionSourceType::External.into();
            rule.source_prefix_ranges = vec![cidr("10.9.0.0/16")];
        }),
        chain(|rule| rule.direct_source_prefix_ranges = vec![cidr("192.168.0.0/16")]),
    ];
    let matcher = Matcher::build(&chains).unwrap();
    let remote = |text: &str| Facts { remote: text.parse().unwrap(), ..facts() };
    assert_eq!(matcher.find(&remote("127.0.0.1:1")), Some(0));
    assert_eq!(matcher.find(&remote("[::1]:1")), Some(0));
    assert_eq!(matcher.find(&remote("127.0.0.6:1")), None);
    assert_eq!(matcher.find(&remote("10.0.0.1:1")), Some(0));
    assert_eq!(matcher.find(&remote("10.9.1.1:4000")), Some(1));
    assert_eq!(matcher.find(&remote("10.9.1.1:4001")), Some(2));
    assert_eq!(matcher.find(&remote("10.8.1.1:4001")), None);
    let direct = Facts { direct_remote: "192.168.1.1:1".parse().unwrap(), ..facts() };
    assert_eq!(matcher.find(&direct), Some(3));
}

#[test]
fn chains_that_cannot_be_told_apart_are_refused_by_place() {
    let twice = [chain(|rule| rule.destination_port = Some(80)), chain(|rule| rule.destination_port = Some(80))];
    let error = Matcher::build(&twice).unwrap_err().to_string();
    assert!(error.contains("filter_chains[1].filter_chain_match") && error.contains("filter_chains[0]"), "{error}");
    let wildcard = [chain(|rule| rule.server_names = vec!["a.*.example".into()])];
    assert!(Matcher::build(&wildcard).unwrap_err().to_string().contains("server_names[0]"));
}
