//! What an API demands in `WWW-Authenticate` (RFC 9110 §11.6.1), read leniently.
//!
//! The header is a list of challenges, and each challenge has a list of parameters, both divided by commas; so a
//! comma alone doesn't tell where a challenge ends. What does is the word after it: a word with `=` behind it is one
//! more parameter, any other is the next scheme. Right behind a scheme, a word may also be a token68
//! (`Negotiate abc==`), which is recognised by the comma or the end after it.
//!
//! What fits nowhere is skipped up to the next comma outside quotes, and reading goes on there. Each byte is looked at
//! a fixed number of times at most, and only so many bytes, challenges and parameters are looked at.

/// Bytes of all lines together.
const MAX_BYTES: usize = 16 << 10;
const MAX_CHALLENGES: usize = 32;
/// Of one challenge.
const MAX_PARAMS: usize = 32;

/// One demand: a scheme, and what it says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// In lower case.
    pub(crate) scheme: String,
    pub(crate) token68: Option<String>,
    /// Names in lower case, each once: the first of a name counts.
    pub(crate) params: Vec<(String, String)>,
}

impl Challenge {
    /// The value of this parameter; its name is given in lower case.
    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        let (_, value) = self.params.iter().find(|(found, _)| found == name)?;
        Some(value)
    }
}

/// The challenges of all header lines, in order.
pub(crate) fn challenges<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Vec<Challenge> {
    let mut found = Vec::new();
    let mut room = MAX_BYTES;
    for line in lines {
        let Some(cut) = line.get(..room).filter(|cut| cut.len() < line.len()) else {
            room = room.saturating_sub(line.len());
            Scanner::new(line).read(&mut found);
            continue;
        };
        // Only members that are there in full count.
        let whole = cut.iter().rposition(|c| *c == b',').unwrap_or(0);
        Scanner::new(cut.get(..whole).unwrap_or_default()).read(&mut found);
        break;
    }
    found
}

struct Scanner<'a> {
    rest: &'a [u8],
}

impl<'a> Scanner<'a> {
    fn new(line: &'a [u8]) -> Self {
        Self { rest: line }
    }

    fn read(&mut self, found: &mut Vec<Challenge>) {
        // Parameters belong to a scheme of the same line.
        let mut open = false;
        loop {
            // RFC 9110 §5.6.1.2: "A recipient MUST parse and ignore a reasonable number of empty list elements".
            self.take_while(|c| is_space(c) || c == b',');
            if self.rest.is_empty() {
                return;
            }
            let word = self.take_while(is_tchar);
            if word.is_empty() {
                self.skip_to_comma();
                continue;
            }
            let spaces = self.take_while(is_space);
            match self.rest.first() {
                Some(b'=') => {
                    self.rest = self.rest.get(1..).unwrap_or_default();
                    self.take_while(is_space);
                    let value = self.value();
                    let challenge = found.last_mut().filter(|_| open);
                    if let (Some(challenge), Some(value)) = (challenge, value) {
                        challenge.add(word, value);
                    }
                }
                Some(b',') | None => {
                    found.push(Challenge::new(word, None));
                    open = true;
                }
                Some(_) if !spaces.is_empty() => {
                    found.push(Challenge::new(word, self.token68()));
                    open = true;
                }
                Some(_) => self.skip_to_comma(),
            }
            if found.len() > MAX_CHALLENGES {
                found.truncate(MAX_CHALLENGES);
                return;
            }
        }
    }

    /// The value of a parameter: a quoted string, or all up to a comma or blank. `None` if its quotes don't close.
    fn value(&mut self) -> Option<String> {
        if self.rest.first() != Some(&b'"') {
            // More than RFC 9110's token: addresses are sent without quotes in the wild.
            return Some(text(self.take_while(|c| c != b',' && !is_space(c))));
        }
        self.quoted()
    }

    // RFC 9110 §5.6.4: quoted-string = DQUOTE *( qdtext / quoted-pair ) DQUOTE
    fn quoted(&mut self) -> Option<String> {
        let mut value = Vec::new();
        // An open end takes the rest of the line with it.
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

    /// Goes to the next comma outside quotes.
    fn skip_to_comma(&mut self) {
        while let Some(&byte) = self.rest.first() {
            match byte {
                b',' => return,
                b'"' => {
                    self.quoted();
                }
                _ => self.rest = self.rest.get(1..).unwrap_or_default(),
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

impl Challenge {
    fn new(scheme: &[u8], token68: Option<String>) -> Self {
        Self {
            scheme: text(scheme).to_ascii_lowercase(),
            token68,
            params: Vec::new(),
        }
    }

    fn add(&mut self, name: &[u8], value: String) {
        let name = text(name).to_ascii_lowercase();
        if self.params.len() < MAX_PARAMS && self.param(&name).is_none() {
            self.params.push((name, value));
        }
    }
}

/// Bytes that are no UTF-8 (obs-text) become replacement characters.
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
    fn every_vector_is_read_as_it_says() {
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
    fn reading_goes_on_after_junk() {
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
    fn an_unclosed_quote_ends_its_line_alone() {
        let found = challenges([&b"Foo a=\"b, Bar c=d"[..], b"Bearer e=f"]);
        let schemes: Vec<_> = found.iter().map(|c| &c.scheme).collect();
        assert_eq!(schemes, ["foo", "bearer"]);
        assert!(found[0].params.is_empty());
        assert!(read("?\"\\").is_empty());
    }

    #[test]
    fn a_parameter_without_a_scheme_of_its_line_is_nobodys() {
        let found = challenges([&b"Bearer"[..], b"error=invalid_token"]);
        assert_eq!(found.len(), 1);
        assert!(found[0].params.is_empty());
    }

    #[test]
    fn the_first_of_a_name_counts() {
        assert_eq!(read("A b=1, B=2")[0].params, [("b".into(), "1".into())]);
    }

    #[test]
    fn bytes_that_are_no_utf8_are_replaced() {
        let found = challenges([&b"Bearer realm=\"\xff\", error=\"x\""[..]]);
        assert_eq!(found[0].param("realm"), Some("\u{fffd}"));
        assert_eq!(found[0].param("error"), Some("x"));
    }

    #[test]
    fn only_so_much_is_looked_at() {
        assert_eq!(read(&"A,".repeat(8_000)).len(), MAX_CHALLENGES);
        let many: String = (0..3_000).map(|i| format!("p{i}=1,")).collect();
        assert_eq!(read(&format!("A {many}"))[0].params.len(), MAX_PARAMS);
        let long = format!("A a=b,c={},e=f", "x".repeat(MAX_BYTES));
        assert_eq!(read(&long)[0].params, [("a".into(), "b".into())]);
        let lines = ["x".repeat(MAX_BYTES), "Bearer".into()];
        assert_eq!(challenges(lines.iter().map(String::as_bytes)).len(), 1);
    }

    #[test]
    fn time_grows_no_faster_than_the_header() {
        let started = Instant::now();
        for unit in ["a ", "a=", "\"", "\\\"", "a b c=,", ", ", "\"\\", "a\t="] {
            for _ in 0..100 {
                read(&unit.repeat(MAX_BYTES / unit.len()));
            }
        }
        // Were it quadratic, it would be minutes.
        assert!(started.elapsed() < Duration::from_secs(20));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..4)) {
            challenges(lines.iter().map(Vec::as_slice));
        }

        #[test]
        fn a_challenge_that_is_written_well_is_read_back(
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
