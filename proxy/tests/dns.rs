//! The DNS proxy beside an application: real questions by UDP and TCP, with a name server of the test behind it.

#[path = "support/dns.rs"]
mod name_server;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ferromesh_proto::istio::networking::nds::v1::NameTable;
use ferromesh_proto::istio::networking::nds::v1::name_table::NameInfo;
use ferromesh_proto::prost::Message as _;
use ferromesh_proxy::agent::dns::metrics::Metrics;
use ferromesh_proxy::agent::dns::table::{Place, Table};
use ferromesh_proxy::agent::dns::upstream::Upstream;
use ferromesh_proxy::agent::dns::{Config, Listen, Server, resolv_conf};
use hickory_resolver::proto::op::{Edns, Message, OpCode, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use name_server::{DnsServer, Say};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::watch;

const PATIENCE: Duration = Duration::from_secs(20);

fn service(ips: &[&str], shortname: &str, namespace: &str) -> NameInfo {
    let strings = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect();
    NameInfo {
        ips: strings(ips),
        registry: "Kubernetes".into(),
        shortname: shortname.into(),
        namespace: namespace.into(),
        ..NameInfo::default()
    }
}

fn external(ips: &[&str]) -> NameInfo {
    NameInfo { registry: "External".into(), ..service(ips, "", "") }
}

/// Names as Istio's own tests of its agent have them.
fn names() -> NameTable {
    let many: Vec<String> = (0..64).map(|last| format!("240.0.0.{last}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let pods = ["11.11.11.11", "12.12.12.12", "13.13.13.13", "14.14.14.14"];
    let table = [
        ("www.google.com", external(&["1.1.1.1"])),
        ("productpage.ns1.svc.cluster.local", service(&["9.9.9.9"], "productpage", "ns1")),
        ("example.ns2.svc.cluster.local", service(&["10.10.10.10"], "example", "ns2")),
        ("details.ns2.svc.cluster.remote", service(&pods, "details", "ns2")),
        ("db.ns1.svc.cluster.local", service(&["10.1.0.1", "10.1.0.2"], "db", "ns1")),
        ("db-0.db.ns1.svc.cluster.local", service(&["10.1.0.1"], "db-0.db", "ns1")),
        ("dual.localhost", external(&["2.2.2.2", "2001:db8::ff00:42:8329"])),
        ("ipv6.localhost", external(&["2001:db8::ff00:42:8329"])),
        ("*.wildcard", external(&["10.10.10.10"])),
        ("*.b.wildcard", external(&["11.11.11.11"])),
        ("example.localhost.", external(&["3.3.3.3"])),
        ("giant.localhost", external(&many)),
        ("broken.localhost", external(&["no address", "10.0.0.0/8"])),
    ];
    NameTable { table: table.map(|(name, info)| (name.to_owned(), info)).into() }
}

fn place() -> Place {
    Place::new("ns1", "ns1.svc.cluster.local", Some("ns1.svc.cluster.local"))
}

/// A DNS proxy and the name servers behind it.
struct Fixture {
    address: SocketAddr,
    metrics: Arc<Metrics>,
    tables: watch::Sender<Option<bytes::Bytes>>,
}

impl Fixture {
    async fn start(servers: &[SocketAddr], parallel: bool, timeout: Duration) -> Self {
        Self::at(|| "127.0.0.1:0".parse().unwrap(), |_| servers.to_vec(), parallel, timeout).await
    }

    /// At an address of these; another one where it is taken, by TCP or by UDP.
    async fn at(
        address: impl Fn() -> SocketAddr,
        servers: impl Fn(SocketAddr) -> Vec<SocketAddr>,
        parallel: bool,
        timeout: Duration,
    ) -> Self {
        let metrics = Arc::new(Metrics::default());
        let server = loop {
            let address = address();
            let upstream = Upstream { servers: servers(address), parallel, timeout };
            let config = Config { place: place(), upstream };
            if let Ok(server) = Server::bind(Listen::At(address), config, metrics.clone()).await {
                break server;
            }
        };
        let address = server.addresses()[0];
        let (tables, receiver) = watch::channel(None);
        tokio::task::spawn_local(server.serve(receiver));
        Self { address, metrics, tables }
    }

    /// With the names of this file and one name server.
    async fn with_names(server: &DnsServer) -> Self {
        let fixture = Self::start(&[server.address], false, PATIENCE).await;
        fixture.learn(&names()).await;
        fixture
    }

    /// Returns when the table answers.
    async fn learn(&self, names: &NameTable) {
        self.tables.send_replace(Some(names.encode_to_vec().into()));
        while self.udp(&question("dual.localhost", RecordType::A)).await.metadata.response_code != ResponseCode::NoError
        {
        }
    }

    async fn udp(&self, question: &Message) -> Message {
        self.udp_bytes(&question.to_vec().unwrap()).await.expect("an answer")
    }

    /// The answer to any bytes; none within a moment is none.
    async fn udp_bytes(&self, bytes: &[u8]) -> Option<Message> {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.send_to(bytes, self.address).await.unwrap();
        let mut buffer = [0; 65_535];
        let length = tokio::time::timeout(PATIENCE, socket.recv(&mut buffer)).await.ok()?.unwrap();
        Some(Message::from_vec(&buffer[..length]).unwrap())
    }

    async fn tcp(&self, question: &Message) -> Message {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        tcp_on(&mut stream, question).await
    }
}

async fn tcp_on(stream: &mut TcpStream, question: &Message) -> Message {
    let bytes = question.to_vec().unwrap();
    stream.write_u16(bytes.len() as u16).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    let mut answer = vec![0; usize::from(stream.read_u16().await.unwrap())];
    stream.read_exact(&mut answer).await.unwrap();
    Message::from_vec(&answer).unwrap()
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(format!("{name}.")).unwrap(), kind));
    message
}

fn with_edns(mut message: Message, size: u16) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(size);
    message.set_edns(edns);
    message
}

