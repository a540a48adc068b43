//! Defines [`ClientAuthName`], the names of the client authentications, and the keys that each requires.

use serde::Deserialize;

/// How the client authenticates, by its name in a configuration. See [`ClientAuth`](crate::credentials::ClientAuth).
///
/// ```
/// use tower_bearer::config::ClientAuthName;
///
/// assert_eq!(ClientAuthName::PrivateKeyJwt.as_str(), "private_key_jwt");
/// assert_eq!(ClientAuthName::PrivateKeyJwt.needs(), ["private_key"]);
/// assert_eq!(ClientAuthName::default(), ClientAuthName::Basic);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(
    rename_all = "snake_case",
    expecting = "the name of a client authentication"
)]
#[non_exhaustive]
pub enum ClientAuthName {
    /// `basic`: id and secret in a header.
    #[default]
    Basic,
    /// `post`: id and secret in the form.
    Post,
    /// `secret_jwt`: a JWT signed with the secret.
    SecretJwt,
    /// `private_key_jwt`: a JWT signed with a private key.
    PrivateKeyJwt,
    /// `assertion`: a JWT that was signed elsewhere.
    Assertion,
    /// `mtls`: a client certificate.
    Mtls,
    /// `none`: only the id.
    None,
}

impl ClientAuthName {
    /// Returns the name in a configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Basic => "basic",
            Self::Post => "post",
            Self::SecretJwt => "secret_jwt",
            Self::PrivateKeyJwt => "private_key_jwt",
            Self::Assertion => "assertion",
            Self::Mtls => "mtls",
            Self::None => "none",
        }
    }

    /// Returns the keys that it requires.
    #[must_use]
    pub const fn needs(self) -> &'static [&'static str] {
        match self {
            Self::Basic | Self::Post | Self::SecretJwt => &["client_secret"],
            Self::PrivateKeyJwt => &["private_key"],
            Self::Assertion => &["assertion"],
            Self::Mtls => &["certificate", "private_key"],
            Self::None => &[],
        }
    }
}
