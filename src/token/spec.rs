//! Defines [`TokenSpec`], which describes the requested token: scopes, resources, audience, tenant, subject and extra parameters.
//!
//! A spec is its own key: its parts are encoded as bytes and hashed when it is built. Two specs are equal if their bytes are.

use std::{
    fmt,
    hash::{BuildHasher, Hash, Hasher, RandomState},
    sync::{Arc, LazyLock},
};

use super::{
    Subject,
    spec_checks::{fault_in_extra, fault_in_resource, fault_in_scope, fault_in_tenant},
    spec_key::{self, Record, Tag},
};
use crate::error::TokenError;

/// Describes the token that a request needs. It is the key of the cache.
///
/// Set it on a route, or in the extensions of a single request. Cloning is cheap, and the order of the scopes makes no difference.
/// Build a spec once and clone it: the layer recognizes the clones of a spec faster than equal specs.
///
/// An empty spec requests the default scopes of the provider.
///
/// Invalid values, such as a scope that contains a space, are reported when the spec is used:
/// [`AuthLayer::route`](crate::AuthLayer::route) and [`TokenCache::get`](crate::TokenCache::get) return an error, as does
/// [`check`](Self::check).
///
/// ```
/// use tower_bearer::TokenSpec;
///
/// let spec = TokenSpec::scopes(["write", "read"]).with_audience("https://stock.example");
/// assert_eq!(spec, TokenSpec::scopes(["read", "write"]).with_audience("https://stock.example"));
/// assert_eq!(spec.iter_scopes().collect::<Vec<_>>(), ["read", "write"]);
///
/// let error = TokenSpec::scopes(["read write"]).check().unwrap_err();
/// assert!(error.to_string().contains("pass each scope separately"));
/// ```
#[derive(Clone)]
pub struct TokenSpec(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    hash: u64,
    key: Box<[u8]>,
    uncommon: Option<Box<Uncommon>>,
}

/// The parts that few specs have.
#[derive(Clone, Default)]
struct Uncommon {
    /// The key only has the digest of the subject's token.
    subject: Option<Subject>,
    /// The first invalid value.
    fault: Option<TokenError>,
}

impl TokenSpec {
    /// Creates a spec with these scopes.
    ///
    /// A scope consists of printable ASCII characters except space, `"` and `\` (RFC 6749, section 3.3).
    pub fn scopes<I>(scopes: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        Self::default().with_scopes(scopes)
    }

    /// Adds scopes.
    #[must_use]
    pub fn with_scopes<I>(self, scopes: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let scopes: Vec<I::Item> = scopes.into_iter().collect();
        let fault = scopes
            .iter()
            .find_map(|scope| fault_in_scope(scope.as_ref()));
        let records = scopes.iter().map(|scope| scope.as_ref().as_bytes());
        self.with(Tag::Scope, records, fault)
    }

    /// Removes all scopes.
    ///
    /// ```
    /// use tower_bearer::TokenSpec;
    ///
    /// let spec = TokenSpec::scopes(["read"]).with_tenant("acme");
    /// assert_eq!(spec.without_scopes(), TokenSpec::default().with_tenant("acme"));
    /// ```
    #[must_use]
    pub fn without_scopes(self) -> Self {
        self.without(Tag::Scope)
    }

    /// Adds a resource that the token is requested for (RFC 8707).
    #[must_use]
    pub fn with_resource(self, resource: impl AsRef<str>) -> Self {
        let resource = resource.as_ref();
        self.with(
            Tag::Resource,
            [resource.as_bytes()],
            fault_in_resource(resource),
        )
    }

    /// Removes all resources.
    ///
    /// ```
    /// use tower_bearer::TokenSpec;
    ///
    /// let spec = TokenSpec::scopes(["read"]).with_resource("https://stock.example");
    /// assert_eq!(spec.without_resources(), TokenSpec::scopes(["read"]));
    /// ```
    #[must_use]
    pub fn without_resources(self) -> Self {
        self.without(Tag::Resource)
    }

    /// Sets the audience of the token, for providers that support this parameter.
    #[must_use]
    pub fn with_audience(self, audience: impl AsRef<str>) -> Self {
        self.with(Tag::Audience, [audience.as_ref().as_bytes()], None)
    }

    /// Sets the tenant, which replaces `{tenant}` in the provider's URL. It consists of ASCII letters, digits, `.` and `-`.
    #[must_use]
    pub fn with_tenant(self, tenant: impl AsRef<str>) -> Self {
        let tenant = tenant.as_ref();
        self.with(Tag::Tenant, [tenant.as_bytes()], fault_in_tenant(tenant))
    }

    /// Adds an extra parameter to the token request. Specs with different parameters are different.
    #[must_use]
    pub fn with_extra(self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        let mut record = Vec::new();
        spec_key::put(&mut record, name.as_ref().as_bytes());
        record.extend(value.as_ref().as_bytes());
        self.with(Tag::Extra, [&*record], fault_in_extra(name.as_ref()))
    }

