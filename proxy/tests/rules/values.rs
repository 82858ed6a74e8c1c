//! Values that a field's rules take, and values that they refuse, at the bounds that the rules state.

use ferromesh_proto::fields::{Field, Kind, Message};
use ferromesh_proto::rules::{Stated, stated};
use ferromesh_proto::wire::{Parts, Payload};
use serde_json::{Value, json};

/// Values for a field; `None` is the field not set.
#[derive(Default)]
pub struct Values {
    pub good: Vec<Value>,
    pub bad: Vec<Option<Value>>,
}

impl Values {
    fn bad(&mut self, value: Value) {
        self.bad.push(Some(value));
    }
}

fn all(bytes: &[u8], number: u32) -> impl Iterator<Item = Payload<'_>> {
    Parts::of(bytes).map(Result::unwrap).filter(move |part| part.number == number).map(|part| part.payload)
}

fn part(bytes: &[u8], number: u32) -> Option<&[u8]> {
    all(bytes, number).find_map(|payload| match payload {
        Payload::Bytes(bytes) => Some(bytes),
        _ => None,
    })
}

fn number(bytes: &[u8], number: u32) -> Option<u64> {
    all(bytes, number).find_map(|payload| match payload {
        Payload::Varint(n) => Some(n),
        _ => None,
    })
}

/// The values of a field with these rules (an encoded `validate.FieldRules`).
pub fn of(field: Field, rules: &[u8]) -> Values {
    let mut values = Values::default();
    if part(rules, 17).is_some_and(|rules| number(rules, 2) == Some(1)) {
        values.bad.push(None);
    }
    for part in Parts::of(rules).map(Result::unwrap) {
        let Payload::Bytes(rules) = part.payload else { continue };
        match part.number {
            1 | 2 => reals(rules, part.number, &mut values),
            3..=6 => wholes(rules, &mut values),
            13 => {
                values.good.push(json!(true));
                values.bad(json!(false));
            }
            14 => texts(rules, &mut values),
            16 => enums(field, rules, &mut values),
            18 => lists(field, rules, &mut values),
            19 => maps(field, rules, &mut values),
            20 => values.bad.push(None),
            21 => durations(rules, &mut values),
            _ => {}
        }
    }
    values
}

fn wholes(rules: &[u8], values: &mut Values) {
    for part in Parts::of(rules).map(Result::unwrap) {
        let Payload::Varint(bound) = part.payload else { continue };
        let bound = i128::from(bound.cast_signed());
        let (good, bad) = match part.number {
            2 => (bound - 1, bound),
            3 => (bound, bound + 1),
            4 => (bound + 1, bound),
            5 => (bound, bound - 1),
            _ => continue,
        };
        values.good.push(json!(good.to_string()));
        // Zero is not written where a field has no presence, so that `ignore_empty` and it are one case.
        if bad >= 0 && number(rules, 8).is_none() {
            values.bad(json!(bad.to_string()));
        }
    }
}

fn reals(rules: &[u8], kind: u32, values: &mut Values) {
    for part in Parts::of(rules).map(Result::unwrap) {
        let bound = match part.payload {
            Payload::Fixed32(bits) if kind == 1 => f64::from(f32::from_bits(bits)),
            Payload::Fixed64(bits) => f64::from_bits(bits),
            _ => continue,
        };
        let (good, bad) = match part.number {
            2 => (bound - 0.5, bound),
            3 => (bound, bound + 0.5),
            4 => (bound + 0.5, bound),
            5 => (bound, bound - 0.5),
            _ => continue,
        };
        values.good.push(json!(good));
        values.bad(json!(bad));
    }
}

