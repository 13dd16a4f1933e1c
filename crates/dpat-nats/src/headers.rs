//! Headers of a message: the names and values as NATS has them, and all of them in order where it would not keep it.
//!
//! NATS headers are a map of names to texts. It keeps no order among names, trims values and takes no bytes, so that a list
//! for which that matters is written a second time, whole, into [`LIST`].

use async_nats::{HeaderMap, HeaderName, HeaderValue};

/// The list in the form `name=value&name=value`, with percent signs for what is no plain letter.
pub(crate) const LIST: &str = "Dpat-Headers";

/// One name and its value.
pub(crate) type Pair = (String, Vec<u8>);

/// Adds a list of headers.
pub(crate) fn write<'a>(
    map: &mut HeaderMap,
    list: impl Iterator<Item = (&'a str, &'a [u8])> + Clone,
) {
    let mut last = None;
    let mut is_plain = true;
    for (name, value) in list.clone() {
        let native = native(name, value);
        // In the order in which they are read, and read as they are.
        is_plain &= native.is_some() && last.is_none_or(|last| last <= name) && !is_ours(name);
        last = Some(name);
        if let Some((name, value)) = native.filter(|_| !is_ours(name)) {
            map.append(name, value);
        }
    }
    if !is_plain {
        map.insert(LIST, encode(list));
    }
}

/// What NATS itself gives a meaning, and what we do.
fn is_ours(name: &str) -> bool {
    let begins = |with: &str| {
        name.len() >= with.len()
            && name.as_bytes()[..with.len()].eq_ignore_ascii_case(with.as_bytes())
    };
    begins("Nats-") || begins("Dpat-") || begins("KV-")
}

/// The form in which NATS gives it back as it was, if there is one.
fn native(name: &str, value: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let text = std::str::from_utf8(value).ok()?;
    if text.trim() != text || text.contains(char::is_control) || name.is_empty() {
        return None;
    }
    Some((name.parse().ok()?, text.parse().ok()?))
}

/// Reads the list that was written, or that of another program: its names sorted, without those that NATS and we give a meaning.
pub(crate) fn read(map: &HeaderMap) -> Vec<Pair> {
    if let Some(list) = map.get(LIST).and_then(|list| decode(list.as_str())) {
        return list;
    }
    let mut list: Vec<Pair> = Vec::new();
    for (name, values) in map.iter() {
        let name: &str = name.as_ref();
        if is_ours(name) {
            continue;
        }
        let values = values.iter();
        list.extend(values.map(|value| (name.to_owned(), value.as_str().as_bytes().to_vec())));
    }
    // Stable: the values of a name keep their order.
    list.sort_by(|(one, _), (other, _)| one.cmp(other));
    list
}

fn encode<'a>(list: impl Iterator<Item = (&'a str, &'a [u8])>) -> String {
    let mut text = String::new();
    for (name, value) in list {
        if !text.is_empty() {
            text.push('&');
        }
        escape(name.as_bytes(), '%', &mut text);
        text.push('=');
        escape(value, '%', &mut text);
    }
    text
}

fn decode(text: &str) -> Option<Vec<Pair>> {
    let pairs = text.split('&').map(|pair| {
        let (name, value) = pair.split_once('=')?;
        Some((
            String::from_utf8(unescape(name, '%')?).ok()?,
            unescape(value, '%')?,
        ))
    });
    pairs.collect()
}

/// Writes letters, digits, `-` and `_` as they are, and every other byte as `mark` and two digits.
pub(crate) fn escape(bytes: &[u8], mark: char, to: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |number: u8| char::from(DIGITS[usize::from(number & 15)]);
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            to.push(char::from(*byte));
        } else {
            to.extend([mark, digit(byte >> 4), digit(*byte)]);
        }
    }
}

/// Reads what [`escape`] wrote.
pub(crate) fn unescape(text: &str, mark: char) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter == mark {
            let mut digit = || letters.next().and_then(|digit| digit.to_digit(16));
            let byte = 16 * digit()? + digit()?;
            bytes.push(u8::try_from(byte).ok()?);
        } else {
            bytes.push(u8::try_from(letter).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Written<'a> = (&'a str, &'a [u8]);

    fn back(list: &[Written<'_>]) -> (Vec<Pair>, bool) {
        let mut map = HeaderMap::new();
        write(&mut map, list.iter().copied());
        (read(&map), map.get(LIST).is_some())
    }

    #[test]
    fn headers_come_back_as_they_were_written() {
        let cases: [(&[Written<'_>], bool); 9] = [
            (&[], false),
            (&[("a", b"1"), ("a", b"2"), ("b", b"")], false),
            (&[("b", b"1"), ("a", b"2")], true),
            (
                &[("one", "é ü".as_bytes()), ("two", b""), ("one", b"2")],
                true,
            ),
            (&[("a", b" 1")], true),
            (&[("a", &[0, 255])], true),
            (&[("a b", b"=&%")], true),
            (&[("", b"")], true),
            (&[("Nats-Msg-Id", b"1"), ("dpat-id", b"2")], true),
        ];
        for (list, listed) in cases {
            let expected: Vec<Pair> = list
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.to_vec()))
                .collect();
            assert_eq!(back(list), (expected, listed), "{list:?}");
        }
    }

    #[test]
    fn headers_of_other_programs_are_read_sorted() {
        let mut map = HeaderMap::new();
        map.append("b", "2");
        map.append("Nats-Msg-Id", "x");
        map.append("a", "1");
        let pair = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
        assert_eq!(read(&map), [pair("a", "1"), pair("b", "2")]);
        map.insert(LIST, "no list");
        assert_eq!(read(&map), [pair("a", "1"), pair("b", "2")]);
    }

    #[test]
    fn escaped_bytes_come_back() {
        let all: Vec<u8> = (0..=255).collect();
        let mut text = String::new();
        escape(&all, '=', &mut text);
        assert!(text.bytes().all(|byte| byte.is_ascii_graphic()));
        assert_eq!(unescape(&text, '='), Some(all));
        assert_eq!(unescape("=4", '='), None);
        assert_eq!(unescape("=zz", '='), None);
    }
}
