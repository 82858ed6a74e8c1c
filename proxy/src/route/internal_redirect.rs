//! Redirects of an upstream that the proxy follows itself. Pure.
//!
//! Rules: Envoy, "Internal redirects" and `InternalRedirectPolicy`.

use http::{HeaderMap, HeaderName, Uri};

use crate::text::Text;

/// Which redirects are followed.
#[derive(Debug)]
pub struct InternalRedirect {
    /// Redirects of one request at most.
    pub max: u32,
    /// Statuses that count as one.
    pub statuses: Vec<u16>,
    /// From https to http and the other way.
    pub cross_scheme: bool,
    /// Headers that the next request has from the answer, or has not.
    pub copied: Vec<HeaderName>,
    /// All of them must agree.
    pub predicates: Vec<Predicate>,
}

/// Has a word in whether a redirect is followed.
#[derive(Debug)]
pub enum Predicate {
    /// A route is not entered twice from the same one.
    PreviousRoutes,
    /// Only routes of these names are entered.
    AllowListedRoutes(Vec<Text>),
    /// From http only to http.
    SafeCrossScheme,
}

/// Why a redirect goes to the client as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// `Location` is not an absolute URL of http or https.
    BadLocation,
    /// The scheme would be another.
    UnsafeScheme,
    /// There were enough.
    TooMany,
    /// No route leads there.
    NoRoute,
    /// A predicate says no.
    Predicate,
}

/// What a request was redirected to so far.
#[derive(Debug, Default, Clone)]
pub struct Followed {
    /// How often.
    pub count: u32,
    /// Names of routes: from which to which.
    steps: Vec<(Text, Text)>,
}

/// A step that is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    /// Name of the route that was redirected.
    pub from: &'a Text,
    /// Name of the route that it leads to.
    pub to: &'a Text,
    /// The request came by https.
    pub from_https: bool,
    /// It would go on by https.
    pub to_https: bool,
}

impl InternalRedirect {
    /// Whether an answer of this status is one to follow.
    pub fn is_for(&self, status: u16) -> bool {
        self.statuses.contains(&status)
    }

    /// What can be said before the route is known.
    ///
    /// # Errors
    /// Says why the redirect is not followed.
    pub fn check(&self, followed: &Followed, from_https: bool, to_https: bool) -> Result<(), Refusal> {
        if !self.cross_scheme && from_https != to_https {
            return Err(Refusal::UnsafeScheme);
        }
        if followed.count >= self.max { Err(Refusal::TooMany) } else { Ok(()) }
    }

    /// Asks the predicates; the step is noted for the next time, whoever says no after that.
    ///
    /// # Errors
    /// If one of them says no.
    pub fn agree(&self, followed: &mut Followed, step: Step<'_>) -> Result<(), Refusal> {
        let agrees = |predicate: &Predicate| match predicate {
            Predicate::PreviousRoutes => followed.enter(step),
            Predicate::AllowListedRoutes(names) => names.contains(step.to),
            Predicate::SafeCrossScheme => step.from_https || !step.to_https,
        };
        if self.predicates.iter().all(agrees) { Ok(()) } else { Err(Refusal::Predicate) }
    }

    /// Takes over what the next request has from the answer's headers.
    pub fn copy(&self, from: &HeaderMap, to: &mut HeaderMap) {
        for name in &self.copied {
            to.remove(name);
            for value in from.get_all(name) {
                to.append(name.clone(), value.clone());
            }
        }
    }
}

impl Followed {
    /// Notes a step; whether it is new.
    fn enter(&mut self, step: Step<'_>) -> bool {
        let is_new = !self.steps.iter().any(|(from, to)| from == step.from && to == step.to);
        if is_new {
            self.steps.push((step.from.clone(), step.to.clone()));
        }
        is_new
    }
}

/// Where a `Location` leads.
#[derive(Debug, PartialEq, Eq)]
pub struct Target {
    /// By https.
    pub https: bool,
    /// Host, with its port if it names one.
    pub authority: Text,
    /// Path and query.
    pub path: Text,
}

