//! Headers to add, set and remove, with Envoy's format operators.

use ferromesh_proto::envoy::config::core::v3 as core;
use http::{HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;

use crate::config::{At, ConfigError, required};
use crate::format::{Formatter, Info, Subject};
use crate::message::ResponseHead;
use crate::route::SelectedRoute;

/// Header rules of a route, virtual host, table or weighted cluster.
#[derive(Debug, Default)]
pub struct HeaderRules {
    /// For requests.
    pub request: Mutations,
    /// For responses.
    pub response: Mutations,
}

/// A list of changes to headers.
#[derive(Debug, Default)]
pub struct Mutations {
    list: Box<[Mutation]>,
    /// Each change sees the headers as the one before it left them; else all see them as they came, but for what is
    /// removed first.
    in_order: bool,
}

/// Values that are put once all are known.
type Puts<'a> = SmallVec<[(&'a Set, HeaderValue); 4]>;

#[derive(Debug)]
enum Mutation {
    Remove(HeaderName),
    Set(Box<Set>),
}

#[derive(Debug)]
struct Set {
    name: HeaderName,
    value: Formatter,
    /// The value, if it has no operators.
    fixed: Option<HeaderValue>,
    action: AppendAction,
    keep_empty: bool,
}

/// What happens if the header is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AppendAction {
    Append,
    AddIfAbsent,
    Overwrite,
    OverwriteIfExists,
}

impl HeaderRules {
    /// Decodes the four lists that many messages have; errors name the list.
    ///
    /// # Errors
    /// Names the header that is malformed or must not be changed.
    pub fn decode(
        request_add: &[core::HeaderValueOption],
        request_remove: &[String],
        response_add: &[core::HeaderValueOption],
        response_remove: &[String],
    ) -> Result<Self, ConfigError> {
        Ok(Self {
            request: Mutations::decode(request_add, request_remove, "request_headers")?,
            response: Mutations::decode(response_add, response_remove, "response_headers")?,
        })
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.request.is_empty() && self.response.is_empty()
    }

    /// Changes the request's headers.
    pub fn apply_request(&self, subject: &mut impl Subject) {
        self.request.apply_request(subject);
    }

    /// Changes the response's headers.
    pub fn apply_response(&self, subject: &impl Subject, head: &mut ResponseHead) {
        self.response.apply_response(subject, head);
    }
}

impl Mutations {
    /// Decodes lists of headers to add and to remove; errors name `<field>_to_add[i]`, `<field>_to_remove[i]`.
    ///
    /// # Errors
    /// Names the header that is malformed or must not be changed.
    pub fn decode(add: &[core::HeaderValueOption], remove: &[String], field: &str) -> Result<Self, ConfigError> {
        let removed = remove
            .iter()
            .enumerate()
            .map(|(index, name)| Mutation::remove(name).at(format!("{field}_to_remove[{index}]")));
        let added =
            add.iter().enumerate().map(|(index, option)| Mutation::set(option).at(format!("{field}_to_add[{index}]")));
        // Envoy removes before it adds.
        removed.chain(added).collect::<Result<_, _>>().map(|list| Self { list, in_order: false })
    }

    /// Decodes an ordered list of `envoy.config.common.mutation_rules.v3.HeaderMutation`.
    ///
    /// # Errors
    /// Names the header that is malformed or must not be changed.
    pub fn decode_ordered(
        list: &[ferromesh_proto::envoy::config::common::mutation_rules::v3::HeaderMutation],
    ) -> Result<Self, ConfigError> {
        use ferromesh_proto::envoy::config::common::mutation_rules::v3::header_mutation::Action;
        list.iter()
            .enumerate()
            .map(|(index, one)| {
                match &one.action {
                    Some(Action::Remove(name)) => Mutation::remove(name).at("remove"),
                    Some(Action::Append(option)) => Mutation::set(option).at("append"),
                    Some(Action::RemoveOnMatch(_)) => Err(ConfigError::new("remove_on_match", "is not implemented")),
                    None => Err(ConfigError::new("action", "must be set")),
                }
                .at(format!("[{index}]"))
            })
            .collect::<Result<_, _>>()
            .map(|list| Self { list, in_order: true })
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Changes that see the headers alike.
    fn batches(&self) -> impl Iterator<Item = &[Mutation]> {
        self.list.chunks(if self.in_order { 1 } else { self.list.len().max(1) })
    }

    /// Changes the request's headers.
    pub fn apply_request(&self, subject: &mut impl Subject) {
        for batch in self.batches() {
            remove(batch, subject.request_headers());
            let mut puts = Puts::new();
            for set in sets(batch) {
                if set.applies(subject.request_headers()) {
                    puts.extend(set.value(|| subject.info()).map(|value| (set, value)));
                }
            }
            put(puts, subject.request_headers());
        }
    }

    /// Changes the response's headers.
    pub fn apply_response(&self, subject: &impl Subject, head: &mut ResponseHead) {
        for batch in self.batches() {
            remove(batch, &mut head.headers);
            let applying = sets(batch).filter(|set| set.applies(&head.headers));
            // The status is the upstream's, and 0 in answers of our own, as in Envoy.
            let info = || Info { response: Some(head), ..subject.info() };
            let puts: Puts<'_> = applying.filter_map(|set| set.value(info).map(|value| (set, value))).collect();
            put(puts, &mut head.headers);
        }
    }

    /// Changes headers that are neither a request's nor a response's head (trailers, local replies).
    pub fn apply_headers(&self, subject: &impl Subject, headers: &mut HeaderMap) {
        for batch in self.batches() {
            remove(batch, headers);
            let applying = sets(batch).filter(|set| set.applies(headers));
            let puts: Puts<'_> =
                applying.filter_map(|set| set.value(|| subject.info()).map(|value| (set, value))).collect();
            put(puts, headers);
        }
    }
}

fn remove(batch: &[Mutation], headers: &mut HeaderMap) {
    for mutation in batch {
        if let Mutation::Remove(name) = mutation {
            headers.remove(name);
        }
    }
}

fn sets(batch: &[Mutation]) -> impl Iterator<Item = &Set> {
    batch.iter().filter_map(|mutation| match mutation {
        Mutation::Set(set) => Some(&**set),
        Mutation::Remove(_) => None,
    })
}

/// Puts values: first those that stand in place of others, so that none of those that are added is lost.
fn put(puts: Puts<'_>, headers: &mut HeaderMap) {
    let (replacing, added): (Puts<'_>, Puts<'_>) = puts.into_iter().partition(|(set, _)| set.action.replaces());
    for (set, value) in replacing {
        headers.insert(set.name.clone(), value);
    }
    for (set, value) in added {
        headers.append(set.name.clone(), value);
    }
}

impl AppendAction {
    fn replaces(self) -> bool {
        matches!(self, Self::Overwrite | Self::OverwriteIfExists)
    }
}

impl Mutation {
    fn remove(name: &str) -> Result<Self, ConfigError> {
        header_name(name).map(Self::Remove)
    }

