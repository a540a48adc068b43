//! This module parses the sections of PEM files (RFC 7468). Decoded sections are wiped on drop.
//!
//! Parsing is lenient, as the RFC recommends: text around the sections is ignored, and so is any whitespace within them.

use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

/// A section from `-----BEGIN …-----` to `-----END …-----`.
pub(crate) struct Section<'a> {
    pub(crate) label: &'a str,
    /// The whole section, unchanged.
    #[cfg(any(test, feature = "reqwest", feature = "hyper"))]
    pub(crate) text: &'a str,
    /// The decoded content. `None` if it is not base64, or starts with headers, as a key with a password does.
    pub(crate) der: Option<Zeroizing<Vec<u8>>>,
}

/// Returns the sections in order. A section without an end is ignored.
pub(crate) fn sections(text: &str) -> impl Iterator<Item = Section<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let start = rest.get(rest.find(BEGIN)?..)?;
        let (label, body) = start.get(BEGIN.len()..)?.split_once("-----")?;
        let (body, after) = body.split_once("-----END ")?;
        let (_, after) = after.split_once("-----")?;
        rest = after;
        Some(Section {
            label,
            #[cfg(any(test, feature = "reqwest", feature = "hyper"))]
            text: start.get(..start.len() - after.len())?,
            der: decode(body),
        })
    })
}

const BEGIN: &str = "-----BEGIN ";

fn decode(body: &str) -> Option<Zeroizing<Vec<u8>>> {
    // Allocated once, so that no copy remains in freed memory.
    let mut plain = Zeroizing::new(Vec::with_capacity(body.len()));
    plain.extend(body.bytes().filter(|byte| !byte.is_ascii_whitespace()));
    let mut der = Zeroizing::new(vec![0; plain.len()]);
    let length = STANDARD.decode_slice(plain.as_slice(), &mut der).ok()?;
    der.truncate(length);
    Some(der)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(&str, Option<Vec<u8>>)> {
        sections(text)
            .map(|section| (section.label, section.der.map(|der| der.to_vec())))
            .collect()
    }

    #[test]
    fn text_around_sections_is_ignored() {
        let text = "Bag Attributes\r\n-----BEGIN ONE-----\r\nYW\r\nJj\r\n-----END ONE-----\r\n\n junk \
            -----BEGIN TWO THREE-----  ZGVm  -----END TWO THREE-----";
        let expected = [
            ("ONE", Some(b"abc".to_vec())),
            ("TWO THREE", Some(b"def".to_vec())),
        ];
        assert_eq!(read(text), expected);
    }

    #[test]
    fn text_of_a_section_is_unchanged() {
        let one = "-----BEGIN ONE-----\nYWJj\n-----END ONE-----";
        let text = format!("before {one}\nafter");
        assert_eq!(sections(&text).next().unwrap().text, one);
    }

    #[test]
    fn incomplete_or_undecodable_sections_have_no_content() {
        assert!(read("-----BEGIN ONE-----\nYWJj\n").is_empty());
        assert!(read("-----BEGIN ONE").is_empty());
        assert!(read("-----BEGIN ONE-----\nYWJj\n-----END ONE").is_empty());
        assert!(read("").is_empty());
        let locked = "-----BEGIN ONE-----\nProc-Type: 4,ENCRYPTED\n\nYWJj\n-----END ONE-----";
        assert_eq!(read(locked), [("ONE", None)]);
    }
}
