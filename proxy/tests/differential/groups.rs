//! What is compared: groups of cases, each with a listener of its own.

#[path = "groups/answers.rs"]
mod answers;
#[path = "groups/compression.rs"]
mod compression;
#[path = "groups/edge.rs"]
mod edge;
#[path = "groups/filters.rs"]
mod filters;
#[path = "groups/followed.rs"]
pub mod followed;
#[path = "groups/heads.rs"]
mod heads;
#[path = "groups/limits.rs"]
mod limits;
#[path = "groups/logs.rs"]
mod logs;
#[path = "groups/matching.rs"]
mod matching;
#[path = "groups/replies.rs"]
mod replies;
#[path = "groups/runtime.rs"]
pub mod runtime;

use crate::http2;

/// Cases that share a connection manager. All texts are parts of a YAML flow mapping.
#[derive(Default)]
pub struct Group {
    /// Its name; also that of its listener and log file.
    pub name: &'static str,
    /// Fields of the connection manager.
    pub hcm: String,
    /// Filters before the router.
    pub filters: String,
    /// Fields of the route configuration.
    pub table: String,
    /// More fields of its log.
    pub log: String,
    /// The format of a second log, of objects.
    pub json: String,
    /// Whether clients speak HTTP/2.
    pub is_http2: bool,
    /// The cases, sent one after another.
    pub cases: Vec<Case>,
}

/// A request.
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// What is sent.
    pub bytes: Vec<u8>,
    /// Whether a copy may arrive upstream after the answer.
    pub is_mirrored: bool,
    /// Lines of the access log, one for each time that the request goes through the filters.
    pub lines: usize,
}

impl Group {
    fn new(name: &'static str) -> Self {
        Self { name, ..Self::default() }
    }

    fn hcm(mut self, text: &str) -> Self {
        self.hcm = text.into();
        self
    }

    fn filters(mut self, text: &str) -> Self {
        self.filters = text.into();
        self
    }

    fn log(mut self, text: &str) -> Self {
        self.log = text.into();
        self
    }

    fn json(mut self, text: &str) -> Self {
        self.json = text.into();
        self
    }

    /// Routes of a virtual host for all domains.
    fn routes(self, text: &str) -> Self {
        let table = format!("virtual_hosts: [{{name: all, domains: ['*'], routes: [{text}]}}]");
        self.table(&table)
    }

    fn table(mut self, text: &str) -> Self {
        self.table = text.into();
        self
    }

    /// A GET with more header lines.
    fn get(self, name: &'static str, path: &str, headers: &[&str]) -> Self {
        self.request(name, &format!("GET {path} HTTP/1.1"), headers, "")
    }

    /// Any request; its host is a.test if the headers name none.
    fn request(mut self, name: &'static str, start: &str, headers: &[&str], body: &str) -> Self {
        let mut text = format!("{start}\r\n");
        if !headers.iter().any(|header| header.to_ascii_lowercase().starts_with("host:")) {
            text += "host: a.test\r\n";
        }
        text += &format!("x-case: {}/{name}\r\n", self.name);
        for header in headers {
            text += &format!("{header}\r\n");
        }
        text += &format!("\r\n{body}");
        self.cases.push(Case { name, bytes: text.into_bytes(), is_mirrored: false, lines: 1 });
        self
    }

    /// Bytes as they are; `$CASE` stands for the case's header line.
    fn raw(mut self, name: &'static str, text: &str) -> Self {
        let text = text.replace("$CASE", &format!("x-case: {}/{name}", self.name));
        self.cases.push(Case { name, bytes: text.into_bytes(), is_mirrored: false, lines: 1 });
        self
    }

    /// The last case is redirected so often, within the proxy.
    fn followed(mut self, redirects: usize) -> Self {
        self.cases.last_mut().expect("a case is there").lines = 1 + redirects;
        self
    }

    /// The last case is also sent elsewhere.
    fn mirrored(mut self) -> Self {
        self.cases.last_mut().expect("a case is there").is_mirrored = true;
        self
    }
}

/// Groups of which the clients, or the servers, speak HTTP/2; with the cases that are requests there too.
fn over_http2() -> Vec<Group> {
    // What is about framing, or lines of HTTP/1, has no counterpart.
    let of_http1 = |group: &Group| {
        ["framing", "strict", "limit of", "reply malformed"].iter().any(|name| group.name.starts_with(name))
    };
    let down = [
        matching::groups(),
        answers::groups(),
        filters::groups(),
        compression::groups(),
        edge::groups(),
        replies::groups(),
        limits::groups(),
        logs::groups(),
        heads::groups(),
    ];
    let down = down.into_iter().flatten().filter(|group| !of_http1(group));
    let up = [answers::groups(), replies::groups(), logs::groups(), compression::groups()];
    let down = down.map(|group| group.renamed("down ", |case| http2::converted(&case.bytes).is_some()));
    let down = down.map(|group| Group { is_http2: true, ..group });
    let up = up.into_iter().flatten().filter(|group| !of_http1(group)).map(|group| {
        let servers = |text: &str| {
            ["}", ","].iter().fold(text.to_owned(), |text, end| {
                text.replace(&format!("cluster: echo{end}"), &format!("cluster: echo-2{end}"))
            })
        };
        let table = servers(&group.table);
        group
            .renamed("up ", |case| {
                !contains(&case.bytes, b"status=101") && !contains(&case.bytes, b"header=connection")
            })
            .table(&table)
    });
    down.chain(up.filter(|group| group.table.contains("echo-2"))).filter(|group| !group.cases.is_empty()).collect()
}

fn contains(text: &[u8], what: &[u8]) -> bool {
    text.windows(what.len()).any(|window| window == what)
}

impl Group {
    /// The same under another name, with some of its cases.
    fn renamed(mut self, prefix: &str, keep: impl Fn(&Case) -> bool) -> Self {
        let name: &'static str = Box::leak(format!("{prefix}{}", self.name).into_boxed_str());
        let (before, after) = (format!("x-case: {}/", self.name), format!("x-case: {name}/"));
        self.cases.retain(keep);
        for case in &mut self.cases {
            if let Ok(text) = std::str::from_utf8(&case.bytes) {
                case.bytes = text.replacen(&before, &after, 1).into_bytes();
            }
        }
        self.name = name;
        self
    }
}

/// Every group.
pub fn all() -> Vec<Group> {
    let all = [
        matching::groups(),
        answers::groups(),
        filters::groups(),
        compression::groups(),
        edge::groups(),
        replies::groups(),
        heads::groups(),
        logs::groups(),
        limits::groups(),
        runtime::groups(),
        followed::groups(),
    ];
    let mut all: Vec<Group> = all.into_iter().flatten().collect();
    all.extend(over_http2());
    all
}
