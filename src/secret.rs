//! A value that must not be seen: redacted by construction, wiped when it is dropped.

use std::{
    env, fmt, fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use serde_json::Value;
use zeroize::{Zeroize, Zeroizing};

use crate::error::TokenError;

/// A secret that can be used and not shown.
///
/// `Debug` and `Display` print a placeholder, and the memory is wiped when the last clone is dropped.
/// A secret from a file is read anew for every use, so that it may rotate while the program runs.
///
/// ```
/// use tower_bearer::Secret;
///
/// let secret = Secret::new("correct horse");
/// assert_eq!(format!("{secret:?} {secret}"), "Secret(redacted) redacted");
/// assert_eq!(secret.expose()?.as_str(), "correct horse");
/// # Ok::<_, tower_bearer::TokenError>(())
/// ```
#[derive(Clone)]
pub struct Secret(Place);

#[derive(Clone)]
enum Place {
    Memory(Arc<Zeroizing<String>>),
    File(Arc<Path>),
}

impl Secret {
    /// The secret itself.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(Place::Memory(Arc::new(Zeroizing::new(secret.into()))))
    }

    /// The value of an environment variable, read now.
    ///
    /// # Errors
    /// The variable is not set, is empty, or is not UTF-8.
    ///
    /// ```
    /// use tower_bearer::Secret;
    ///
    /// let error = Secret::from_env("NO_SUCH_VARIABLE").unwrap_err();
    /// assert!(error.to_string().contains("NO_SUCH_VARIABLE"));
    /// ```
    pub fn from_env(name: &str) -> Result<Self, TokenError> {
        match env::var(name) {
            Ok(value) if !value.is_empty() => Ok(Self::new(value)),
            Ok(_) => Err(TokenError::configuration(format!(
                "the environment variable {name} is empty: put the secret in it"
            ))),
            Err(env::VarError::NotPresent) => Err(TokenError::configuration(format!(
                "the environment variable {name} is not set: put the secret in it"
            ))),
            Err(env::VarError::NotUnicode(_)) => Err(TokenError::configuration(format!(
                "the environment variable {name} is not UTF-8"
            ))),
        }
    }

    /// The content of a file without its line end, read anew for every use.
    ///
    /// # Errors
    /// The file can't be read now, or holds no UTF-8.
    ///
    /// ```
    /// use tower_bearer::Secret;
    ///
    /// let path = std::env::temp_dir().join(format!("tower-bearer-doc-{}", std::process::id()));
    /// std::fs::write(&path, "first\n")?;
    /// let secret = Secret::from_file(&path)?;
    /// std::fs::write(&path, "second\n")?;
    /// assert_eq!(secret.expose()?.as_str(), "second");
    /// # std::fs::remove_file(&path)?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn from_file(path: impl Into<PathBuf>) -> Result<Self, TokenError> {
        let secret = Self(Place::File(path.into().into()));
        secret.expose()?;
        Ok(secret)
    }

    /// The secret in the clear. Keep it as short as you can: the copy is wiped when it is dropped.
    ///
    /// # Errors
    /// The file that holds it can't be read.
    pub fn expose(&self) -> Result<Exposed, TokenError> {
        match &self.0 {
            Place::Memory(text) => Ok(Exposed(text.clone())),
            Place::File(path) => read(path).map(|text| Exposed(Arc::new(text))),
        }
    }
}

fn read(path: &Path) -> Result<Zeroizing<String>, TokenError> {
    let mut text = fs::read_to_string(path)
        .map(Zeroizing::new)
        .map_err(|error| {
            TokenError::configuration(format!("can't read the secret file {}", path.display()))
                .with_source(error)
        })?;
    let kept = text.trim_end_matches(['\r', '\n']).len();
    text.truncate(kept);
    if text.is_empty() {
        return Err(TokenError::configuration(format!(
            "the secret file {} is empty",
            path.display()
        )));
    }
    Ok(text)
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("redacted")
    }
}

impl From<String> for Secret {
    fn from(secret: String) -> Self {
        Self::new(secret)
    }
}

impl From<&str> for Secret {
    fn from(secret: &str) -> Self {
        Self::new(secret)
    }
}

/// A secret in the clear, for as long as this lives.
///
/// Made by [`Secret::expose`]; only [`as_str`](Self::as_str) shows it.
#[derive(Clone)]
pub struct Exposed(Arc<Zeroizing<String>>);

impl Exposed {
    /// The secret itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Exposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exposed(redacted)")
    }
}

/// Wipes every text in it.
pub(crate) fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(values) => values.iter_mut().for_each(wipe),
        Value::Object(members) => members.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Bytes whose memory is wiped when the last of their clones and slices is dropped.
pub(crate) fn wiped<B>(bytes: Zeroizing<B>) -> Bytes
where
    B: Zeroize + AsRef<[u8]> + Send + 'static,
{
    Bytes::from_owner(Wiped(bytes))
}

struct Wiped<B: Zeroize>(Zeroizing<B>);

impl<B: Zeroize + AsRef<[u8]>> AsRef<[u8]> for Wiped<B> {
    fn as_ref(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}
