//! Defines [`Secret`], which is redacted by its type and wiped when it is dropped.

use std::{
    env,
    error::Error,
    fmt, fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use zeroize::{Zeroize, Zeroizing};

use crate::error::TokenError;

/// A secret that is never displayed.
///
/// `Debug` and `Display` print a placeholder, and the memory is wiped when the last clone is dropped.
/// A secret from a file or a function is read again for every use, so that it can be rotated while the program runs.
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
pub struct Secret(Repr);

#[derive(Clone)]
enum Repr {
    Memory(Arc<Zeroizing<String>>),
    File(Arc<Path>),
    Function(Arc<Read>),
}

type Read = dyn Fn() -> Result<Exposed, TokenError> + Send + Sync;

impl Secret {
    /// Creates a secret from its text.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(Repr::Memory(Arc::new(Zeroizing::new(secret.into()))))
    }

    /// Reads a secret from an environment variable, once.
    ///
    /// # Errors
    /// Returns an error if the variable is not set, is empty, or is not valid UTF-8.
    ///
    /// ```
    /// use tower_bearer::Secret;
    ///
    /// let error = Secret::from_env("NO_SUCH_VARIABLE").unwrap_err();
    /// assert!(error.to_string().contains("NO_SUCH_VARIABLE"));
    /// ```
    pub fn from_env(name: &str) -> Result<Self, TokenError> {
        let fault = match env::var(name) {
            Ok(value) if !value.is_empty() => return Ok(Self::new(value)),
            Ok(_) => "empty: set it to the secret",
            Err(env::VarError::NotPresent) => "not set: set it to the secret",
            Err(env::VarError::NotUnicode(_)) => "not valid UTF-8: set it to the secret as text",
        };
        let message = format!("the environment variable {name} is {fault}");
        Err(TokenError::configuration(message))
    }

    /// Creates a secret that is the content of a file without line endings at its end. It is read again for every use.
    ///
    /// # Errors
    /// Returns an error if the file can't be read now, is empty, or is not valid UTF-8.
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
        let secret = Self(Repr::File(path.into().into()));
        secret.expose()?;
        Ok(secret)
    }

    /// Creates a secret that a function returns for every use, such as a call to a vault or an agent.
    ///
    /// The function is called while tokens are fetched, so it should not block for long. An error that is not a [`TokenError`]
    /// is reported as a configuration error, and must not contain a secret.
    ///
    /// ```
    /// use tower_bearer::Secret;
    ///
    /// let secret = Secret::from_fn(|| std::fs::read_to_string("/proc/self/comm"));
    /// assert!(!secret.expose()?.as_str().is_empty());
    ///
    /// let missing = Secret::from_fn(|| std::env::var("NO_SUCH_VARIABLE"));
    /// assert!(missing.expose().is_err());
    /// # Ok::<_, tower_bearer::TokenError>(())
    /// ```
    pub fn from_fn<F, E>(read: F) -> Self
    where
        F: Fn() -> Result<String, E> + Send + Sync + 'static,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        Self(Repr::Function(Arc::new(move || match read() {
            Ok(text) if text.is_empty() => Err(TokenError::configuration(
                "the function of Secret::from_fn returned an empty secret",
            )),
            Ok(text) => Ok(Exposed::new(Zeroizing::new(text))),
            Err(error) => Err(error.into().downcast().map_or_else(
                |error| {
                    TokenError::configuration("the function of Secret::from_fn failed")
                        .with_source(error)
                },
                |error| *error,
            )),
        })))
    }

    /// Returns the secret in plain text. It is wiped when it is dropped, so drop it early.
    ///
    /// # Errors
    /// Returns an error if the file of the secret can't be read, or its function fails.
    pub fn expose(&self) -> Result<Exposed, TokenError> {
        match &self.0 {
            Repr::Memory(text) => Ok(Exposed(text.clone())),
            Repr::File(path) => read(path).map(Exposed::new),
            Repr::Function(read) => read(),
        }
    }
}

fn read(path: &Path) -> Result<Zeroizing<String>, TokenError> {
    let shown = path.display();
    let mut text = Zeroizing::new(fs::read_to_string(path).map_err(|error| {
        TokenError::configuration(format!("failed to read the secret file {shown}"))
            .with_source(error)
    })?);
    let length = text.trim_end_matches(['\r', '\n']).len();
    text.truncate(length);
    if text.is_empty() {
        let message = format!("the secret file {shown} is empty: write the secret to it");
        return Err(TokenError::configuration(message));
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

/// A secret in plain text, returned by [`Secret::expose`]. Only [`as_str`](Self::as_str) reveals it.
#[derive(Clone)]
pub struct Exposed(Arc<Zeroizing<String>>);

impl Exposed {
    pub(crate) fn new(text: Zeroizing<String>) -> Self {
        Self(Arc::new(text))
    }

    /// Returns the secret.
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

/// Converts to `Bytes` whose memory is wiped when the last of their clones and slices is dropped.
pub(crate) fn wiped<B>(bytes: Zeroizing<B>) -> Bytes
where
    B: Zeroize + AsRef<[u8]> + Send + 'static,
{
    Bytes::from_owner(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn function_is_called_for_each_use() {
        use std::sync::atomic::{AtomicU32, Ordering};
        let uses = AtomicU32::new(0);
        let secret = Secret::from_fn(move || {
            Ok::<_, TokenError>(format!("hunter{}", uses.fetch_add(1, Ordering::Relaxed)))
        });
        assert_eq!(secret.expose().unwrap().as_str(), "hunter0");
        assert_eq!(secret.expose().unwrap().as_str(), "hunter1");
        let shown = format!("{secret:?} {secret} {:?}", secret.expose());
        assert_eq!(shown, "Secret(redacted) redacted Ok(Exposed(redacted))");
    }

    #[test]
    fn error_of_a_function_keeps_its_kind() {
        let own = Secret::from_fn(|| {
            Err::<String, _>(TokenError::new(ErrorKind::Network, "the vault is sealed"))
        });
        assert_eq!(own.expose().unwrap_err().kind(), ErrorKind::Network);
        let other = Secret::from_fn(|| Err::<String, _>("the vault is sealed"));
        let error = other.expose().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(format!("{error:?}").contains("the vault is sealed"));
        let empty = Secret::from_fn(|| Ok::<_, TokenError>(String::new()));
        assert!(empty.expose().unwrap_err().to_string().contains("empty"));
    }
}
