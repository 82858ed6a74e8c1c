//! The fields of every message, as a table in the program's read-only data: what a reader of encoded messages needs.

/// A message's name and fields.
#[derive(Debug)]
pub struct Message {
    /// Full name.
    pub name: &'static str,
    /// Whether it is an entry of a map field.
    pub is_map_entry: bool,
    /// Fields by number.
    pub fields: &'static [Field],
}

/// A field.
#[derive(Debug)]
pub struct Field {
    /// Its number on the wire.
    pub number: u32,
    /// Its name in the `.proto` file.
    pub name: &'static str,
    /// Full name of the message that it holds; empty for scalars.
    pub message: &'static str,
    /// Whether it is repeated and not a map.
    pub is_list: bool,
}

mod table {
    use super::{Field, Message};
    include!(concat!(env!("OUT_DIR"), "/fields.rs"));
}

/// The message that a type URL (or a bare full name) names.
pub fn message(type_url: &str) -> Option<&'static Message> {
    let name = type_url.rsplit('/').next().unwrap_or_default();
    let index = table::MESSAGES.binary_search_by(|message| message.name.cmp(name)).ok()?;
    table::MESSAGES.get(index)
}

impl Message {
    /// The field of a number.
    pub fn field(&self, number: u32) -> Option<&'static Field> {
        let index = self.fields.binary_search_by_key(&number, |field| field.number).ok()?;
        self.fields.get(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_what_the_descriptors_say() {
        for descriptor in crate::json::pool().all_messages() {
            let found = message(descriptor.full_name()).expect("every message is in the table");
            assert_eq!(found.fields.len(), descriptor.fields().len(), "{}", descriptor.full_name());
            for field in descriptor.fields() {
                let listed = found.field(field.number()).expect("every field is in the table");
                assert_eq!((listed.name, listed.is_list), (field.name(), field.is_list()));
            }
        }
        assert!(message("type.googleapis.com/no.such.Message").is_none());
    }
}