/// `name -> value` of each record, addresses sorted.
fn said(message: &Message) -> Vec<String> {
    let text = |name: &Name| name.to_ascii().trim_end_matches('.').to_owned();
    let mut all: Vec<String> = message
        .answers
        .iter()
        .map(|record| {
            assert_eq!(record.ttl, 30);
            let value = match &record.data {
                RData::A(ip) => ip.to_string(),
                RData::AAAA(ip) => ip.to_string(),
                RData::CNAME(name) => format!("alias of {}", text(&name.0)),
                other => other.to_string(),
            };
            format!("{} -> {value}", text(&record.name))
        })
        .collect();
    let aliases = all.iter().take_while(|line| line.contains("alias")).count();
    all[aliases..].sort();
    all
}

/// Runs on one thread, as the agent does.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

#[test]
fn names_of_the_mesh_are_answered_in_all_forms_that_a_pod_says() {
    run(async {
        let server = DnsServer::start().await;
        let fixture = Fixture::with_names(&server).await;
        let own = "ns1.svc.cluster.local";
        for (asked, expected) in [
            ("www.google.com".to_owned(), &["www.google.com -> 1.1.1.1"][..]),
            (
                format!("www.google.com.{own}"),
                &["www.google.com.ns1.svc.cluster.local -> alias of www.google.com", "www.google.com -> 1.1.1.1"],
            ),
            (format!("productpage.{own}"), &["productpage.ns1.svc.cluster.local -> 9.9.9.9"]),
            ("productpage".into(), &["productpage -> 9.9.9.9"]),
            ("productpage.ns1".into(), &["productpage.ns1 -> 9.9.9.9"]),
            ("productpage.ns1.svc".into(), &["productpage.ns1.svc -> 9.9.9.9"]),
            (
                format!("productpage.ns1.{own}"),
                &["productpage.ns1.ns1.svc.cluster.local -> alias of productpage.ns1", "productpage.ns1 -> 9.9.9.9"],
            ),
            ("example.ns2".into(), &["example.ns2 -> 10.10.10.10"]),
            ("example.ns2.svc".into(), &["example.ns2.svc -> 10.10.10.10"]),
            ("example.ns2.svc.cluster.local".into(), &["example.ns2.svc.cluster.local -> 10.10.10.10"]),
            ("db".into(), &["db -> 10.1.0.1", "db -> 10.1.0.2"]),
            ("db-0.db".into(), &["db-0.db -> 10.1.0.1"]),
            (format!("db-0.db.{own}"), &["db-0.db.ns1.svc.cluster.local -> 10.1.0.1"]),
            ("foo.wildcard".into(), &["foo.wildcard -> 10.10.10.10"]),
            ("a.b.wildcard".into(), &["a.b.wildcard -> 11.11.11.11"]),
            (
                format!("foo.wildcard.{own}"),
                &["foo.wildcard.ns1.svc.cluster.local -> alias of foo.wildcard", "foo.wildcard -> 10.10.10.10"],
            ),
            ("example.localhost".into(), &["example.localhost -> 3.3.3.3"]),
            ("ProductPage.Ns1".into(), &["ProductPage.Ns1 -> 9.9.9.9"]),
        ] {
            let question = question(&asked, RecordType::A);
            for answer in [fixture.udp(&question).await, fixture.tcp(&question).await] {
                assert_eq!(said(&answer), expected, "{asked}");
                assert_eq!(answer.metadata.id, question.metadata.id);
                assert!(answer.metadata.authoritative && answer.metadata.recursion_available, "{asked}");
                assert_eq!(answer.queries, question.queries);
            }
            assert_eq!(server.asked(&asked), 0, "{asked}");
        }
    });
}

