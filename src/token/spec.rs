//! Which token: scopes, resources, audience, tenant and further parameters.
//!
//! A [`TokenSpec`] is its own key. What it asks for is written into one canonical, length-delimited, typed run of
//! bytes when it is built, and hashed then; two specs are the same if and only if those bytes are.

use std::{
    fmt,
    hash::{BuildHasher, Hash, Hasher, RandomState},
    sync::{Arc, LazyLock},
};

use crate::{error::TokenError, token::Subject};

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

struct Inner {
    hash: u64,
    key: Box<[u8]>,
    rare: Option<Box<Rare>>,
}

/// What nearly no spec has.
struct Rare {
    /// The token itself; the key has its digest.
    subject: Option<Subject>,
    fault: Option<TokenError>,
}

/// The kinds of records in a key. Their order is the order in the key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Tag {
    Scope = 1,
    Resource = 2,
    Audience = 3,
    Tenant = 4,
    Extra = 5,
    Subject = 6,
}

/// A record's tag, and its length in four bytes.
const HEAD: usize = 5;

/// Parameters that the token request sets by itself.
const RESERVED: &[&str] = &[
    "grant_type",
    "client_id",
    "client_secret",
    "client_assertion",
    "client_assertion_type",
    "scope",
    "resource",
    "audience",
];

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
        let mut draft = Draft::of(&self);
        for scope in &scopes {
            draft.check(fault_in_scope(scope.as_ref()));
            draft.add(Tag::Scope, scope.as_ref().as_bytes());
        }
        draft.finish()
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
        let mut draft = Draft::of(&self);
        draft.remove(Tag::Scope);
        draft.finish()
    }

    /// Names a resource that the token is for (RFC 8707). May be given several times.
    #[must_use]
    pub fn with_resource(self, resource: impl AsRef<str>) -> Self {
        let mut draft = Draft::of(&self);
        draft.check(fault_in_resource(resource.as_ref()));
        draft.add(Tag::Resource, resource.as_ref().as_bytes());
        draft.finish()
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
        let mut draft = Draft::of(&self);
        draft.remove(Tag::Resource);
        draft.finish()
    }

    /// Names the audience that the token is for, in the providers that have one.
    #[must_use]
    pub fn with_audience(self, audience: impl AsRef<str>) -> Self {
        let mut draft = Draft::of(&self);
        draft.replace(Tag::Audience, audience.as_ref().as_bytes());
        draft.finish()
    }

    /// Names the tenant, which stands for `{tenant}` in the provider's address: letters, digits, dot and dash.
    #[must_use]
    pub fn with_tenant(self, tenant: impl AsRef<str>) -> Self {
        let mut draft = Draft::of(&self);
        draft.check(fault_in_tenant(tenant.as_ref()));
        draft.replace(Tag::Tenant, tenant.as_ref().as_bytes());
        draft.finish()
    }

    /// A further parameter of the token request. It is part of what makes two specs differ.
    #[must_use]
    pub fn with_extra(self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        let (name, value) = (name.as_ref(), value.as_ref());
        let mut record = Vec::with_capacity(4 + name.len() + value.len());
        record.extend(length(name.len()));
        record.extend(name.as_bytes());
        record.extend(value.as_bytes());
        let mut draft = Draft::of(&self);
        draft.check(fault_in_extra(name));
        draft.add(Tag::Extra, &record);
        draft.finish()
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
        let record = subject.record();
        let mut draft = Draft::of(&self);
        draft.check(subject.fault());
        draft.replace(Tag::Subject, &record);
        draft.subject = Some(subject);
        draft.finish()
    }

    /// Whether this can be asked for at all.
    ///
    /// # Errors
    /// The first thing that was put into it and can't be: the message says which, and what would do.
    pub fn check(&self) -> Result<(), TokenError> {
        match self.fault() {
            Some(fault) => Err(fault.clone()),
            None => Ok(()),
        }
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
        self.0.rare.as_ref()?.subject.as_ref()
    }

    /// The further parameters: name and value.
    pub fn iter_extra(&self) -> impl Iterator<Item = (&str, &str)> {
        records(&self.0.key)
            .filter(|(tag, _)| *tag == Tag::Extra as u8)
            .filter_map(|(_, record)| {
                let (name, value) = split_record(record)?;
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
        let rare = self.0.rare.as_ref().map_or(0, |_| size_of::<Rare>());
        let subject = self.subject().map_or(0, Subject::weight);
        size_of_val(&*self.0) + self.0.key.len() + rare + subject
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
        self.0.rare.as_ref()?.fault.as_ref()
    }

    fn texts(&self, tag: Tag) -> impl Iterator<Item = &str> {
        records(&self.0.key)
            .filter(move |(found, _)| *found == tag as u8)
            .filter_map(|(_, text)| str::from_utf8(text).ok())
    }
}

impl Default for TokenSpec {
    /// Asks for nothing by name: the provider's default scopes.
    fn default() -> Self {
        static EMPTY: LazyLock<TokenSpec> =
            LazyLock::new(|| TokenSpec::seal(Vec::new(), None, None));
        EMPTY.clone()
    }
}

impl TokenSpec {
    fn seal(key: Vec<u8>, subject: Option<Subject>, fault: Option<TokenError>) -> Self {
        // Keyed anew for each process: tenants and scopes may come from strangers.
        static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        let is_rare = subject.is_some() || fault.is_some();
        Self(Arc::new(Inner {
            hash: HASHER.hash_one(&key),
            key: key.into_boxed_slice(),
            rare: is_rare.then(|| Box::new(Rare { subject, fault })),
        }))
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

/// A spec under construction: the records of the one it starts from, and those that are added.
struct Draft<'a> {
    records: Vec<(u8, &'a [u8])>,
    subject: Option<Subject>,
    fault: Option<TokenError>,
}

impl<'a> Draft<'a> {
    fn of(spec: &'a TokenSpec) -> Self {
        Self {
            records: records(&spec.0.key).collect(),
            subject: spec.subject().cloned(),
            fault: spec.fault().cloned(),
        }
    }

    fn check(&mut self, fault: Option<String>) {
        if self.fault.is_none() {
            self.fault = fault.map(TokenError::configuration);
        }
    }

    fn add(&mut self, tag: Tag, record: &'a [u8]) {
        self.records.push((tag as u8, record));
    }

    fn replace(&mut self, tag: Tag, record: &'a [u8]) {
        self.remove(tag);
        self.add(tag, record);
    }

    fn remove(&mut self, tag: Tag) {
        self.records.retain(|(found, _)| *found != tag as u8);
    }

    fn finish(mut self) -> TokenSpec {
        self.records.sort_unstable();
        self.records.dedup();
        let mut key = Vec::with_capacity(self.records.iter().map(|(_, r)| HEAD + r.len()).sum());
        for (tag, record) in &self.records {
            key.push(*tag);
            key.extend(length(record.len()));
            key.extend_from_slice(record);
        }
        TokenSpec::seal(key, self.subject, self.fault)
    }
}

/// A length in four bytes. What is longer than they can say was never read from a network in one piece.
fn length(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes()
}

fn records(mut key: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (&tag, rest) = key.split_first()?;
        let (record, rest) = split_at_length(rest)?;
        key = rest;
        Some((tag, record))
    })
}

fn split_record(record: &[u8]) -> Option<(&[u8], &[u8])> {
    split_at_length(record)
}

fn split_at_length(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

// RFC 6749 §3.3: scope-token = 1*( %x21 / %x23-5B / %x5D-7E )
fn fault_in_scope(scope: &str) -> Option<String> {
    if scope.is_empty() {
        return Some("a scope is empty: leave it out".into());
    }
    if scope.contains(' ') {
        return Some(format!(
            "the scope {scope:?} has a blank in it: give each scope by itself"
        ));
    }
    let allowed = |c: u8| matches!(c, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    (!scope.bytes().all(allowed)).then(|| {
        format!(
            "the scope {scope:?} is not of RFC 6749's characters: printable ASCII without quote and backslash"
        )
    })
}

// RFC 8707 §2: an absolute URI without a fragment.
fn fault_in_resource(resource: &str) -> Option<String> {
    if resource.contains('#') {
        return Some(format!(
            "the resource {resource:?} has a fragment: leave out what stands from # on"
        ));
    }
    url::Url::parse(resource)
        .is_err()
        .then(|| format!("the resource {resource:?} is no absolute URI: write it with its scheme"))
}

fn fault_in_tenant(tenant: &str) -> Option<String> {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || c == b'.' || c == b'-';
    // A tenant of dots alone would climb in the provider's path.
    let fine = tenant.bytes().all(allowed) && tenant.bytes().any(|c| c != b'.');
    (!fine).then(|| format!("the tenant {tenant:?} is not of letters, digits, dot and dash alone"))
}

/// What is wrong with a further parameter of this name for all that a source asks for. An audience may be the same for all; a
/// spec's own takes its place.
pub(crate) fn fault_in_source_extra(name: &str) -> Option<String> {
    if name == "audience" {
        return None;
    }
    fault_in_extra(name)
}

/// What is wrong with a further parameter of this name.
fn fault_in_extra(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("a further parameter has no name".into());
    }
    RESERVED
        .contains(&name)
        .then(|| format!("the parameter {name} is set by the token request itself"))
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
