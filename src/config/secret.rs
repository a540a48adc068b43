//! Defines [`SecretFrom`], the location of a secret.

use std::{fmt, path::PathBuf};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};

use super::error::ConfigError;
use crate::{error::TokenError, secret::Secret};

/// The location of a secret: the configuration, an environment variable, or a file.
///
/// ```
/// use tower_bearer::config::SecretFrom;
///
/// #[derive(serde::Deserialize)]
/// struct Mine {
///     password: SecretFrom,
/// }
///
/// let mine: Mine = toml::from_str(r#"password = "hunter2""#)?;
/// assert_eq!(format!("{:?}", mine.password), "Literal(redacted)");
/// assert_eq!(mine.password.read()?.expose()?.as_str(), "hunter2");
///
/// let mine: Mine = toml::from_str(r#"password = { env = "NO_SUCH_VARIABLE" }"#)?;
/// assert!(mine.password.read().unwrap_err().to_string().contains("NO_SUCH_VARIABLE"));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub enum SecretFrom {
    /// The secret itself: `"hunter2"`.
    Literal(Secret),
    /// An environment variable, which is read once: `{ env = "ORDERS_SECRET" }`.
    Env(String),
    /// A file, which is read again for each use: `{ file = "/run/secrets/orders" }`. Line endings at its end are removed.
    File(PathBuf),
}

impl SecretFrom {
    /// Reads the secret.
    ///
    /// # Errors
    /// Returns an error that names the variable or the file if the secret can't be read.
    pub fn read(&self) -> Result<Secret, TokenError> {
        match self {
            Self::Literal(secret) => Ok(secret.clone()),
            Self::Env(name) => Secret::from_env(name),
            Self::File(path) => Secret::from_file(path),
        }
    }
}

/// Returns the value of a required key.
pub(super) fn given<'a>(
    secret: &'a Option<SecretFrom>,
    key: &'static str,
) -> Result<&'a SecretFrom, ConfigError> {
    let missing = || ConfigError::new(key, "it is missing: add it");
    secret.as_ref().ok_or_else(missing)
}

/// Reads the secret of a key.
pub(super) fn read(key: &str, secret: &SecretFrom) -> Result<Secret, ConfigError> {
    secret
        .read()
        .map_err(|error| ConfigError::token(key, error))
}

impl fmt::Debug for SecretFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(_) => f.write_str("Literal(redacted)"),
            Self::Env(name) => f.debug_tuple("Env").field(name).finish(),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

impl<'de> Deserialize<'de> for SecretFrom {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SecretVisitor)
    }
}

const EXPECTED: &str =
    r#"it must be text in quotes, { env = "NAME" } or { file = "path" }: write one of these"#;

/// Never quotes a value in an error, in any format.
struct SecretVisitor;

impl<'de> Visitor<'de> for SecretVisitor {
    type Value = SecretFrom;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#"text in quotes, { env = "NAME" } or { file = "path" }"#)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<SecretFrom, E> {
        if text.is_empty() {
            return Err(E::custom("it is empty: write the secret"));
        }
        Ok(SecretFrom::Literal(Secret::new(text)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<SecretFrom, A::Error> {
        let Some((key, name)) = entries.next_entry::<String, NonEmptyName>()? else {
            return Err(A::Error::custom(EXPECTED));
        };
        let found = match key.as_str() {
            "env" => SecretFrom::Env(name.0),
            "file" => SecretFrom::File(name.0.into()),
            _ => return Err(A::Error::custom(EXPECTED)),
        };
        match entries.next_key::<String>()? {
            None => Ok(found),
            Some(_) => Err(A::Error::custom(EXPECTED)),
        }
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<SecretFrom, E> {
        Err(E::custom(EXPECTED))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<SecretFrom, E> {
        Err(E::custom(EXPECTED))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<SecretFrom, E> {
        Err(E::custom(EXPECTED))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<SecretFrom, E> {
        Err(E::custom(EXPECTED))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<SecretFrom, A::Error> {
        Err(A::Error::custom(EXPECTED))
    }
}

/// The name of a variable or a file, which is not empty.
struct NonEmptyName(String);

impl<'de> Deserialize<'de> for NonEmptyName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer).map_err(|_| D::Error::custom(EXPECTED))?;
        if name.is_empty() {
            return Err(D::Error::custom(
                "the name is empty: write the name of the variable or the file",
            ));
        }
        Ok(Self(name))
    }
}
