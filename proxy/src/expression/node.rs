//! Values that expressions read: borrowed from the exchange, and made into CEL's only where an expression reaches them.

use std::borrow::Cow;

use cel::ExecutionError;
use cel::common::traits::{Container, Indexer, Sizer};
use cel::common::types::{CelBool, CelDouble, CelInt, CelNull, CelString, LIST_TYPE, MAP_TYPE, Type};
use cel::common::value::{CowVal, Val};
use http::HeaderMap;
use serde_json::{Map, Value};

use crate::matcher::header::{Name, joined};
use crate::matcher::metadata::Dynamic;
use crate::message::{RequestHead, ResponseHead};

/// A value.
#[derive(Debug, Clone)]
pub(super) enum Node<'a> {
    Text(Cow<'a, str>),
    Int(i64),
    Bool(bool),
    Json(&'a Value),
    Object(&'a Map<String, Value>),
    /// Metadata by filter name.
    Dynamic(&'a Dynamic),
    Request(&'a RequestHead),
    Response(&'a ResponseHead),
    Trailers(&'a HeaderMap),
    /// Named values.
    Group(Vec<(&'static str, Node<'a>)>),
}

static MAP: Type = MAP_TYPE;
static LIST: Type = LIST_TYPE;

impl<'a> Node<'a> {
    /// As CEL's value.
    fn value<'b, 'v>(self) -> CowVal<'b, 'v>
    where
        'a: 'v,
    {
        match self {
            Self::Text(text) => CowVal::owned(CelString::from(text)),
            Self::Int(number) => CowVal::owned(CelInt::from(number)),
            Self::Bool(truth) => CowVal::owned(CelBool::from(truth)),
            Self::Json(Value::Null) => CowVal::owned(CelNull),
            Self::Json(Value::Bool(truth)) => CowVal::owned(CelBool::from(*truth)),
            // A protobuf Struct knows no other numbers.
            Self::Json(Value::Number(number)) => CowVal::owned(CelDouble::from(number.as_f64().unwrap_or_default())),
            Self::Json(Value::String(text)) => CowVal::owned(CelString::from(text.as_str())),
            other => CowVal::Owned(Box::new(other)),
        }
    }

    /// What is under a name.
    fn field(&self, name: &str) -> Option<Node<'a>> {
        let header = || Name::parse(name).ok();
        match self {
            Self::Group(fields) => fields.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone()),
            Self::Json(Value::Object(map)) => map.get(name).map(Node::Json),
            Self::Object(map) => map.get(name).map(Node::Json),
            Self::Dynamic(metadata) => metadata.get(name).map(Node::Object),
            Self::Request(head) => header()?.in_request(head).map(Node::Text),
            Self::Response(head) => header()?.in_response(head).map(Node::Text),
            Self::Trailers(trailers) => match header()? {
                Name::Header(name) => joined(trailers, &name).map(Node::Text),
                _ => None,
            },
            _ => None,
        }
    }

    fn element(&self, index: &dyn Val) -> Option<Node<'a>> {
        let Self::Json(Value::Array(list)) = self else { return None };
        let index = usize::try_from(*index.downcast_ref::<CelInt>()?.inner()).ok()?;
        list.get(index).map(Node::Json)
    }

    fn at(&self, index: &dyn Val) -> Option<Node<'a>> {
        match index.downcast_ref::<CelString<'_>>() {
            Some(name) => self.field(name.inner()),
            None => self.element(index),
        }
    }

    fn is_list(&self) -> bool {
        matches!(self, Self::Json(Value::Array(_)))
    }
}

impl Val for Node<'_> {
    fn get_type(&self) -> &Type {
        if self.is_list() { &LIST } else { &MAP }
    }

    fn cel_type() -> &'static Type {
        &MAP
    }

    fn as_container(&self) -> Option<&dyn Container> {
        Some(self)
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_sizer(&self) -> Option<&dyn Sizer> {
        Some(self)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(self.clone())
    }
}

impl Indexer for Node<'_> {
    fn get<'b, 'v>(&'b self, index: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.at(index).map(Node::value).ok_or_else(|| ExecutionError::NoSuchKey(String::new().into()))
    }

    fn steal<'v>(self: Box<Self>, index: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.get(index).map(CowVal::into_owned)
    }
}

impl Container for Node<'_> {
    fn contains(&self, value: &dyn Val) -> Result<bool, ExecutionError> {
        if let Self::Json(Value::Array(list)) = self {
            return Ok(list.iter().any(|element| Node::Json(element).value().equals(value)));
        }
        Ok(value.downcast_ref::<CelString<'_>>().is_some_and(|name| self.field(name.inner()).is_some()))
    }
}

impl Sizer for Node<'_> {
    fn size(&self) -> CelInt {
        let size = match self {
            Self::Json(Value::Array(list)) => list.len(),
            Self::Json(Value::Object(map)) => map.len(),
            Self::Object(map) => map.len(),
            Self::Dynamic(metadata) => metadata.len(),
            Self::Request(head) => head.headers.keys_len(),
            Self::Response(head) => head.headers.keys_len(),
            Self::Trailers(trailers) => trailers.keys_len(),
            Self::Group(fields) => fields.len(),
            _ => 0,
        };
        CelInt::from(i64::try_from(size).unwrap_or(i64::MAX))
    }
}
