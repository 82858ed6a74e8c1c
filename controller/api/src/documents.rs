//! The documents of a YAML stream, as text: nothing is parsed, so that one that is wrong costs nothing but itself.

/// The documents with the number of lines before each. A document begins behind its marker (`---`): what stands on the
/// marker's line belongs to it.
pub fn split(text: &str) -> Vec<(u64, &str)> {
    let mut documents = Vec::new();
    let (mut start, mut start_line, mut position) = (0, 0, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let bare = line.trim_end();
        if bare == "---" || bare.starts_with("--- ") {
            documents.push((start_line, text.get(start..position).unwrap_or_default()));
            start = position + 3;
            start_line = number as u64;
        }
        position += line.len();
    }
    documents.push((start_line, text.get(start..).unwrap_or_default()));
    documents
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn markers_end_documents_and_what_is_between_stays_as_it_is() {
        let text = "# a\nk: |\n  ---\n--- # two\nb: 1\n---\n";
        assert_eq!(split(text), [(0, "# a\nk: |\n  ---\n"), (3, " # two\nb: 1\n"), (5, "\n")]);
        assert_eq!(split(""), [(0, "")]);
    }
}
