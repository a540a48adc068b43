//! Recognizes the paths of the metadata documents of RFC 8414 and OpenID Connect Discovery.

/// The standard that defines a metadata document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MetadataStandard {
    OAuth,
    OpenId,
}

/// Returns the standard and the issuer's path if this is the path of a metadata document.
///
/// RFC 8414 puts its well-known name before the issuer's path. OpenID Connect Discovery appends its own name, which RFC 8414,
/// section 5, also allows before the issuer's path.
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
    fn issuer_path_comes_before_or_after_the_well_known_name() {
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