    /// Sets the user on whose behalf the token is requested.
    ///
    /// Specs with different subjects are different, so a user never gets the token of another user. The subject's token is
    /// available to the source, and never logged.
    ///
    /// ```
    /// use tower_bearer::{token::Subject, TokenSpec};
    ///
    /// let of = |token| TokenSpec::scopes(["stock.read"]).with_subject(Subject::new(token));
    /// assert_eq!(of("alice's token"), of("alice's token"));
    /// assert_ne!(of("alice's token"), of("bob's token"));
    /// assert!(!format!("{:?}", of("alice's token")).contains("alice"));
    /// ```
    #[must_use]
    pub fn with_subject(self, subject: Subject) -> Self {
        let mut spec = self.with(Tag::Subject, [&*subject.record()], subject.fault());
        let inner = Arc::make_mut(&mut spec.0);
        inner.uncommon.get_or_insert_default().subject = Some(subject);
        spec
    }

    /// Checks the values of the spec.
    ///
    /// # Errors
    /// Returns an error if a value is invalid: the first one that was set.
    pub fn check(&self) -> Result<(), TokenError> {
        self.fault().map_or(Ok(()), |fault| Err(fault.clone()))
    }

    /// Returns the scopes, sorted.
    pub fn iter_scopes(&self) -> impl Iterator<Item = &str> {
        self.texts(Tag::Scope)
    }

    /// Returns the resources, sorted.
    pub fn iter_resources(&self) -> impl Iterator<Item = &str> {
        self.texts(Tag::Resource)
    }

    /// Returns the audience, if it is set.
    #[must_use]
    pub fn audience(&self) -> Option<&str> {
        self.texts(Tag::Audience).next()
    }

    /// Returns the tenant, if it is set.
    #[must_use]
    pub fn tenant(&self) -> Option<&str> {
        self.texts(Tag::Tenant).next()
    }

    /// Returns the user on whose behalf the token is requested, if it is set.
    #[must_use]
    pub fn subject(&self) -> Option<&Subject> {
        self.0.uncommon.as_ref()?.subject.as_ref()
    }

    /// Returns the names and values of the extra parameters, sorted.
    pub fn iter_extra(&self) -> impl Iterator<Item = (&str, &str)> {
        self.records(Tag::Extra).filter_map(|mut value| {
            let name = spec_key::take(&mut value)?;
            Some((str::from_utf8(name).ok()?, str::from_utf8(value).ok()?))
        })
    }

    /// Returns the encoded parts, which are the same in every process. The values of extra parameters may be secret.
    pub(crate) fn key(&self) -> &[u8] {
        &self.0.key
    }

    /// Returns the size of the spec in bytes, for the cache's bound.
    pub(crate) fn weight(&self) -> usize {
        let uncommon = self
            .0
            .uncommon
            .as_ref()
            .map_or(0, |_| size_of::<Uncommon>());
        let subject = self.subject().map_or(0, Subject::weight);
        size_of_val(&*self.0) + self.0.key.len() + uncommon + subject
    }

    /// Returns `true` if both are clones of the same spec.
    #[inline]
    pub(crate) fn ptr_eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Returns the hash of the key, which was computed when the spec was built.
    #[inline]
    pub(crate) fn precomputed_hash(&self) -> u64 {
        self.0.hash
    }

    fn fault(&self) -> Option<&TokenError> {
        self.0.uncommon.as_ref()?.fault.as_ref()
    }

    fn texts(&self, tag: Tag) -> impl Iterator<Item = &str> {
        self.records(tag)
            .filter_map(|text| str::from_utf8(text).ok())
    }

    fn records(&self, tag: Tag) -> impl Iterator<Item = &[u8]> {
        let records = spec_key::records(&self.0.key);
        records.filter_map(move |(found, record)| (found == tag as u8).then_some(record))
    }

    /// Adds records. A record of a tag that is not repeatable replaces the previous one.
    fn with<'a>(
        &'a self,
        tag: Tag,
        added: impl IntoIterator<Item = &'a [u8]>,
        fault: Option<String>,
    ) -> Self {
        let known = spec_key::records(&self.0.key);
        let kept = known.filter(|(found, _)| *found != tag as u8 || tag.is_repeatable());
        let added = added.into_iter().map(|record| (tag as u8, record));
        let mut uncommon = self.0.uncommon.clone();
        if let (Some(fault), None) = (fault, self.fault()) {
            uncommon.get_or_insert_default().fault = Some(TokenError::configuration(fault));
        }
        Self::new(kept.chain(added), uncommon)
    }

    fn without(&self, tag: Tag) -> Self {
        let known = spec_key::records(&self.0.key);
        let kept = known.filter(|(found, _)| *found != tag as u8);
        Self::new(kept, self.0.uncommon.clone())
    }

    fn new<'a>(records: impl Iterator<Item = Record<'a>>, uncommon: Option<Box<Uncommon>>) -> Self {
        // The hash key is random in each process, because an attacker may choose tenants and scopes.
        static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        let key = spec_key::encode(records);
        let hash = HASHER.hash_one(&key);
        Self(Arc::new(Inner {
            hash,
            key,
            uncommon,
        }))
    }
}

