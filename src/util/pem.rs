//! The sections of a PEM file (RFC 7468), each wiped when it is dropped.
//!
//! It is read leniently, as the RFC asks of parsers: text around the sections is skipped, and blanks and line ends of
//! every kind within them.

use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

/// One thing between `-----BEGIN …-----` and `-----END …-----`.
pub(crate) struct Section<'a> {
    pub(crate) label: &'a str,
    /// All of it, as it stands there.
    #[cfg(any(test, feature = "reqwest", feature = "hyper"))]
    pub(crate) text: &'a str,
    /// What it holds; `None` if that is no base64, or has headers before it as keys with a password have.
    pub(crate) der: Option<Zeroizing<Vec<u8>>>,
}

/// The sections in order. One that doesn't end is none.
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
    // Room for all at once, so that nothing is left behind in memory that grew.
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
    fn sections_are_found_between_whatever_stands_around_them() {
        let text = "Bag Attributes\r\n-----BEGIN ONE-----\r\nYW\r\nJj\r\n-----END ONE-----\r\n\n junk \
            -----BEGIN TWO THREE-----  ZGVm  -----END TWO THREE-----";
        let wanted = [
            ("ONE", Some(b"abc".to_vec())),
            ("TWO THREE", Some(b"def".to_vec())),
        ];
        assert_eq!(read(text), wanted);
    }

    #[test]
    fn a_section_is_known_as_it_stands_there() {
        let one = "-----BEGIN ONE-----\nYWJj\n-----END ONE-----";
        let text = format!("before {one}\nafter");
        assert_eq!(sections(&text).next().unwrap().text, one);
    }

    #[test]
    fn what_does_not_end_or_is_no_base64_is_nothing() {
        assert!(read("-----BEGIN ONE-----\nYWJj\n").is_empty());
        assert!(read("-----BEGIN ONE").is_empty());
        assert!(read("-----BEGIN ONE-----\nYWJj\n-----END ONE").is_empty());
        assert!(read("").is_empty());
        let locked = "-----BEGIN ONE-----\nProc-Type: 4,ENCRYPTED\n\nYWJj\n-----END ONE-----";
        assert_eq!(read(locked), [("ONE", None)]);
    }
}
