//! Defines [`Assertion`]: signed statements about a subject, which are made or read again for each token request.
//!
//! Examples are the JWT of a service account, the SAML assertion of a gateway, and the token of a cluster. Sources request
//! an assertion at each attempt, because a provider may accept it only once.
//!
//! | you have | assertion |
//! |---|---|
//! | a file that is kept up to date | a [`Secret`] from that file |
//! | a [`TokenProvider`] whose tokens are the assertions | [`from_provider`] |
//! | a key | `Signed`, feature `jwt` |
//! | code that signs or fetches it | [`from_fn`], or an implementation of [`Assertion`] |

use std::{any::Any, fmt, pin::Pin, sync::Arc};

use crate::{
    error::TokenError,
    secret::Secret,
    source::{SourceId, TokenProvider},
    token::TokenSpec,
};

#[cfg(feature = "jwt")]
#[cfg_attr(docsrs, doc(cfg(feature = "jwt")))]
pub use super::signed::Signed;

/// Makes or reads an assertion.
///
/// ```
/// use tower_bearer::{Secret, TokenError, credentials::assertion::{Assertion, AssertionRequest}};
///
/// struct Gateway;
///
/// impl Assertion for Gateway {
///     async fn assertion(&self, request: &AssertionRequest) -> Result<Secret, TokenError> {
///         Ok(Secret::new(format!("signed for {}", request.audience())))
///     }
/// }
/// # fn takes(_: impl Assertion) {}
/// # takes(Gateway);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an assertion",
    note = "pass a `Secret`, wrap an async closure in `tower_bearer::credentials::assertion::from_fn`, or a provider in \
            `from_provider`"
)]
pub trait Assertion: Send + Sync + 'static {
    /// Returns the assertion for one token request.
    ///
    /// # Errors
    /// Returns an error if no assertion can be made or read.
    fn assertion(
        &self,
        request: &AssertionRequest,
    ) -> impl Future<Output = Result<Secret, TokenError>> + Send;

    /// Returns the identity of the subject, as part of the [identity of a source](crate::TokenSource::source_id). The default
    /// is `None`: the tokens are not shared with other processes.
    fn source_id(&self) -> Option<SourceId> {
        None
    }
}

/// What an assertion is requested for.
#[derive(Clone, Debug)]
pub struct AssertionRequest {
    audience: String,
    spec: TokenSpec,
}

impl AssertionRequest {
    pub(crate) fn new(audience: String, spec: TokenSpec) -> Self {
        Self { audience, spec }
    }

    /// Returns the URL of the token endpoint, which is the usual audience of an assertion.
    #[must_use]
    pub fn audience(&self) -> &str {
        &self.audience
    }

    /// Returns the spec of the token that is requested with the assertion. Some providers require its scopes in the assertion.
    #[must_use]
    pub fn spec(&self) -> &TokenSpec {
        &self.spec
    }
}

/// The assertion is the secret, which is read again for each attempt.
impl Assertion for Secret {
    async fn assertion(&self, _: &AssertionRequest) -> Result<Secret, TokenError> {
        Ok(self.clone())
    }

    fn source_id(&self) -> Option<SourceId> {
        SourceId::new("assertion").with_secret("text", self)
    }
}

/// Creates assertions with an async closure.
///
/// ```
/// use tower_bearer::{Secret, credentials::assertion};
///
/// let assertion = assertion::from_fn(async |request| {
///     Ok(Secret::new(format!("signed for {}", request.audience())))
/// });
/// # let _ = assertion;
/// ```
pub fn from_fn<F, Fut>(make: F) -> AssertionFn<F>
where
    F: Fn(AssertionRequest) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Secret, TokenError>> + Send,
{
    AssertionFn(make)
}

/// Assertions created by [`from_fn`].
#[derive(Clone)]
pub struct AssertionFn<F>(F);

impl<F, Fut> Assertion for AssertionFn<F>
where
    F: Fn(AssertionRequest) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Secret, TokenError>> + Send,
{
    fn assertion(
        &self,
        request: &AssertionRequest,
    ) -> impl Future<Output = Result<Secret, TokenError>> + Send {
        (self.0)(request.clone())
    }
}

impl<F> fmt::Debug for AssertionFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("assertion::from_fn(_)")
    }
}

/// Uses the tokens of a provider as assertions. The provider caches and refreshes them.
///
/// ```
/// use tower_bearer::{NewToken, TokenCache, TokenSpec, credentials::assertion, source};
///
/// let cluster = TokenCache::new(source::from_fn(async |_| NewToken::bearer("cluster-token")));
/// let assertion = assertion::from_provider(cluster, TokenSpec::default());
/// # let _ = assertion;
/// ```
pub fn from_provider<P: TokenProvider>(provider: P, spec: TokenSpec) -> FromProvider<P> {
    FromProvider { provider, spec }
}

/// Assertions created by [`from_provider`].
#[derive(Clone)]
pub struct FromProvider<P> {
    provider: P,
    spec: TokenSpec,
}

impl<P: TokenProvider> Assertion for FromProvider<P> {
    async fn assertion(&self, _: &AssertionRequest) -> Result<Secret, TokenError> {
        let token = self.provider.token(&self.spec).await?;
        Ok(Secret::new(token.expose()))
    }

    fn source_id(&self) -> Option<SourceId> {
        let source = self.provider.source_id()?;
        let id = SourceId::new("provider").with_part("source", &source);
        Some(id.with_digest("spec", self.spec.key()))
    }
}

impl<P> fmt::Debug for FromProvider<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromProvider")
            .field("spec", &self.spec)
            .finish_non_exhaustive()
    }
}

type AssertionFuture<'a> = Pin<Box<dyn Future<Output = Result<Secret, TokenError>> + Send + 'a>>;

/// A shared assertion of any type.
pub(super) type SharedAssertion = Arc<dyn DynAssertion>;

/// The version of [`Assertion`] that works with `dyn`, because its future is boxed.
pub(super) trait DynAssertion: Send + Sync {
    fn make<'a>(&'a self, request: &'a AssertionRequest) -> AssertionFuture<'a>;

    fn source_id_of(&self) -> Option<SourceId>;

    /// Returns the assertion if it is a [`Secret`], which can be read without waiting.
    fn as_secret(&self) -> Option<&Secret>;
}

impl<A: Assertion> DynAssertion for A {
    fn make<'a>(&'a self, request: &'a AssertionRequest) -> AssertionFuture<'a> {
        Box::pin(self.assertion(request))
    }

    fn source_id_of(&self) -> Option<SourceId> {
        self.source_id()
    }

    fn as_secret(&self) -> Option<&Secret> {
        (self as &dyn Any).downcast_ref()
    }
}

impl fmt::Debug for dyn DynAssertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Assertion(redacted)")
    }
}
