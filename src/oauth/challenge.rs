//! This module parses the challenges of `WWW-Authenticate` headers (RFC 9110 §11.6.1) leniently.
//!
//! The header is a list of challenges, and each challenge has a list of parameters. Both lists are separated by commas, so a comma
//! does not tell whether a challenge ends. The token after it does: a token followed by `=` is another parameter, any other token
//! is the next scheme. The text after a scheme may also be a token68 (`Negotiate abc==`), which ends at a comma or at the end.
//!
//! Malformed text is skipped up to the next comma outside quotes, where parsing resumes. The time is linear in the length of the
//! header, and the number of bytes, challenges and parameters is limited.

/// The maximum number of bytes of all lines together.
const MAX_BYTES: usize = 16 << 10;
const MAX_CHALLENGES: usize = 32;
/// The maximum number of parameters of one challenge.
const MAX_PARAMS: usize = 32;

/// A challenge: a scheme and its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// In lower case.
    pub(crate) scheme: String,
    pub(crate) token68: Option<String>,
    /// Names in lower case, and values. If a name is repeated, the first value counts.
    pub(crate) params: Vec<(String, String)>,
}

impl Challenge {
    /// Returns the value of a parameter. `name` must be in lower case.
    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        let (_, value) = self.params.iter().find(|(found, _)| found == name)?;
        Some(value)
    }

    fn add(&mut self, name: &[u8], value: String) {
        let name = text(name).to_ascii_lowercase();
        if self.params.len() < MAX_PARAMS && self.param(&name).is_none() {
            self.params.push((name, value));
        }
    }
}

/// Parses the challenges of all header lines, in order.
pub(crate) fn challenges<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Vec<Challenge> {
    let mut found = Vec::new();
    let mut room = MAX_BYTES;
    for line in lines {
        let rest = match line.split_at_checked(room) {
            // A parameter or challenge that is cut off is ignored.
            Some((cut, [_, ..])) => cut.rsplitn(2, |c| *c == b',').nth(1).unwrap_or_default(),
            _ => line,
        };
        room = room.saturating_sub(line.len());
        found.append(&mut Scanner { rest }.challenges());
    }
    found.truncate(MAX_CHALLENGES);
    found
}

/// The part of a line that has not been parsed.
struct Scanner<'a> {
    rest: &'a [u8],
}

impl<'a> Scanner<'a> {
    fn challenges(mut self) -> Vec<Challenge> {
        let mut found: Vec<Challenge> = Vec::new();
        loop {
            // RFC 9110 §5.6.1.2: "A recipient MUST parse and ignore a reasonable number of empty list elements".
            self.take_while(|c| is_space(c) || c == b',');
            let token = self.take_while(is_tchar);
            let spaces = self.take_while(is_space);
            match self.rest.split_first() {
                None if token.is_empty() => return found,
                Some((b'=', rest)) if !token.is_empty() => {
                    self.rest = rest;
                    self.take_while(is_space);
                    // A parameter without a scheme on its line is ignored.
                    if let (Some(value), Some(challenge)) = (self.value(), found.last_mut()) {
                        challenge.add(token, value);
                    }
                }
                Some((next, _)) if token.is_empty() || (spaces.is_empty() && *next != b',') => {
                    self.skip_to_comma();
                }
                _ => found.push(Challenge {
                    scheme: text(token).to_ascii_lowercase(),
                    token68: self.token68(),
                    params: Vec::new(),
                }),
            }
        }
    }

    /// Reads the value of a parameter: a quoted string, or everything up to a comma or space. Returns `None` if the quotes are not
    /// closed.
    fn value(&mut self) -> Option<String> {
        if self.rest.first() != Some(&b'"') {
            // This accepts more than a token of RFC 9110, because some servers send URLs without quotes.
            return Some(text(self.take_while(|c| c != b',' && !is_space(c))));
        }
        self.quoted()
    }

    // RFC 9110 §5.6.4: quoted-string = DQUOTE *( qdtext / quoted-pair ) DQUOTE
    fn quoted(&mut self) -> Option<String> {
        let mut value = Vec::new();
        // Without a closing quote, the rest of the line is dropped.
        let mut bytes = std::mem::take(&mut self.rest).split_first()?.1;
        while let [byte, rest @ ..] = bytes {
            bytes = rest;
            match (byte, rest) {
                (b'"', _) => {
                    self.rest = rest;
                    return Some(text(&value));
                }
                // "Recipients that process the value of a quoted-string MUST handle a quoted-pair as if it were
                // replaced by the octet following the backslash."
                (b'\\', [escaped, rest @ ..]) => {
                    value.push(*escaped);
                    bytes = rest;
                }
                (other, _) => value.push(*other),
            }
        }
        None
    }

    // RFC 9110 §11.2: token68 = 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="
    fn token68(&mut self) -> Option<String> {
        let start = self.rest;
        let body = self.take_while(is_token68).len();
        let padding = self.take_while(|c| c == b'=').len();
        self.take_while(is_space);
        let ended = matches!(self.rest.first(), Some(b',') | None);
        if body > 0 && ended {
            return start.get(..body + padding).map(text);
        }
        self.rest = start;
        None
    }

    /// Skips to the next comma outside quotes.
    fn skip_to_comma(&mut self) {
        while let Some((byte, rest)) = self.rest.split_first() {
            match byte {
                b',' => return,
                b'"' => drop(self.quoted()),
                _ => self.rest = rest,
            }
        }
    }

