//! On whose behalf a token is: the token that somebody came with, and of which kind it is.

use std::{borrow::Cow, fmt, sync::Arc};

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// The token that a user came with, for sources that get a token on their behalf: put it on a
/// [`TokenSpec`](crate::TokenSpec::with_subject).
///
/// It is compared by its digest (SHA-256) and kind, and its text is wiped when the last clone is dropped.
///
/// ```
/// use tower_bearer::token::{Subject, TokenType};
///
/// let subject = Subject::new("eyJhbGciOi").with_type(TokenType::JWT);
/// assert_eq!(format!("{subject:?}"), "Subject(redacted)");
/// ```
#[derive(Clone)]
pub struct Subject {
    token: Arc<Zeroizing<String>>,
    digest: [u8; 32],
    kind: TokenType,
}

/// The kind of a token, as token exchange names it (RFC 8693 §3).
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
    /// This access token.
    pub fn new(token: impl Into<String>) -> Self {
        let token = Zeroizing::new(token.into());
        Self {
            digest: Sha256::digest(token.as_bytes()).into(),
            token: Arc::new(token),
            kind: TokenType::ACCESS_TOKEN,
        }
    }

    /// The same text as a token of another kind, which a token exchange names.
    #[must_use]
    pub fn with_type(mut self, kind: TokenType) -> Self {
        self.kind = kind;
        self
    }

    /// The token itself, in the clear.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.token
    }

    /// Of which kind it is.
    #[must_use]
    pub fn token_type(&self) -> &TokenType {
        &self.kind
    }

    /// What stands for it in a key: the digest, which has always the same length, and the kind.
    pub(crate) fn record(&self) -> Vec<u8> {
        [&self.digest[..], self.kind.as_str().as_bytes()].concat()
    }

    pub(crate) fn fault(&self) -> Option<String> {
        // A form can hold any text; a token that a header can't was never received in one.
        let odd = self.token.chars().any(char::is_control);
        (odd || self.token.is_empty()).then(|| {
            "the subject's token is empty or has control characters in it: give the user's token without its scheme"
                .to_owned()
        })
    }

    /// Bytes of memory beyond its own.
    pub(crate) fn weight(&self) -> usize {
        self.token.capacity()
    }
}

impl PartialEq for Subject {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest && self.kind == other.kind
    }
}

impl Eq for Subject {}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Subject(redacted)")
    }
}

impl TokenType {
    /// An OAuth access token, of whatever form.
    pub const ACCESS_TOKEN: Self = Self::of("urn:ietf:params:oauth:token-type:access_token");
    /// An OAuth refresh token.
    pub const REFRESH_TOKEN: Self = Self::of("urn:ietf:params:oauth:token-type:refresh_token");
    /// An ID token of OpenID Connect.
    pub const ID_TOKEN: Self = Self::of("urn:ietf:params:oauth:token-type:id_token");
    /// A JSON web token, for whatever purpose.
    pub const JWT: Self = Self::of("urn:ietf:params:oauth:token-type:jwt");
    /// A SAML 1.1 assertion, in base64url.
    pub const SAML1: Self = Self::of("urn:ietf:params:oauth:token-type:saml1");
    /// A SAML 2.0 assertion, in base64url.
    pub const SAML2: Self = Self::of("urn:ietf:params:oauth:token-type:saml2");

    /// A kind that has another URI.
    pub fn new(uri: impl Into<String>) -> Self {
        Self(Cow::Owned(uri.into()))
    }

    /// Its URI.
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
    fn the_same_text_of_another_kind_is_another_subject() {
        let (one, same) = (Subject::new("a"), Subject::new("a"));
        let other = Subject::new("a").with_type(TokenType::ID_TOKEN);
        assert_eq!(one, same);
        assert_ne!(one, other);
        assert_ne!(one.record(), other.record());
        assert_ne!(one, Subject::new("b"));
    }

    #[test]
    fn the_token_is_in_no_record() {
        let record = Subject::new("hunter2").record();
        assert!(!record.windows(7).any(|part| part == b"hunter2"));
    }
}
