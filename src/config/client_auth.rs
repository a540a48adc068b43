//! [`ClientAuthName`]: the names of the client authentications, and which keys each needs.

use serde::Deserialize;

/// How a client proves itself, by the name that a configuration has for it.
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
    /// Id and secret in a header.
    #[default]
    Basic,
    /// Id and secret in the form.
    Post,
    /// A JWT signed with the secret.
    SecretJwt,
    /// A JWT signed with a private key.
    PrivateKeyJwt,
    /// A JWT from elsewhere.
    Assertion,
    /// A client certificate.
    Mtls,
    /// The id alone.
    None,
}

impl ClientAuthName {
    /// The name in a configuration.
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

    /// The keys that it can't do without.
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

    /// The keys that it can use beside those.
    pub(super) const fn takes(self) -> &'static [&'static str] {
        match self {
            Self::PrivateKeyJwt => &["algorithm", "key_id"],
            _ => &[],
        }
    }
}
