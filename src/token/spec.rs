//! Which token: scopes, resources, audience, tenant and further parameters.
//!
//! A [`TokenSpec`] is its own key. What it asks for is written into one canonical, length-delimited, typed run of
//! bytes when it is built, and hashed then; two specs are the same if and only if those bytes are.

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

/// Which token a request needs.
///
/// It goes on a route, or on a single request as an extension. A clone costs one reference count, and two specs that
/// ask for the same are equal, in whatever order their scopes were given. Build it once and keep it where you can: a service
/// handle remembers the specs that it used last.
///
/// An empty spec is allowed: some servers have default scopes, and the request then names none.
///
/// What a spec can't hold (a scope with a blank in it, say) is reported where it is used: by
/// [`AuthLayer::route`](crate::AuthLayer::route) or [`TokenCache::get`](crate::TokenCache::get), or by
/// [`check`](Self::check) at once.
///
/// ```
/// use tower_bearer::TokenSpec;
///
/// let spec = TokenSpec::scopes(["write", "read"]).with_audience("https://stock.example");
/// assert_eq!(spec, TokenSpec::scopes(["read", "write"]).with_audience("https://stock.example"));
/// assert_eq!(spec.iter_scopes().collect::<Vec<_>>(), ["read", "write"]);
///
/// let error = TokenSpec::scopes(["read write"]).check().unwrap_err();
/// assert!(error.to_string().contains("give each scope by itself"));
/// ```
#[derive(Clone)]
pub struct TokenSpec(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    hash: u64,
    key: Box<[u8]>,
    uncommon: Option<Box<Uncommon>>,
}

/// What nearly no spec has.
#[derive(Clone, Default)]
struct Uncommon {
    /// The token itself; the key has its digest.
    subject: Option<Subject>,
    fault: Option<TokenError>,
}

impl TokenSpec {
    /// A spec that asks for these scopes.
    ///
    /// A scope is of RFC 6749's characters (§3.3): printable ASCII without blank, quote and backslash.
    pub fn scopes<I>(scopes: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        Self::default().with_scopes(scopes)
    }

    /// Asks for these scopes too.
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

    /// Asks for no scope by name, and for all else as before.
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

    /// Names a resource that the token is for (RFC 8707). May be given several times.
    #[must_use]
    pub fn with_resource(self, resource: impl AsRef<str>) -> Self {
        let resource = resource.as_ref();
        self.with(
            Tag::Resource,
            [resource.as_bytes()],
            fault_in_resource(resource),
        )
    }

    /// Names no resource, and asks for all else as before.
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

    /// Names the audience that the token is for, in the providers that have one.
    #[must_use]
    pub fn with_audience(self, audience: impl AsRef<str>) -> Self {
        self.with(Tag::Audience, [audience.as_ref().as_bytes()], None)
    }

    /// Names the tenant, which stands for `{tenant}` in the provider's address: letters, digits, dot and dash.
    #[must_use]
    pub fn with_tenant(self, tenant: impl AsRef<str>) -> Self {
        let tenant = tenant.as_ref();
        self.with(Tag::Tenant, [tenant.as_bytes()], fault_in_tenant(tenant))
    }

    /// A further parameter of the token request. It is part of what makes two specs differ.
    #[must_use]
    pub fn with_extra(self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        let mut record = Vec::new();
        spec_key::put(&mut record, name.as_ref().as_bytes());
        record.extend(value.as_ref().as_bytes());
        self.with(Tag::Extra, [&*record], fault_in_extra(name.as_ref()))
    }

    /// Names on whose behalf the token is: the user who called, by the token that they came with.
    ///
    /// The token's digest is part of what makes two specs differ, so no user ever gets what another's token brought. The token
    /// itself is carried along for the source, and never shown.
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

    /// Whether this can be asked for at all.
    ///
    /// # Errors
    /// The first thing that was put into it and can't be: the message says which, and what would do.
    pub fn check(&self) -> Result<(), TokenError> {
        self.fault().map_or(Ok(()), |fault| Err(fault.clone()))
    }

    /// The scopes asked for, in order.
    pub fn iter_scopes(&self) -> impl Iterator<Item = &str> {
        self.texts(Tag::Scope)
    }

    /// The resources named, in order.
    pub fn iter_resources(&self) -> impl Iterator<Item = &str> {
        self.texts(Tag::Resource)
    }

    /// The audience, if one was named.
    #[must_use]
    pub fn audience(&self) -> Option<&str> {
        self.texts(Tag::Audience).next()
    }

    /// The tenant, if one was named.
    #[must_use]
    pub fn tenant(&self) -> Option<&str> {
        self.texts(Tag::Tenant).next()
    }

    /// On whose behalf the token is, if it is on somebody's.
    #[must_use]
    pub fn subject(&self) -> Option<&Subject> {
        self.0.uncommon.as_ref()?.subject.as_ref()
    }

    /// The further parameters: name and value.
    pub fn iter_extra(&self) -> impl Iterator<Item = (&str, &str)> {
        self.records(Tag::Extra).filter_map(|mut value| {
            let name = spec_key::take(&mut value)?;
            Some((str::from_utf8(name).ok()?, str::from_utf8(value).ok()?))
        })
    }

    /// All that it asks for, in one run of bytes that is the same in every process. No secret but the values of further
    /// parameters is in it.
    pub(crate) fn key(&self) -> &[u8] {
        &self.0.key
    }

    /// Bytes of memory that one copy of this spec holds, for the cache's bound.
    pub(crate) fn weight(&self) -> usize {
        let uncommon = self
            .0
            .uncommon
            .as_ref()
            .map_or(0, |_| size_of::<Uncommon>());
        let subject = self.subject().map_or(0, Subject::weight);
        size_of_val(&*self.0) + self.0.key.len() + uncommon + subject
    }

    /// Returns `true` if both are clones of one spec, which says that they are equal without comparing keys.
    #[inline]
    pub(crate) fn ptr_eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The hash of the key, computed when the spec was built.
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

    /// Adds records. A tag that allows only one record loses its old one.
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
        // Keyed anew for each process: tenants and scopes may come from strangers.
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
    /// Asks for nothing by name: the provider's default scopes.
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

/// Names everything but the subject's token and the values of further parameters, which may be secrets.
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
    fn the_order_of_scopes_is_no_difference_and_their_case_is() {
        let spec = TokenSpec::scopes(["b", "a", "b"]);
        assert_eq!(spec, TokenSpec::scopes(["a", "b"]));
        assert_ne!(spec, TokenSpec::scopes(["A", "b"]));
    }

    #[test]
    fn a_value_never_passes_for_another_field() {
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
    fn what_was_put_in_comes_out() {
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
    fn each_fault_is_named() {
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
    fn debug_shows_no_subject_and_no_value_of_a_further_parameter() {
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
