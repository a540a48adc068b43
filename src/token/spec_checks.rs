//! Checks the parts of a [`TokenSpec`](super::TokenSpec). A check returns what is wrong with the part, if anything is.

// RFC 6749 §3.3: scope-token = 1*( %x21 / %x23-5B / %x5D-7E )
pub(super) fn fault_in_scope(scope: &str) -> Option<String> {
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
pub(super) fn fault_in_resource(resource: &str) -> Option<String> {
    if resource.contains('#') {
        return Some(format!(
            "the resource {resource:?} has a fragment: leave out what stands from # on"
        ));
    }
    url::Url::parse(resource)
        .is_err()
        .then(|| format!("the resource {resource:?} is no absolute URI: write it with its scheme"))
}

pub(super) fn fault_in_tenant(tenant: &str) -> Option<String> {
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
pub(super) fn fault_in_extra(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("a further parameter has no name".into());
    }
    RESERVED
        .contains(&name)
        .then(|| format!("the parameter {name} is set by the token request itself"))
}

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