impl Default for TokenSpec {
    /// Creates an empty spec, which requests the default scopes of the provider.
    fn default() -> Self {
        static EMPTY: LazyLock<TokenSpec> =
            LazyLock::new(|| TokenSpec::new(std::iter::empty(), None));
        EMPTY.clone()
    }
}

impl PartialEq for TokenSpec {
    fn eq(&self, other: &Self) -> bool {
        self.ptr_eq(other) || (self.0.hash == other.0.hash && self.0.key == other.0.key)
    }
}

impl Eq for TokenSpec {}

impl Hash for TokenSpec {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.hash);
    }
}

/// Omits the subject's token and the values of extra parameters, which may be secret.
impl fmt::Debug for TokenSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("TokenSpec");
        out.field("scopes", &self.iter_scopes().collect::<Vec<_>>());
        if self.iter_resources().next().is_some() {
            out.field("resources", &self.iter_resources().collect::<Vec<_>>());
        }
        if let Some(audience) = self.audience() {
            out.field("audience", &audience);
        }
        if let Some(tenant) = self.tenant() {
            out.field("tenant", &tenant);
        }
        if let Some(subject) = self.subject() {
            out.field("subject", subject);
        }
        for (name, _) in self.iter_extra() {
            out.field(name, &format_args!("redacted"));
        }
        out.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::TokenType;

    #[test]
    fn scopes_are_compared_by_case_but_not_by_order() {
        let spec = TokenSpec::scopes(["b", "a", "b"]);
        assert_eq!(spec, TokenSpec::scopes(["a", "b"]));
        assert_ne!(spec, TokenSpec::scopes(["A", "b"]));
    }

    #[test]
    fn equal_values_of_different_parts_make_different_specs() {
        let specs = [
            TokenSpec::default(),
            TokenSpec::scopes(["https://a"]),
            TokenSpec::default().with_resource("https://a"),
            TokenSpec::default().with_audience("https://a"),
            TokenSpec::default().with_tenant("a"),
            TokenSpec::default().with_extra("a", "b"),
            TokenSpec::default().with_extra("ab", ""),
            TokenSpec::default().with_extra("a", "").with_extra("b", ""),
            TokenSpec::scopes(["a", "b"]),
            TokenSpec::scopes(["ab"]),
            TokenSpec::default().with_subject(Subject::new("a")),
            TokenSpec::default().with_subject(Subject::new("b")),
            TokenSpec::default().with_subject(Subject::new("a").with_type(TokenType::JWT)),
        ];
        for (i, one) in specs.iter().enumerate() {
            for (j, other) in specs.iter().enumerate() {
                assert_eq!(one == other, i == j, "{one:?} and {other:?}");
            }
        }
    }

    #[test]
    fn accessors_return_the_values_that_were_set() {
        let spec = TokenSpec::scopes(["s"])
            .with_resource("https://r2")
            .with_resource("https://r1")
            .with_audience("first")
            .with_audience("second")
            .with_tenant("t.example")
            .with_extra("n", "v")
            .with_subject(Subject::new("first"))
            .with_subject(Subject::new("second"))
            .with_scopes(["s"]);
        assert_eq!(spec.iter_scopes().collect::<Vec<_>>(), ["s"]);
        let resources: Vec<_> = spec.iter_resources().collect();
        assert_eq!(resources, ["https://r1", "https://r2"]);
        assert_eq!(spec.audience(), Some("second"));
        assert_eq!(spec.tenant(), Some("t.example"));
        assert_eq!(spec.iter_extra().collect::<Vec<_>>(), [("n", "v")]);
        assert_eq!(spec.subject().unwrap().expose(), "second");
        assert!(spec.check().is_ok());
    }

    #[test]
    fn error_names_the_invalid_value() {
        for (spec, part) in [
            (TokenSpec::scopes([""]), "empty"),
            (TokenSpec::scopes(["a\"b"]), "RFC 6749"),
            (TokenSpec::scopes(["é"]), "RFC 6749"),
            (TokenSpec::default().with_resource("/x"), "absolute"),
            (
                TokenSpec::default().with_resource("https://x/#y"),
                "fragment",
            ),
            (TokenSpec::default().with_tenant("a/b"), "tenant"),
            (TokenSpec::default().with_tenant(".."), "tenant"),
            (TokenSpec::default().with_tenant(""), "tenant"),
            (TokenSpec::default().with_extra("scope", "x"), "scope"),
            (
                TokenSpec::default().with_subject(Subject::new("")),
                "subject",
            ),
            (
                TokenSpec::default().with_subject(Subject::new("a\nb")),
                "subject",
            ),
        ] {
            let error = spec.check().unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
    }

    #[test]
    fn debug_redacts_the_subject_and_extra_values() {
        let subject = Subject::new("hunter2");
        let spec = TokenSpec::scopes(["s"])
            .with_extra("password", "hunter2")
            .with_subject(subject);
        let shown = format!("{spec:?}");
        assert!(
            shown.contains("password") && !shown.contains("hunter2"),
            "{shown}"
        );
    }
}