#[test]
fn a_known_name_without_an_address_of_the_family_is_empty_and_no_error() {
    run(async {
        let fixture = Fixture::with_names(&DnsServer::start().await).await;
        for (name, kind, expected) in [
            ("dual.localhost", RecordType::AAAA, &["dual.localhost -> 2001:db8::ff00:42:8329"][..]),
            ("dual.localhost", RecordType::A, &["dual.localhost -> 2.2.2.2"]),
            ("ipv6.localhost", RecordType::A, &[]),
            ("productpage", RecordType::AAAA, &[]),
            ("productpage.ns1.ns1.svc.cluster.local", RecordType::AAAA, &[]),
        ] {
            let answer = fixture.udp(&question(name, kind)).await;
            assert_eq!(answer.metadata.response_code, ResponseCode::NoError, "{name}");
            assert_eq!(said(&answer), expected, "{name}");
        }
    });
}

#[test]
fn what_is_not_of_the_mesh_is_asked_of_the_name_server_by_the_clients_own_transport() {
    run(async {
        let server = DnsServer::start().await;
        server.say("www.bing.com", Say::Addresses(vec![IpAddr::from([1, 2, 3, 4])], 30));
        let fixture = Fixture::with_names(&server).await;
        let bing = question("www.bing.com", RecordType::A);
        let answer = fixture.udp(&bing).await;
        assert_eq!((said(&answer), answer.metadata.id), (vec!["www.bing.com -> 1.2.3.4".to_owned()], bing.metadata.id));
        assert_eq!((server.asked("www.bing.com"), server.asked_over_tcp()), (1, 0));
        // Two questions on one connection.
        let mut stream = TcpStream::connect(fixture.address).await.unwrap();
        for _ in 0..2 {
            assert_eq!(said(&tcp_on(&mut stream, &bing).await).len(), 1);
        }
        assert_eq!(server.asked_over_tcp(), 2);
        // Forms that only the cluster's DNS may judge: another namespace's short name, another domain's, other records.
        for (name, kind) in [
            ("example", RecordType::A),
            ("details.ns2", RecordType::A),
            ("broken.localhost", RecordType::A),
            ("productpage.ns1.svc.cluster.local.ns1.svc.cluster.local", RecordType::A),
            ("productpage", RecordType::MX),
        ] {
            let answer = fixture.udp(&question(name, kind)).await;
            assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain, "{name}");
            assert_eq!(server.asked(name), 1, "{name}");
        }
        let counted = fixture.metrics.to_prometheus();
        for line in ["istio_agent_dns_upstream_requests_total 8", "istio_agent_dns_upstream_failures_total 0"] {
            assert!(counted.contains(line), "{line} in {counted}");
        }
        assert!(counted.contains("istio_agent_dns_upstream_request_duration_seconds_count 8"), "{counted}");
    });
}

#[test]
fn before_the_first_table_nothing_is_answered_and_a_later_one_takes_its_place() {
    run(async {
        let server = DnsServer::start().await;
        let fixture = Fixture::start(&[server.address], false, PATIENCE).await;
        let ask = question("dual.localhost", RecordType::A);
        assert_eq!(fixture.udp(&ask).await.metadata.response_code, ResponseCode::ServFail);
        assert_eq!(server.asked("dual.localhost"), 0);
        fixture.learn(&names()).await;
        let table = [("dual.localhost".to_owned(), external(&["7.7.7.7"]))].into();
        fixture.tables.send_replace(Some(NameTable { table }.encode_to_vec().into()));
        let deadline = Instant::now() + PATIENCE;
        while said(&fixture.udp(&ask).await) != ["dual.localhost -> 7.7.7.7"] {
            assert!(Instant::now() < deadline, "the new table");
        }
    });
}