    fn take_while(&mut self, keep: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.rest.iter().position(|c| !keep(*c));
        let (taken, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        taken
    }
}

/// Converts to a string. Bytes that are not UTF-8 (obs-text) become replacement characters.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn is_space(c: u8) -> bool {
    matches!(c, b' ' | b'\t')
}

// RFC 9110 §5.6.2: tchar
fn is_tchar(c: u8) -> bool {
    c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c)
}

fn is_token68(c: u8) -> bool {
    c.is_ascii_alphanumeric() || b"-._~+/".contains(&c)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn read(line: &str) -> Vec<Challenge> {
        challenges([line.as_bytes()])
    }

    #[test]
    fn vectors_are_parsed_as_expected() {
        let vectors = include_str!("../../tests/vectors/www_authenticate.json");
        let vectors: Value = serde_json::from_str(vectors).unwrap();
        for case in vectors["cases"].as_array().unwrap() {
            let Some(expected) = case["challenges"].as_array() else {
                continue;
            };
            let lines = case["www_authenticate"].as_array().unwrap();
            let found = challenges(lines.iter().map(|l| l.as_str().unwrap().as_bytes()));
            assert_eq!(found.len(), expected.len(), "{}: {found:?}", case["name"]);
            for (found, expected) in found.iter().zip(expected) {
                assert_eq!(found.scheme, expected["scheme"], "{}", case["name"]);
                assert_eq!(found.token68.as_deref(), expected["token68"].as_str());
                let params: serde_json::Map<_, _> = found
                    .params
                    .iter()
                    .map(|(name, value)| (name.clone(), value.as_str().into()))
                    .collect();
                assert_eq!(
                    Value::Object(params),
                    expected["params"],
                    "{}",
                    case["name"]
                );
            }
        }
    }

    #[test]
    fn parsing_resumes_after_malformed_text() {
        for line in [
            "?? \"a, b\" ,Bearer error=x",
            "Foo bar\"baz, qux\", Bearer error=x",
            "=, Bearer error=x",
            "Negotiate abc== Bearer error=x",
            "Basic realm=\"a\" Bearer error=x",
            "\u{e9}, Bearer error=x",
            "?\"a\\\"\", Bearer error=x",
        ] {
            let found = read(line);
            let bearer = found.iter().find(|c| c.scheme == "bearer").unwrap();
            assert_eq!(bearer.param("error"), Some("x"), "{line}: {found:?}");
        }
    }

    #[test]
    fn unclosed_quote_only_affects_its_own_line() {
        let found = challenges([&b"Foo a=\"b, Bar c=d"[..], b"Bearer e=f"]);
        let schemes: Vec<_> = found.iter().map(|c| &c.scheme).collect();
        assert_eq!(schemes, ["foo", "bearer"]);
        assert!(found[0].params.is_empty());
        assert!(read("?\"\\").is_empty());
    }

    #[test]
    fn parameter_without_a_scheme_on_its_line_is_ignored() {
        let found = challenges([&b"Bearer"[..], b"error=invalid_token"]);
        assert_eq!(found.len(), 1);
        assert!(found[0].params.is_empty());
    }

    #[test]
    fn first_value_of_a_repeated_parameter_counts() {
        assert_eq!(read("A b=1, B=2")[0].params, [("b".into(), "1".into())]);
    }

    #[test]
    fn invalid_utf8_is_replaced() {
        let found = challenges([&b"Bearer realm=\"\xff\", error=\"x\""[..]]);
        assert_eq!(found[0].param("realm"), Some("\u{fffd}"));
        assert_eq!(found[0].param("error"), Some("x"));
    }

    #[test]
    fn limits_apply_to_bytes_challenges_and_parameters() {
        assert_eq!(read(&"A,".repeat(8_000)).len(), MAX_CHALLENGES);
        let many: String = (0..3_000).map(|i| format!("p{i}=1,")).collect();
        assert_eq!(read(&format!("A {many}"))[0].params.len(), MAX_PARAMS);
        let long = format!("A a=b,c={},e=f", "x".repeat(MAX_BYTES));
        assert_eq!(read(&long)[0].params, [("a".into(), "b".into())]);
        let lines = ["x".repeat(MAX_BYTES), "Bearer".into()];
        assert_eq!(challenges(lines.iter().map(String::as_bytes)).len(), 1);
    }

    #[test]
    fn parsing_takes_linear_time() {
        let started = Instant::now();
        for unit in ["a ", "a=", "\"", "\\\"", "a b c=,", ", ", "\"\\", "a\t="] {
            for _ in 0..100 {
                read(&unit.repeat(MAX_BYTES / unit.len()));
            }
        }
        // Quadratic time would take minutes.
        assert!(started.elapsed() < Duration::from_secs(20));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..4)) {
            challenges(lines.iter().map(Vec::as_slice));
        }

        #[test]
        fn well_formed_challenge_is_parsed_back(
            scheme in "[a-z]{1,8}",
            params in prop::collection::btree_map("[a-z_]{1,8}", "[ -~]{0,20}", 0..5),
            junk in "[,\t ]{0,4}",
        ) {
            let written: Vec<_> = params
                .iter()
                .map(|(n, v)| format!("{n}=\"{}\"", v.replace('\\', "\\\\").replace('"', "\\\"")))
                .collect();
            let line = format!("{junk}{scheme} {}{junk}", written.join(","));
            let found = read(&line);
            prop_assert_eq!(found.len(), 1);
            prop_assert_eq!(&found[0].scheme, &scheme);
            let read_back: Vec<_> = params.into_iter().collect();
            prop_assert_eq!(&found[0].params, &read_back);
        }
    }
}
