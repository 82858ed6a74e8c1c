//! What is compared: groups of cases, each with a listener of its own.

#[path = "groups/answers.rs"]
mod answers;
#[path = "groups/edge.rs"]
mod edge;
#[path = "groups/filters.rs"]
mod filters;
#[path = "groups/followed.rs"]
pub mod followed;
#[path = "groups/heads.rs"]
mod heads;
#[path = "groups/matching.rs"]
mod matching;
#[path = "groups/replies.rs"]
mod replies;
#[path = "groups/runtime.rs"]
pub mod runtime;

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

/// Every group.
pub fn all() -> Vec<Group> {
    let all = [
        matching::groups(),
        answers::groups(),
        filters::groups(),
        edge::groups(),
        replies::groups(),
        heads::groups(),
        runtime::groups(),
        followed::groups(),
    ];
    all.into_iter().flatten().collect()
}
