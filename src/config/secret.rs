//! Defines [`SecretFrom`], the location of a secret.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer, de::Error};

use super::{error::ConfigError, node::Node};
use crate::{
    error::TokenError,
    secret::{Exposed, Secret},
};

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
/// assert_eq!(format!("{:?}", mine.password), "Literal(Secret(redacted))");
/// assert_eq!(mine.password.read()?.expose()?.as_str(), "hunter2");
///
/// let mine: Mine = toml::from_str(r#"password = { env = "NO_SUCH_VARIABLE" }"#)?;
/// assert!(mine.password.read().unwrap_err().to_string().contains("NO_SUCH_VARIABLE"));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
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
    /// Returns an error if the secret can't be read. It names the variable or the file.
    pub fn read(&self) -> Result<Secret, TokenError> {
        match self {
            Self::Literal(secret) => Ok(secret.clone()),
            Self::Env(name) => Secret::from_env(name),
            Self::File(path) => Secret::from_file(path),
        }
    }

    /// Reads the secret in plain text.
    pub(super) fn expose(&self) -> Result<Exposed, TokenError> {
        self.read()?.expose()
    }
}

/// Reads the secret of a required key. Without one, returns an error with the message `missing`.
pub(super) fn read_required(
    key: &str,
    secret: &Option<SecretFrom>,
    missing: &str,
) -> Result<Secret, ConfigError> {
    let secret = secret
        .as_ref()
        .ok_or_else(|| ConfigError::new(key, missing))?;
    secret.read().map_err(ConfigError::at(key))
}

impl<'de> Deserialize<'de> for SecretFrom {
    /// Reads a `Node` first, so that no error quotes a value, in any format.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const EXPECTED: &str = r#"it must be text in quotes, { env = "NAME" } or { file = "path" }: write one of these"#;
        const NO_NAME: &str = "the name is empty: write the name of the variable or the file";
        let node = Node::deserialize(deserializer)?;
        match &node {
            Node::Text(text) if text.is_empty() => {
                Err(D::Error::custom("it is empty: write the secret"))
            }
            Node::Text(text) => Ok(Self::Literal(Secret::new(text.as_str()))),
            Node::Table(table) => match table.as_slice() {
                [(key, Node::Text(name))] if name.is_empty() && (key == "env" || key == "file") => {
                    Err(D::Error::custom(NO_NAME))
                }
                [(key, Node::Text(name))] if key == "env" => Ok(Self::Env(name.to_string())),
                [(key, Node::Text(path))] if key == "file" => Ok(Self::File(path.as_str().into())),
                _ => Err(D::Error::custom(EXPECTED)),
            },
            _ => Err(D::Error::custom(EXPECTED)),
        }
    }
}