fn durations(rules: &[u8], values: &mut Values) {
    if number(rules, 1) == Some(1) {
        values.bad.push(None);
    }
    let show = |n: i128| Value::String(format!("{}.{:09}s", n / 1_000_000_000, n % 1_000_000_000));
    for part in Parts::of(rules).map(Result::unwrap) {
        let Payload::Bytes(bound) = part.payload else { continue };
        let bound = i128::from(number(bound, 1).unwrap_or_default()) * 1_000_000_000
            + i128::from(number(bound, 2).unwrap_or_default());
        let (good, bad) = match part.number {
            3 => (bound - 1_000_000, bound),
            4 => (bound, bound + 1),
            5 => (bound + 1_000_000, bound),
            6 => (bound, bound - 1),
            _ => continue,
        };
        values.good.push(show(good));
        // Negative ones Envoy refuses in other words, before it looks at rules.
        if bad >= 0 {
            values.bad(show(bad));
        }
    }
}

fn texts(rules: &[u8], values: &mut Values) {
    let size = |at| number(rules, at).map(|n| usize::try_from(n).unwrap());
    let text = |at| part(rules, at).map(|text| String::from_utf8(text.to_vec()).unwrap());
    let least = size(2).or(size(4)).unwrap_or(1);
    let mut good = "a".repeat(least.max(1));
    if let Some(pattern) = text(6) {
        assert_eq!(pattern, "^[^?#]+[^?#/]$", "a pattern of which no value is known here");
        good = "/ab".to_owned();
        values.bad(json!("/ab/"));
        values.bad(json!("/a?b"));
        values.bad(json!("a"));
    }
    if let Some(prefix) = text(7) {
        values.bad(json!(good));
        good.insert_str(0, &prefix);
    }
    if let Some(suffix) = text(8) {
        values.bad(json!(good));
        good.push_str(&suffix);
    }
    if let Some(listed) = text(10) {
        values.bad(json!("other"));
        good = listed;
    }
    let is_ignored = number(rules, 26) == Some(1);
    if least > 1 || (least == 1 && number(rules, 2).or(number(rules, 4)).is_some() && !is_ignored) {
        values.bad(json!("a".repeat(least - 1)));
    }
    if let Some(most) = size(3) {
        values.good.push(json!("\u{e9}".repeat(most)));
        values.bad(json!("a".repeat(most + 1)));
    }
    if let Some(most) = size(5) {
        values.good.push(json!("a".repeat(most)));
        values.bad(json!("\u{e9}".repeat(most / 2 + 1)));
    }
    let (known, is_strict) = (number(rules, 24), number(rules, 25) != Some(0));
    let (takes, refuses): (&[&str], &[&str]) = match (known, is_strict) {
        (Some(1), true) => (&["x-a", ":path", "a,b"], &["a b", "a:b", "a\nb", "\u{e9}", "a\tb", "::a"]),
        (Some(2), true) => (&["a b", "a\tb", "\u{e9}"], &["a\nb", "a\u{1}", "a\u{7f}", "a\u{0}"]),
        (Some(_), false) => (&["a b", "a\tb", "a\u{1}"], &["a\nb", "a\rb", "a\u{0}"]),
        _ => (&[], &[]),
    };
    values.good.insert(0, json!(good));
    values.good.extend(takes.iter().map(|text| json!(text)));
    refuses.iter().for_each(|text| values.bad(json!(text)));
}

fn enums(field: Field, rules: &[u8], values: &mut Values) {
    let Kind::Enum(kind) = field.kind() else { panic!("{field:?} is no enum") };
    let refused: Vec<u64> = all(rules, 4)
        .map(|payload| match payload {
            Payload::Varint(n) => n,
            other => panic!("{other:?}"),
        })
        .collect();
    let mut known = kind.values().filter(|(number, _)| !refused.contains(&(*number as u64)));
    values.good.push(json!(known.next().unwrap().0));
    if number(rules, 2) == Some(1) {
        values.bad(json!(77_777));
    }
    refused.into_iter().for_each(|number| values.bad(json!(number)));
}

