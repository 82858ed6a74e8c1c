//! One proxy with its own upstreams, and all cases sent through it.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ferromesh_core::ports::BELOW_EPHEMERAL;

use crate::config::{self, Ports};
use crate::groups::{Case, Group};
use crate::http2;
use crate::observe::{self, Fact};
use crate::upstream::{self, Record};
use crate::wire::{self, Side};

/// Which proxy.
pub enum Kind<'a> {
    /// The real Envoy at this path.
    Envoy(&'a Path),
    /// The binary of this crate.
    Ours,
}

/// Facts by `group/case`.
pub type Facts = BTreeMap<String, Vec<Fact>>;

/// The case of each connection: a log line is found by it also where the request could not be read.
type Clients = HashMap<(&'static str, u16), String>;

/// A proxy's process; ends with it.
pub struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Groups whose requests are sent at the same time.
const AT_A_TIME: usize = 6;

/// Starts the proxy, sends everything, reads the logs.
pub fn run(kind: Kind<'_>, groups: &[Group], Place { ports, record }: Place) -> Facts {
    let folder = tempfile::tempdir().unwrap();
    let text = config::bootstrap(groups, &ports, folder.path());
    let running = start(&kind, &text, folder.path(), &ports);
    let own = own_address();
    let mut facts = Facts::new();
    let mut clients = Clients::new();
    let next = AtomicUsize::new(0);
    let answered: Vec<Vec<Answered>> = std::thread::scope(|scope| {
        let (next, ports, record) = (&next, &ports, &record);
        let work = move || -> Vec<Answered> {
            let groups = std::iter::from_fn(|| groups.get(next.fetch_add(1, Ordering::Relaxed)));
            groups.flat_map(|group| send_group(group, ports.of(group.name), record)).collect()
        };
        let threads: Vec<_> = (0..AT_A_TIME).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for Answered { group, case, client, facts: list } in answered.into_iter().flatten() {
        clients.insert((group, client), case.clone());
        facts.entry(case).or_default().extend(list);
    }
    logs(groups, folder.path(), &clients, &mut facts);
    drop(running);
    for value in facts.values_mut().flatten().map(|(_, value)| value) {
        *value = ports.hide(value);
        if let Some(own) = &own {
            *value = value.replace(own, "127.0.0.1");
        }
    }
    facts
}

/// Where a proxy finds its ports and upstreams.
pub struct Place {
    ports: Ports,
    record: Arc<Record>,
}

/// Two places. All ports are held until the last is chosen, so that none is chosen twice.
pub fn places(groups: &[Group]) -> [Place; 2] {
    let mut held = Vec::new();
    [(); 2].map(|()| {
        let (mut ports, record) = (Ports::default(), Arc::new(Record::default()));
        for name in config::SERVERS {
            ports.add(name, upstream::serve(name, &record));
        }
        ports.add("echo-2", http2::serve("echo-2", &record));
        for name in groups.iter().map(|group| group.name).chain(["admin", "refused"]) {
            let listener = quiet();
            ports.add(name, listener.local_addr().unwrap().port());
            held.push(listener);
        }
        Place { ports, record }
    })
}

/// Starts a proxy with a bootstrap; waits until it is ready.
pub fn start(kind: &Kind<'_>, text: &str, folder: &Path, ports: &Ports) -> Running {
    let file = folder.join("bootstrap.yaml");
    std::fs::write(&file, text).unwrap();
    let log = std::fs::File::create(folder.join("process.log")).unwrap();
    let mut command = match kind {
        Kind::Envoy(path) => {
            let mut command = Command::new(path);
            command.args(["--disable-hot-restart", "--file-flush-interval-msec", "50", "-l", "warning"]);
            command
        }
        Kind::Ours => Command::new(env!("CARGO_BIN_EXE_ferromesh-proxy")),
    };
    command.args(["--concurrency", "1", "-c"]).arg(&file);
    let child = command.stdout(log.try_clone().unwrap()).stderr(log).stdin(Stdio::null()).spawn().unwrap();
    let mut running = Running(child);
    let until = Instant::now() + Duration::from_secs(15);
    loop {
        let ended = running.0.try_wait().unwrap().is_some();
        if ended || Instant::now() > until {
            let log = std::fs::read_to_string(folder.join("process.log")).unwrap_or_default();
            let log = log.lines().rev().take(12).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n");
            panic!("{} does not start:\n{log}", if matches!(kind, Kind::Ours) { "ferromesh-proxy" } else { "envoy" });
        }
        if is_ready(ports.of("admin")) {
            return running;
        }
        std::thread::sleep(Duration::from_millis(30));
    }
}

/// The machine's address: mirrored requests have it in x-forwarded-for, and Envoy puts it there where the client's is a
/// loopback one, where ours puts the client's.
fn own_address() -> Option<String> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback()).then(|| address.to_string())
}

fn is_ready(admin: u16) -> bool {
    let Ok(mut socket) = TcpStream::connect(("127.0.0.1", admin)) else { return false };
    let _ = socket.set_read_timeout(Some(Duration::from_secs(2)));
    let mut text = String::new();
    socket.write_all(b"GET /ready HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n").is_ok()
        && socket.read_to_string(&mut text).is_ok()
        && text.starts_with("HTTP/1.1 200")
}

/// What a case has shown to its client and upstream.
struct Answered {
    group: &'static str,
    case: String,
    client: u16,
    facts: Vec<Fact>,
}

fn send_group(group: &Group, port: u16, record: &Record) -> Vec<Answered> {
    let mut answered = Vec::new();
    for case in &group.cases {
        let name = format!("{}/{}", group.name, case.name);
        let (mut list, client) = match group.is_http2 {
            true => {
                let (answer, client) = http2::send(&with_port(&case.bytes, port), port);
                (observe::answer(answer.as_ref()), client)
            }
            false => send(case, port),
        };
        if case.is_mirrored {
            std::thread::sleep(Duration::from_millis(300));
        }
        list.extend(observe::received(&record.take(&name)));
        answered.push(Answered { group: group.name, case: name, client, facts: list });
    }
    answered
}

/// `$PORT` stands for the listener's port.
fn with_port(bytes: &[u8], port: u16) -> Vec<u8> {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.replace("$PORT", &port.to_string()).into_bytes(),
        Err(_) => bytes.to_vec(),
    }
}