    #[allow(deprecated)]
    fn set(option: &core::HeaderValueOption) -> Result<Self, ConfigError> {
        use core::header_value_option::HeaderAppendAction;
        let header = required(option.header.as_ref(), "header")?;
        let name = header_name(&header.key).at("header.key")?;
        let value = match (header.value.as_str(), header.raw_value.as_ref()) {
            (text, []) => text,
            ("", raw) => std::str::from_utf8(raw).map_err(|_| ConfigError::new("header.raw_value", "must be UTF-8"))?,
            _ => return Err(ConfigError::new("header", "value and raw_value exclude each other")),
        };
        let value = Formatter::parse(value).at("header.value")?;
        let fixed = value
            .literal()
            .map(HeaderValue::from_str)
            .transpose()
            .map_err(|_| ConfigError::new("header.value", "has characters that headers must not have"))?;
        let action = match (option.append, option.append_action()) {
            (Some(false), _) => AppendAction::Overwrite,
            (Some(true), _) | (None, HeaderAppendAction::AppendIfExistsOrAdd) => AppendAction::Append,
            (None, HeaderAppendAction::AddIfAbsent) => AppendAction::AddIfAbsent,
            (None, HeaderAppendAction::OverwriteIfExistsOrAdd) => AppendAction::Overwrite,
            (None, HeaderAppendAction::OverwriteIfExists) => AppendAction::OverwriteIfExists,
        };
        Ok(Self::Set(Box::new(Set { name, value, fixed, action, keep_empty: option.keep_empty_value })))
    }
}

fn header_name(name: &str) -> Result<HeaderName, ConfigError> {
    if name.starts_with(':') || name.eq_ignore_ascii_case("host") {
        return Err(ConfigError::new(
            "",
            format!("{name:?} must not be changed by header rules; use the rewrites of the route"),
        ));
    }
    HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| ConfigError::new("", format!("{name:?} is not a valid header name")))
}

impl Set {
    fn value<'a>(&self, info: impl FnOnce() -> Info<'a>) -> Option<HeaderValue> {
        let value = match &self.fixed {
            Some(value) => value.clone(),
            None => {
                let mut bytes = Vec::with_capacity(64);
                self.value.format_header(&info(), &mut bytes);
                // A value that no header may have is left out: it came from the request, and must not break it.
                HeaderValue::from_bytes(&bytes).ok()?
            }
        };
        (self.keep_empty || !value.is_empty()).then_some(value)
    }

    /// Whether it puts its value, by what is there already.
    fn applies(&self, headers: &HeaderMap) -> bool {
        match self.action {
            AppendAction::AddIfAbsent => !headers.contains_key(&self.name),
            AppendAction::OverwriteIfExists => headers.contains_key(&self.name),
            AppendAction::Append | AppendAction::Overwrite => true,
        }
    }
}

impl SelectedRoute {
    /// The header rules that apply, in the order in which they do.
    fn rules(&self) -> SmallVec<[&HeaderRules; 4]> {
        let mut rules: SmallVec<[&HeaderRules; 4]> = SmallVec::new();
        rules.extend(self.weighted().map(|cluster| &cluster.headers));
        rules.extend([&self.route().headers, &self.virtual_host().headers, &self.table().headers]);
        if self.table().most_specific_header_mutations_wins {
            rules.reverse();
        }
        rules
    }

    /// Applies the request header rules of weighted cluster, route, virtual host and table to the stream.
    pub fn apply_request_headers(&self, subject: &mut impl Subject) {
        for rules in self.rules() {
            rules.apply_request(subject);
        }
    }

    /// Applies the response header rules of weighted cluster, route, virtual host and table.
    pub fn apply_response_headers(&self, subject: &impl Subject, head: &mut ResponseHead) {
        for rules in self.rules() {
            rules.apply_response(subject, head);
        }
    }
}
