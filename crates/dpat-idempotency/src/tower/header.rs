//! The value of the header.

use http::HeaderMap;
use http::header::HeaderName;

/// What the header of a request says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    Absent,
    /// Not empty.
    Id(std::borrow::Cow<'a, str>),
    /// Several, empty, or with other characters than it may have.
    Invalid,
}

/// Reads the header: a string of RFC 8941 (`"abc"`), as the draft wants it, or bare (`abc`), as most clients send it.
pub(super) fn find<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Found<'a> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Found::Absent;
    };
    if values.next().is_some() {
        return Found::Invalid;
    }
    // `to_str` accepts visible ASCII, blanks and tabs.
    match value.to_str().map(str::trim) {
        Ok(text) if text.starts_with('"') => quoted(text),
        Ok("") | Err(_) => Found::Invalid,
        Ok(text) if text.contains(['\t', '"']) => Found::Invalid,
        Ok(text) => Found::Id(text.into()),
    }
}

/// Reads a string with its quotes (RFC 8941 § 4.2.5); no parameters.
fn quoted(text: &str) -> Found<'_> {
    let mut id = String::new();
    let mut characters = text[1..].chars();
    loop {
        match characters.next() {
            Some('"') => break,
            Some('\\') => match characters.next() {
                Some(escaped @ ('"' | '\\')) => id.push(escaped),
                _ => return Found::Invalid,
            },
            Some('\t') | None => return Found::Invalid,
            Some(other) => id.push(other),
        }
    }
    if id.is_empty() || characters.next().is_some() {
        return Found::Invalid;
    }
    Found::Id(id.into())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[track_caller]
    fn check(values: &[&str], expected: Option<Option<&str>>) {
        let name = HeaderName::from_static("idempotency-key");
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(&name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let found = match find(&headers, &name) {
            Found::Absent => None,
            Found::Invalid => Some(None),
            Found::Id(id) => Some(Some(id.into_owned())),
        };
        assert_eq!(found.as_ref().map(Option::as_deref), expected);
    }

    #[test]
    fn quoted_and_bare_keys_are_read() {
        check(&[], None);
        check(
            &["8e03978e-40d5-43dd-bc93-6894a57f9324"],
            Some(Some("8e03978e-40d5-43dd-bc93-6894a57f9324")),
        );
        check(&["\"8e03978e\""], Some(Some("8e03978e")));
        check(&["  a b "], Some(Some("a b")));
        check(&[r#""a\"b\\c""#], Some(Some(r#"a"b\c"#)));
    }

    #[test]
    fn other_values_are_refused() {
        for value in [
            "", "  ", "\"\"", "\"a", "\"a\"b", "\"a\\", "\"a\\n\"", "a\"b", "a\tb", "ä",
        ] {
            check(&[value], Some(None));
        }
        check(&["a", "a"], Some(None));
    }
}