/// The facts of the answer, and the client's port.
fn send(case: &Case, port: u16) -> (Vec<Fact>, u16) {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let client = socket.local_addr().unwrap().port();
    socket.set_read_timeout(Some(Duration::from_secs(4))).unwrap();
    let _ = socket.write_all(&with_port(&case.bytes, port));
    let side = Side::Response(case.bytes.starts_with(b"HEAD "));
    let mut buffer = Vec::new();
    let mut answer = wire::read_message(&mut socket, &mut buffer, side);
    let mut facts = Vec::new();
    if answer.as_ref().is_some_and(|answer| answer.start.contains(" 100 ")) {
        facts.push(("answer 100".into(), "yes".into()));
        answer = wire::read_message(&mut socket, &mut buffer, side);
    }
    facts.extend(observe::answer(answer.as_ref()));
    if answer.is_some_and(|answer| answer.start.contains(" 101 ")) {
        let _ = socket.write_all(b"ping");
        while buffer.len() < 4 {
            let mut chunk = [0; 64];
            match socket.read(&mut chunk) {
                Ok(length @ 1..) => buffer.extend_from_slice(&chunk[..length]),
                _ => break,
            }
        }
        facts.push(("answer tunnel".into(), String::from_utf8_lossy(&buffer).into_owned()));
    }
    (facts, client)
}

/// Adds the facts of the log lines; waits for the lines of all cases that the proxy could read.
fn logs(groups: &[Group], folder: &Path, clients: &Clients, facts: &mut Facts) {
    let lines = |group: &Group| {
        let lines: usize = group.cases.iter().map(|case| case.lines).sum();
        lines * if group.json.is_empty() { 1 } else { 2 }
    };
    let wanted: usize = groups.iter().map(lines).sum();
    let until = Instant::now() + Duration::from_millis(1500);
    let read = || -> Vec<(&'static str, String)> {
        let file = |group: &Group| std::fs::read_to_string(folder.join(group.name)).unwrap_or_default();
        groups.iter().map(|group| (group.name, file(group))).collect()
    };
    let objects = || -> Vec<(&'static str, String)> {
        let file =
            |group: &Group| std::fs::read_to_string(folder.join(format!("{}.json", group.name))).unwrap_or_default();
        groups.iter().map(|group| (group.name, file(group))).collect()
    };
    let all = || read().into_iter().chain(objects()).map(|(_, text)| text.lines().count()).sum::<usize>();
    while all() < wanted && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
    }
    for (group, text) in read() {
        for line in text.lines() {
            let (list, client) = observe::log(line);
            let told = list.iter().find(|(name, _)| name == "log case").map(|(_, case)| case.clone());
            let told = told.filter(|case| facts.contains_key(case));
            let case = told.or_else(|| clients.get(&(group, client?)).cloned());
            let case = case.unwrap_or_else(|| panic!("whose line is this? {group}: {line}"));
            facts.entry(case).or_default().extend(list);
        }
    }
    for (_, text) in objects() {
        for line in text.lines() {
            let (fact, case) = observe::object(line);
            facts.entry(case).or_default().push(fact);
        }
    }
}

/// A socket below the ports that connections take by themselves: another test's would take it before it is bound again.
pub fn quiet() -> TcpListener {
    let bind = |_| TcpListener::bind(("127.0.0.1", fastrand::u16(BELOW_EPHEMERAL))).ok();
    (0..100).find_map(bind).expect("a free port")
}
