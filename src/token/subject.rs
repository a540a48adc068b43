//! Defines [`Subject`], the user on whose behalf a token is requested, and [`TokenType`].

use std::{borrow::Cow, fmt, sync::Arc};

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// The token of a user, for sources that request another token on behalf of this user. Set it with
/// [`TokenSpec::with_subject`](crate::TokenSpec::with_subject).
///
/// Subjects are compared by the SHA-256 digest and the type of the token. The text is wiped when the last clone is dropped.
///
/// ```
/// use tower_bearer::token::{Subject, TokenType};
///
/// let subject = Subject::new("eyJhbGciOi").with_type(TokenType::JWT);
/// assert_eq!(format!("{subject:?}"), "Subject(redacted)");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Subject {
    // Compared first, so the time of a comparison tells nothing about the token.
    digest: [u8; 32],
    kind: TokenType,
    token: Arc<Zeroizing<String>>,
}

/// The type of a token, a URI (RFC 8693, section 3).
///
/// ```
/// use tower_bearer::token::TokenType;
///
/// assert_eq!(TokenType::JWT.as_str(), "urn:ietf:params:oauth:token-type:jwt");
/// assert_eq!(TokenType::new("urn:example:badge").as_str(), "urn:example:badge");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TokenType(Cow<'static, str>);

impl Subject {
    /// Creates a subject from the user's access token.
    pub fn new(token: impl Into<String>) -> Self {
        let token = Zeroizing::new(token.into());
        Self {
            digest: Sha256::digest(token.as_bytes()).into(),
            token: Arc::new(token),
            kind: TokenType::ACCESS_TOKEN,
        }
    }

    /// Sets the type of the token, which is sent in a token exchange. Default: [`TokenType::ACCESS_TOKEN`].
    #[must_use]
    pub fn with_type(mut self, kind: TokenType) -> Self {
        self.kind = kind;
        self
    }

    /// Returns the token's text, unredacted.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.token
    }

    /// Returns the type of the token.
    #[must_use]
    pub fn token_type(&self) -> &TokenType {
        &self.kind
    }

    /// Returns the bytes that identify the subject in the key of a spec: the digest, which has a fixed length, and the type.
    pub(crate) fn record(&self) -> Vec<u8> {
        [&self.digest[..], self.kind.as_str().as_bytes()].concat()
    }

    /// Returns what is wrong with the token, if anything is.
    pub(crate) fn fault(&self) -> Option<String> {
        // The user's token was received in a header, which allows no control characters.
        let is_invalid = self.token.chars().any(char::is_control);
        (is_invalid || self.token.is_empty()).then(|| {
            "the subject's token is empty or contains control characters: pass the user's token without `Bearer`"
                .to_owned()
        })
    }

    /// Returns the size of the token's text in bytes.
    pub(crate) fn weight(&self) -> usize {
        self.token.capacity()
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Subject(redacted)")
    }
}

impl TokenType {
    /// An OAuth access token of any format.
    pub const ACCESS_TOKEN: Self = Self::of("urn:ietf:params:oauth:token-type:access_token");
    /// An OAuth refresh token.
    pub const REFRESH_TOKEN: Self = Self::of("urn:ietf:params:oauth:token-type:refresh_token");
    /// An OpenID Connect ID token.
    pub const ID_TOKEN: Self = Self::of("urn:ietf:params:oauth:token-type:id_token");
    /// A JSON Web Token for any purpose.
    pub const JWT: Self = Self::of("urn:ietf:params:oauth:token-type:jwt");
    /// A SAML 1.1 assertion, in base64url.
    pub const SAML1: Self = Self::of("urn:ietf:params:oauth:token-type:saml1");
    /// A SAML 2.0 assertion, in base64url.
    pub const SAML2: Self = Self::of("urn:ietf:params:oauth:token-type:saml2");

    /// Creates a token type from its URI.
    pub fn new(uri: impl Into<String>) -> Self {
        Self(Cow::Owned(uri.into()))
    }

    /// Returns the URI.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    const fn of(uri: &'static str) -> Self {
        Self(Cow::Borrowed(uri))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_text_of_another_type_is_another_subject() {
        let (one, same) = (Subject::new("a"), Subject::new("a"));
        let other = Subject::new("a").with_type(TokenType::ID_TOKEN);
        assert_eq!(one, same);
        assert_ne!(one, other);
        assert_ne!(one.record(), other.record());
        assert_ne!(one, Subject::new("b"));
    }

    #[test]
    fn record_does_not_contain_the_token() {
        let record = Subject::new("hunter2").record();
        assert!(!record.windows(7).any(|part| part == b"hunter2"));
    }
}
