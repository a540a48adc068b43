//! Where the server describes itself, and what it says: RFC 8414 and OpenID Connect Discovery.

/// Which of the two standards a document is asked for by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MetadataStandard {
    OAuth,
    OpenId,
}

/// The standard, and the path of the issuer that is asked for, if a path is that of a document.
///
/// RFC 8414 puts its well-known name before the issuer's path, OpenID Connect Discovery puts its own behind it, and RFC 8414,
/// section 5, knows that one before it too.
pub(super) fn parse_path(path: &str) -> Option<(MetadataStandard, &str)> {
    let before = |name| {
        let rest = path.strip_prefix(name)?;
        (rest.is_empty() || rest.starts_with('/')).then_some(rest)
    };
    if let Some(issuer) = before(OAUTH) {
        return Some((MetadataStandard::OAuth, issuer));
    }
    let issuer = before(OPENID).or_else(|| path.strip_suffix(OPENID))?;
    Some((MetadataStandard::OpenId, issuer))
}

const OAUTH: &str = "/.well-known/oauth-authorization-server";
const OPENID: &str = "/.well-known/openid-configuration";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuers_path_stands_before_or_behind() {
        for (path, found) in [
            (
                "/.well-known/oauth-authorization-server",
                Some((MetadataStandard::OAuth, "")),
            ),
            (
                "/.well-known/oauth-authorization-server/a/b",
                Some((MetadataStandard::OAuth, "/a/b")),
            ),
            (
                "/.well-known/openid-configuration",
                Some((MetadataStandard::OpenId, "")),
            ),
            (
                "/.well-known/openid-configuration/a",
                Some((MetadataStandard::OpenId, "/a")),
            ),
            (
                "/a/.well-known/openid-configuration",
                Some((MetadataStandard::OpenId, "/a")),
            ),
            ("/a/.well-known/oauth-authorization-server", None),
            ("/.well-known/openid-configurations", None),
            ("/token", None),
        ] {
            assert_eq!(parse_path(path), found, "{path}");
        }
    }
}
