//! Defines [`ConfigError`], which names the key, the fault and the remedy, and never the value.

use std::fmt;

use serde::de::{self, Unexpected};

use crate::error::TokenError;

/// An error in a configuration.
///
/// The message names the key as in the file, the fault, and the remedy. It never contains the value of a key, which may be a
/// secret, or a secret in the wrong place.
///
/// Programs report errors in their own sections with it too:
///
/// ```
/// use tower_bearer::config::ConfigError;
///
/// let error = ConfigError::new("proxy.listen", "it is not an address: write it as 127.0.0.1:8080");
/// assert_eq!(error.to_string(), "proxy.listen: it is not an address: write it as 127.0.0.1:8080");
/// assert_eq!(error.key(), "proxy.listen");
/// ```
#[derive(Clone)]
pub struct ConfigError(Box<Repr>);

#[derive(Clone)]
struct Repr {
    /// The key, such as `route[1].url`.
    path: String,
    fault: Fault,
}

#[derive(Clone)]
enum Fault {
    Message(String),
    UnknownKey {
        key: String,
        known: Vec<&'static str>,
    },
    Token(TokenError),
}

impl ConfigError {
    /// Creates an error for this key. The message says what is wrong and what to do, and must not contain a secret.
    pub fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self::of(Fault::Message(message.into())).within(key)
    }

    /// Prepends the key of the section that contains the faulty key.
    ///
    /// ```
    /// # use tower_bearer::config::ConfigError;
    /// let error = ConfigError::new("url", "it is missing").within("upstream").within("proxy");
    /// assert_eq!(error.key(), "proxy.upstream.url");
    /// ```
    #[must_use]
    pub fn within(mut self, key: impl Into<String>) -> Self {
        let mut path = key.into();
        if !self.0.path.is_empty() && !self.0.path.starts_with('[') {
            path.push('.');
        }
        self.0.path.insert_str(0, &path);
        self
    }

    /// Prepends the index of the list entry that contains the faulty key, counted from zero.
    ///
    /// ```
    /// # use tower_bearer::config::ConfigError;
    /// let error = ConfigError::new("url", "it is missing").within_entry(1).within("route");
    /// assert_eq!(error.key(), "route[1].url");
    /// ```
    #[must_use]
    pub fn within_entry(self, index: usize) -> Self {
        self.within(format!("[{index}]"))
    }

    /// Returns the key, such as `route[1].url`. It is empty if the configuration as a whole is wrong.
    #[must_use]
    pub fn key(&self) -> String {
        self.0.path.clone()
    }

    /// Returns a function that adds this key to an error of the library.
    pub(super) fn at(key: &str) -> impl Fn(TokenError) -> Self {
        move |error| Self::of(Fault::Token(error)).within(key)
    }

    /// Adds keys that are known where an unknown key was found.
    pub(super) fn also_known(mut self, more: &[&'static str]) -> Self {
        if let (Fault::UnknownKey { known, .. }, "") = (&mut self.0.fault, &*self.0.path) {
            known.splice(0..0, more.iter().copied());
        }
        self
    }

    fn of(fault: Fault) -> Self {
        Self(Box::new(Repr {
            path: String::new(),
            fault,
        }))
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.path.is_empty() {
            write!(f, "{}: ", self.0.path)?;
        }
        match &self.0.fault {
            Fault::Message(message) => f.write_str(message),
            Fault::Token(error) => error.fmt(f),
            Fault::UnknownKey { key, known } if known.is_empty() => {
                write!(f, "unknown key `{key}`: leave it out")
            }
            Fault::UnknownKey { key, known } => {
                let known = listed(known);
                write!(
                    f,
                    "unknown key `{key}`, expected {known}: correct it or leave it out"
                )
            }
        }
    }
}

impl fmt::Debug for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConfigError({:?})", self.to_string())
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0.fault {
            Fault::Token(error) => error.source(),
            Fault::Message(_) | Fault::UnknownKey { .. } => None,
        }
    }
}

impl From<ConfigError> for TokenError {
    fn from(error: ConfigError) -> Self {
        Self::configuration(error.to_string())
    }
}

/// Errors of serde. Only the type of a value is named.
impl de::Error for ConfigError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::of(Fault::Message(message.to_string()))
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let found = match found {
            Unexpected::Bool(_) => "true or false",
            Unexpected::Unsigned(_) | Unexpected::Signed(_) | Unexpected::Float(_) => "a number",
            Unexpected::Char(_) | Unexpected::Str(_) => "text",
            Unexpected::Option | Unexpected::Unit => "nothing",
            Unexpected::Seq => "a list",
            Unexpected::Map => "a table",
            _ => "something else",
        };
        Self::custom(format_args!("it is {found}: write {expected} instead"))
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::custom(format_args!(
            "its value is not valid here: write {expected} instead"
        ))
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        let expected = listed(expected);
        Self::custom(format_args!("it is not a known name: write {expected}"))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::of(Fault::UnknownKey {
            key: field.to_owned(),
            known: expected.to_vec(),
        })
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(field, "it is missing: add it")
    }
}

fn listed(names: &[&str]) -> String {
    let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    match names.split_last() {
        Some((last, first)) if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        _ => names.concat(),
    }
}