impl Target {
    /// Reads an absolute URL; its fragment is of no concern to a server.
    pub fn parse(location: &[u8]) -> Option<Self> {
        let uri: Uri = std::str::from_utf8(location).ok()?.parse().ok()?;
        let https = match uri.scheme_str()? {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let authority = uri.authority()?.as_str();
        // User information hides the host from simple readers.
        if authority.contains('@') {
            return None;
        }
        let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let path = if path.starts_with('/') { Text::from(path) } else { Text::from(format!("/{path}")) };
        Some(Self { https, authority: authority.into(), path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(predicates: Vec<Predicate>) -> InternalRedirect {
        InternalRedirect { max: 2, statuses: vec![302], cross_scheme: false, copied: vec![], predicates }
    }

    #[test]
    fn a_location_is_an_absolute_url_of_http_or_https() {
        let parse = |location: &str| {
            Target::parse(location.as_bytes()).map(|to| format!("{} {} {}", to.https, to.authority, to.path))
        };
        assert_eq!(parse("http://a.test:81/b?c=d#e").as_deref(), Some("false a.test:81 /b?c=d"));
        assert_eq!(parse("https://a.test").as_deref(), Some("true a.test /"));
        assert_eq!(parse("http://a.test?b=c").as_deref(), Some("false a.test /?b=c"));
        for bad in ["", "/b", "a.test/b", "ftp://a.test/", "http:///b", "http://user@a.test/", "http://a b/"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
        assert_eq!(Target::parse(b"http://a.test/\xff"), None);
    }

    #[test]
    fn the_scheme_stays_unless_it_may_change_and_there_is_an_end() {
        let (mut rules, mut followed) = (policy(vec![]), Followed::default());
        assert_eq!(rules.check(&followed, false, false), Ok(()));
        assert_eq!(rules.check(&followed, true, false), Err(Refusal::UnsafeScheme));
        rules.cross_scheme = true;
        assert_eq!(rules.check(&followed, true, false), Ok(()));
        followed.count = 2;
        assert_eq!(rules.check(&followed, false, false), Err(Refusal::TooMany));
    }

    #[test]
    fn every_predicate_must_agree() {
        let (from, to, other) = (Text::from("from"), Text::from("to"), Text::from("other"));
        let step = Step { from: &from, to: &to, from_https: false, to_https: false };
        let mut followed = Followed::default();
        let rules = policy(vec![Predicate::PreviousRoutes]);
        assert_eq!(rules.agree(&mut followed, step), Ok(()));
        assert_eq!(rules.agree(&mut followed, step), Err(Refusal::Predicate), "the same step again");
        assert_eq!(rules.agree(&mut followed, Step { from: &other, ..step }), Ok(()), "from elsewhere");
        let listed = policy(vec![Predicate::AllowListedRoutes(vec![to.clone()]), Predicate::SafeCrossScheme]);
        assert_eq!(listed.agree(&mut followed, step), Ok(()));
        assert_eq!(listed.agree(&mut followed, Step { to: &other, ..step }), Err(Refusal::Predicate));
        assert_eq!(listed.agree(&mut followed, Step { to_https: true, ..step }), Err(Refusal::Predicate));
        assert_eq!(listed.agree(&mut followed, Step { from_https: true, ..step }), Ok(()));
    }

    #[test]
    fn copied_headers_are_those_of_the_answer_and_no_others() {
        let mut rules = policy(vec![]);
        rules.copied = vec![HeaderName::from_static("x-a"), HeaderName::from_static("x-b")];
        let map = |list: &[(&'static str, &str)]| -> HeaderMap {
            list.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().expect("a value"))).collect()
        };
        let mut to = map(&[("x-a", "old"), ("x-b", "old"), ("x-c", "old")]);
        let mut from = map(&[("x-a", "1"), ("x-c", "new")]);
        from.append("x-a", "2".parse().expect("a value"));
        rules.copy(&from, &mut to);
        assert_eq!(to.get_all("x-a").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert!(!to.contains_key("x-b"));
        assert_eq!(to["x-c"], "old");
    }
}