/// An item that the rules of items take: differing ones for differing `seed`.
fn item(field: Field, rules: Option<&[u8]>, seed: usize) -> Value {
    let good = rules.and_then(|rules| of(field, rules).good.into_iter().nth(seed));
    match (good, field.kind()) {
        (Some(good), _) => good,
        (None, Kind::Message(message)) => least(message, 0),
        (None, Kind::String) => json!(format!("item-{seed}")),
        (None, _) => json!(seed),
    }
}

fn lists(field: Field, rules: &[u8], values: &mut Values) {
    let items = part(rules, 4);
    let size = |at| number(rules, at).map(|n| usize::try_from(n).unwrap());
    let one = item(field, items, 0);
    let many = |n: usize| Value::Array((0..n).map(|_| one.clone()).collect());
    let least = size(1).unwrap_or_default();
    values.good.push(many(least.max(1)));
    if least > 0 {
        values.bad(many(least - 1));
    }
    if let Some(most) = size(2) {
        values.bad(many(most + 1));
    }
    if number(rules, 3) == Some(1) {
        values.bad(many(2));
    }
    for bad in items.into_iter().flat_map(|items| of(field, items).bad).flatten() {
        values.bad(json!([one, bad]));
    }
}

fn maps(field: Field, rules: &[u8], values: &mut Values) {
    let value = field.message().unwrap().field(2).unwrap();
    let inner = item(value, part(rules, 5), 0);
    values.good.push(json!({"key": inner}));
    if number(rules, 1).is_some() {
        values.bad(json!({}));
    }
    if part(rules, 4).is_some() {
        values.bad(json!({"": inner}));
    }
    for bad in part(rules, 5).into_iter().flat_map(|rules| of(value, rules).bad).flatten() {
        values.bad(json!({"key": bad}));
    }
}

/// The least message that keeps its rules.
pub fn least(message: Message, depth: usize) -> Value {
    assert!(depth < 20, "{message:?} needs itself");
    match message.name() {
        "google.protobuf.Duration" => return json!("1s"),
        "google.protobuf.Any" => {
            return json!({"@type": "type.googleapis.com/google.protobuf.StringValue", "value": "a"});
        }
        name if name.ends_with("Value") && name.starts_with("google.protobuf.") => return json!(1),
        _ => {}
    }
    let mut object = serde_json::Map::new();
    for stated in stated(message) {
        match stated {
            Stated::Oneof(number) => {
                let mut members = message.fields().filter(|field| field.oneof() == Some(number));
                let plain = |field: &Field| field.message().is_none();
                let members: Vec<Field> = members.by_ref().collect();
                let chosen = members.iter().copied().find(plain).unwrap_or_else(|| *members.first().unwrap());
                object.entry(chosen.name()).or_insert_with(|| whole(chosen, depth));
            }
            Stated::Field(field, rules) => {
                let values = of(field, rules);
                let needs = values.bad.iter().any(|bad| bad.as_ref().is_none_or(is_nothing));
                if needs && field.oneof().is_none() {
                    let value = values.good.into_iter().next().unwrap_or_else(|| whole(field, depth));
                    object.insert(field.name().to_owned(), value);
                }
            }
        }
    }
    Value::Object(object)
}

fn is_nothing(value: &Value) -> bool {
    *value == json!("") || *value == json!("0") || *value == json!([]) || *value == json!({}) || *value == json!(0)
}

/// A value of a field, of the rules that it has.
fn whole(field: Field, depth: usize) -> Value {
    let stated = stated_of(field);
    if let Some(good) = stated.and_then(|rules| of(field, rules).good.into_iter().next()) {
        return good;
    }
    match field.kind() {
        Kind::Message(message) => least(message, depth + 1),
        Kind::String => json!("a"),
        Kind::Bool => json!(true),
        _ => json!(1),
    }
}

fn stated_of(field: Field) -> Option<&'static [u8]> {
    ferromesh_proto::fields::messages().find(|message| message.fields().any(|own| own == field)).and_then(|message| {
        stated(message).into_iter().find_map(|stated| match stated {
            Stated::Field(own, rules) if own == field => Some(rules),
            _ => None,
        })
    })
}
