//! Statements that somebody signed, made or read anew for each token request.
//!
//! An [`Assertion`] says who somebody is: a JWT of a service account, a SAML assertion of a gateway, the token of a
//! cluster. A source that presents one asks for it at each attempt, since it may be used once.
//!
//! | you have | take |
//! |---|---|
//! | a file that is kept up to date | a [`Secret`] of it |
//! | a [`TokenProvider`] that has it as its token | [`from_provider`] |
//! | a key | `Signed`, feature `jwt` |
//! | code that signs or fetches it | [`from_fn`], or an implementation of your own |

use std::{fmt, pin::Pin, sync::Arc};

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
    message = "`{Self}` makes no assertions",
    note = "give a `Secret`, wrap an async closure in `tower_bearer::credentials::assertion::from_fn`, or a provider in \
            `from_provider`"
)]
pub trait Assertion: Send + Sync + 'static {
    /// The assertion for one token request.
    ///
    /// # Errors
    /// There is none to be had.
    fn assertion(
        &self,
        request: &AssertionRequest,
    ) -> impl Future<Output = Result<Secret, TokenError>> + Send;

    /// Whose assertions these are, as part of a source's [identity](crate::TokenSource::source_id). Unless it is overridden
    /// nobody's.
    fn source_id(&self) -> SourceId {
        SourceId::unnamed()
    }
}

/// What an assertion is for.
#[derive(Clone, Debug)]
pub struct AssertionRequest {
    audience: String,
    spec: TokenSpec,
}

impl AssertionRequest {
    pub(crate) fn new(audience: String, spec: TokenSpec) -> Self {
        Self { audience, spec }
    }

    /// The token endpoint that will read it, which an assertion usually names as its audience.
    #[must_use]
    pub fn audience(&self) -> &str {
        &self.audience
    }

    /// The token that is asked for with it. Some providers want its scopes in the assertion.
    #[must_use]
    pub fn spec(&self) -> &TokenSpec {
        &self.spec
    }
}

/// The secret itself, read anew each time if it is in a file.
impl Assertion for Secret {
    async fn assertion(&self, _: &AssertionRequest) -> Result<Secret, TokenError> {
        Ok(self.clone())
    }

    fn source_id(&self) -> SourceId {
        SourceId::new("assertion").with_secret("text", self)
    }
}

/// Assertions of an async closure.
///
/// ```
/// use tower_bearer::{Secret, credentials::assertion};
///
/// let assertion = assertion::from_fn(async |request| {
///     Ok(Secret::new(format!("signed for {}", request.audience())))
/// });
/// # let _ = assertion;
/// ```
pub fn from_fn<F, Fut>(make: F) -> FromFn<F>
where
    F: Fn(AssertionRequest) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Secret, TokenError>> + Send,
{
    FromFn(make)
}

/// Assertions made by [`from_fn`].
#[derive(Clone)]
pub struct FromFn<F>(F);

impl<F, Fut> Assertion for FromFn<F>
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

impl<F> fmt::Debug for FromFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("assertion::from_fn(_)")
    }
}

/// The tokens of a provider, for those whose assertion is somebody else's token: the provider keeps and renews it.
///
/// ```
/// use tower_bearer::{NewToken, TokenCache, TokenSpec, credentials::assertion, source};
///
/// let cluster = TokenCache::new(source::from_fn(async |_| NewToken::bearer("the cluster's")));
/// let assertion = assertion::from_provider(cluster, TokenSpec::default());
/// # let _ = assertion;
/// ```
pub fn from_provider<P: TokenProvider>(provider: P, spec: TokenSpec) -> FromProvider<P> {
    FromProvider { provider, spec }
}

/// Assertions made by [`from_provider`].
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

    fn source_id(&self) -> SourceId {
        let spec = self.spec.key();
        SourceId::new("provider")
            .with_part("source", &self.provider.source_id())
            .with_digest("spec", spec)
    }
}

impl<P> fmt::Debug for FromProvider<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromProvider")
            .field("spec", &self.spec)
            .finish_non_exhaustive()
    }
}

type Making<'a> = Pin<Box<dyn Future<Output = Result<Secret, TokenError>> + Send + 'a>>;

/// An assertion behind a pointer, for the sources to keep.
#[derive(Clone)]
pub(super) struct Shared(Arc<dyn DynAssertion>);

trait DynAssertion: Send + Sync {
    fn make<'a>(&'a self, request: &'a AssertionRequest) -> Making<'a>;

    fn source_id_of(&self) -> SourceId;
}

impl<A: Assertion> DynAssertion for A {
    fn make<'a>(&'a self, request: &'a AssertionRequest) -> Making<'a> {
        Box::pin(self.assertion(request))
    }

    fn source_id_of(&self) -> SourceId {
        self.source_id()
    }
}

impl Shared {
    pub(super) fn new(assertion: impl Assertion) -> Self {
        Self(Arc::new(assertion))
    }

    pub(super) async fn make(&self, request: &AssertionRequest) -> Result<Secret, TokenError> {
        self.0.make(request).await
    }

    pub(super) fn source_id(&self) -> SourceId {
        self.0.source_id_of()
    }
}
