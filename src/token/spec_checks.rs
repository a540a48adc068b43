//! Checks the parts of a [`TokenSpec`](super::TokenSpec). A check returns what is wrong with the part, if anything is.

// RFC 6749 §3.3: scope-token = 1*( %x21 / %x23-5B / %x5D-7E )
pub(super) fn fault_in_scope(scope: &str) -> Option<String> {
    if scope.is_empty() {
        return Some("a scope is empty: remove it".into());
    }
    if scope.contains(' ') {
        return Some(format!(
            "the scope {scope:?} contains a space: pass each scope separately"
        ));
    }
    let allowed = |c: u8| matches!(c, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    (!scope.bytes().all(allowed)).then(|| {
        format!(
            "the scope {scope:?} contains characters that RFC 6749 does not allow: use printable ASCII without quotes and backslashes"
        )
    })
}

// RFC 8707 §2: an absolute URI without a fragment.
pub(super) fn fault_in_resource(resource: &str) -> Option<String> {
    if resource.contains('#') {
        return Some(format!(
            "the resource {resource:?} has a fragment: remove it"
        ));
    }
    url::Url::parse(resource)
        .is_err()
        .then(|| format!("the resource {resource:?} is not an absolute URI: add its scheme"))
}

pub(super) fn fault_in_tenant(tenant: &str) -> Option<String> {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || c == b'.' || c == b'-';
    // A tenant of only dots would change the path of the provider's URL.
    let is_valid = tenant.bytes().all(allowed) && tenant.bytes().any(|c| c != b'.');
    (!is_valid).then(|| format!("the tenant {tenant:?} contains characters other than ASCII letters, digits, `.` and `-`, or only dots"))
}

/// Checks the name of an extra parameter that a source sends in all requests. It may set an audience, which that of a spec
/// replaces.
pub(crate) fn fault_in_source_extra(name: &str) -> Option<String> {
    fault_in_extra(name).filter(|_| name != "audience")
}

/// Checks the name of an extra parameter of a spec.
pub(super) fn fault_in_extra(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("an extra parameter has an empty name".into());
    }
    RESERVED.contains(&name).then(|| {
        format!("the parameter `{name}` can't be an extra parameter: the token request sets it")
    })
}

/// The parameters that the token request sets.
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