#[test]
fn an_answer_that_a_client_cannot_take_is_cut_and_whole_by_tcp() {
    run(async {
        let server = DnsServer::start().await;
        let many: Vec<String> = (0..64).map(|last| format!("240.1.0.{last}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        server.say("giant.com", Say::Addresses(many.iter().map(|ip| ip.parse().unwrap()).collect(), 30));
        let fixture = Fixture::with_names(&server).await;
        for name in ["giant.localhost", "giant.com"] {
            let plain = question(name, RecordType::A);
            let cut = fixture.udp(&plain).await;
            assert!(cut.metadata.truncation, "{name}");
            assert!(cut.answers.len() < 64 && cut.to_vec().unwrap().len() <= 512, "{name}");
            let whole = fixture.udp(&with_edns(plain.clone(), 4096)).await;
            assert_eq!((whole.answers.len(), whole.metadata.truncation), (64, false), "{name}");
            let whole = fixture.tcp(&plain).await;
            assert_eq!((whole.answers.len(), whole.metadata.truncation), (64, false), "{name}");
        }
        // As many as fit, not none: 12 + 33 bytes, then 16 for each.
        let cut = fixture.udp(&question("giant.localhost", RecordType::A)).await;
        assert!(cut.answers.len() >= 26, "{}", cut.answers.len());
        let answer = fixture.udp(&with_edns(question("db", RecordType::A), 1232)).await;
        assert!(answer.edns.is_some(), "who says EDNS is told EDNS");
    });
}

#[test]
fn addresses_come_in_an_order_that_changes() {
    run(async {
        let fixture = Fixture::with_names(&DnsServer::start().await).await;
        let mut firsts = std::collections::BTreeSet::new();
        for _ in 0..200 {
            let answer = fixture.udp(&question("details.ns2.svc.cluster.remote", RecordType::A)).await;
            firsts.insert(answer.answers[0].data.to_string());
        }
        assert_eq!(firsts.len(), 4, "{firsts:?}");
    });
}

#[test]
fn what_is_no_question_gets_an_error_or_nothing() {
    run(async {
        let fixture = Fixture::with_names(&DnsServer::start().await).await;
        let code = |message: Option<Message>| message.map(|message| message.metadata.response_code);
        let plain = question("db", RecordType::A).to_vec().unwrap();
        let mut update = question("db", RecordType::A);
        update.metadata.op_code = OpCode::Update;
        let mut two = question("db", RecordType::A);
        two.add_query(two.queries[0].clone());
        for (bytes, expected) in [
            (update.to_vec().unwrap(), ResponseCode::NotImp),
            (two.to_vec().unwrap(), ResponseCode::FormErr),
            (plain[..14].to_vec(), ResponseCode::FormErr),
            (plain[..12].iter().copied().chain([0xc0, 12, 0, 1, 0, 1]).collect(), ResponseCode::FormErr),
        ] {
            assert_eq!(code(fixture.udp_bytes(&bytes).await), Some(expected), "{bytes:?}");
        }
        // An answer, and a piece of a head: nobody waits for something. The next question is answered all the same.
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(fixture.address).await.unwrap();
        let mut answer = question("db", RecordType::A);
        answer.metadata.message_type = hickory_resolver::proto::op::MessageType::Response;
        socket.send(&answer.to_vec().unwrap()).await.unwrap();
        socket.send(&plain[..11]).await.unwrap();
        socket.send(&plain).await.unwrap();
        let mut buffer = [0; 512];
        let length = tokio::time::timeout(PATIENCE, socket.recv(&mut buffer)).await.unwrap().unwrap();
        let first = Message::from_vec(&buffer[..length]).unwrap();
        assert_eq!(first.metadata.id.to_be_bytes(), plain[..2]);
        // On a connection, too.
        let mut stream = TcpStream::connect(fixture.address).await.unwrap();
        stream.write_all(&[0, 3, 1, 2, 3]).await.unwrap();
        assert_eq!(stream.read(&mut buffer).await.unwrap(), 0, "it is closed");
    });
}

#[test]
fn the_next_name_server_is_asked_where_one_does_not_answer_or_will_not() {
    run(async {
        let (silent, unwilling, good) = (DnsServer::start().await, DnsServer::start().await, DnsServer::start().await);
        silent.say("www.bing.com", Say::Nothing);
        unwilling.say("www.bing.com", Say::ServerFailure);
        good.say("www.bing.com", Say::Addresses(vec![IpAddr::from([1, 2, 3, 4])], 30));
        let ask = question("www.bing.com", RecordType::A);
        let servers = [silent.address, unwilling.address, good.address];
        // At once: nobody waits for the silent one.
        let fixture = Fixture::start(&servers, true, PATIENCE * 10).await;
        fixture.learn(&names()).await;
        assert_eq!(said(&fixture.udp(&ask).await), ["www.bing.com -> 1.2.3.4"]);
        assert_eq!(unwilling.asked("www.bing.com"), 1);
        // In turn.
        let fixture = Fixture::start(&servers, false, Duration::from_millis(500)).await;
        fixture.learn(&names()).await;
        assert_eq!(said(&fixture.udp(&ask).await), ["www.bing.com -> 1.2.3.4"]);
        // Nobody better: what the unwilling one says; nobody at all: an error of ours, counted.
        for (servers, failures) in
            [(vec![silent.address, unwilling.address], 0), (vec![silent.address], 1), (vec![], 1)]
        {
            let fixture = Fixture::start(&servers, false, Duration::from_millis(500)).await;
            fixture.learn(&names()).await;
            assert_eq!(fixture.udp(&ask).await.metadata.response_code, ResponseCode::ServFail);
            assert_eq!(fixture.metrics.upstream_failures.get(), failures, "{servers:?}");
        }
    });
}

#[test]
fn questions_that_wait_have_a_bound_and_names_of_the_mesh_are_answered_meanwhile() {
    run(async {
        let silent = DnsServer::start().await;
        silent.say("slow.com", Say::Nothing);
        let fixture = Fixture::start(&[silent.address], false, PATIENCE).await;
        fixture.learn(&names()).await;
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(fixture.address).await.unwrap();
        let bytes = question("slow.com", RecordType::A).to_vec().unwrap();
        let mut buffer = [0; 512];
        // 512 wait; what comes then is answered at once.
        for sent in 1..=600 {
            socket.send(&bytes).await.unwrap();
            if sent > 512 {
                let length = tokio::time::timeout(PATIENCE, socket.recv(&mut buffer)).await.expect("at once").unwrap();
                let answer = Message::from_vec(&buffer[..length]).unwrap();
                assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
            } else if sent % 16 == 0 {
                // Nothing is lost for want of room in the socket.
                assert_eq!(said(&fixture.udp(&question("productpage", RecordType::A)).await).len(), 1);
            }
        }
        assert_eq!(fixture.metrics.upstream_failures.get(), 88);
        assert_eq!(said(&fixture.udp(&question("productpage", RecordType::A)).await).len(), 1);
    });
}

#[test]
fn a_name_server_that_is_the_proxy_itself_is_left_out() {
    run(async {
        let free = || std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let fixture = Fixture::at(free, |own| vec![own], false, PATIENCE).await;
        fixture.learn(&names()).await;
        let answer = fixture.udp(&question("www.bing.com", RecordType::A)).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
        assert_eq!(fixture.metrics.upstream_requests.get(), 1, "it did not ask itself");
    });
}

#[test]
fn resolv_conf_is_read_as_the_c_library_reads_it() {
    let text = "# made by the kubelet\nsearch a.svc.cluster.local svc.cluster.local\nnameserver 10.96.0.10\n\
                nameserver fd00::a\nnameserver somewhere\noptions ndots:5\nsearch ns1.svc.cluster.local x\n";
    let found = resolv_conf::parse(text);
    assert_eq!(found.servers, ["10.96.0.10:53".parse().unwrap(), "[fd00::a]:53".parse::<SocketAddr>().unwrap()]);
    assert_eq!(found.search, ["ns1.svc.cluster.local", "x"]);
    assert_eq!(resolv_conf::parse(&"nameserver 10.0.0.1\n".repeat(100)).servers.len(), 8);
}

#[test]
fn where_two_names_have_one_form_the_longer_name_is_meant() {
    // `b` of namespace `a`... and the pod `b` of the own namespace's headless Service `a`.
    let table = [
        ("b.a.svc.cluster.local", service(&["10.0.0.1"], "b", "a")),
        ("b.a.ns1.svc.cluster.local", service(&["10.0.0.2"], "b.a", "ns1")),
    ];
    let table = NameTable { table: table.map(|(name, info)| (name.to_owned(), info)).into() };
    let table = Table::new(&table, &place());
    let first = |name| table.find(name).map(|found| found.addresses.v4[0].to_string());
    assert_eq!(first("b.a").as_deref(), Some("10.0.0.1"));
    assert_eq!(first("b.a.ns1").as_deref(), Some("10.0.0.2"));
    assert_eq!(first("b.a.ns1.svc.cluster.local").as_deref(), Some("10.0.0.2"));
    assert_eq!(first("b"), None);
}
