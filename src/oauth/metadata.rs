//! This module parses the metadata of an authorization server (RFC 8414, OpenID Connect Discovery) and derives its URLs.
//!
//! Only the members that a token request needs are read. All others are ignored, even if they are malformed.

use http::{Uri, uri::Scheme};
use serde_json::{Map, Value};
use url::Url;

use super::{
    endpoint_url::{Kind, parse},
    text::{graphic, trim},
};
use crate::{
    error::{ErrorKind, TokenError},
    util::loopback::is_loopback,
};

/// The maximum number of authentication methods.
const MAX_METHODS: usize = 20;
/// The maximum number of characters of an authentication method.
const MAX_METHOD: usize = 60;
/// The maximum number of characters of an issuer in an error.
const MAX_ISSUER: usize = 200;

/// The metadata that a token request needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Metadata {
    pub(crate) token_endpoint: Uri,
    /// The token endpoint for clients with a TLS certificate (RFC 8705 §5).
    pub(crate) mtls_token_endpoint: Option<Uri>,
    /// The supported methods of client authentication. Empty if the provider does not list them.
    pub(crate) auth_methods: Vec<String>,
}

/// Returns the possible URLs of the metadata, the most likely first.
pub(crate) fn well_known(issuer: &str) -> Vec<String> {
    let Some(mut url) = Url::parse(issuer).ok().filter(Url::has_host) else {
        return Vec::new();
    };
    // RFC 8414 §3.1: "If the issuer identifier value contains a path component, any terminating "/" MUST be removed before
    // inserting "/.well-known/" and the well-known URI suffix between the host component and the path component."
    let path = url.path().trim_end_matches('/').to_owned();
    let mut paths = vec![
        format!("/.well-known/oauth-authorization-server{path}"),
        // OpenID Connect Discovery §4.1 appends: "using […] the path formed by concatenating the string
        // /.well-known/openid-configuration to the Issuer".
        format!("{path}/.well-known/openid-configuration"),
    ];
    if !path.is_empty() {
        // RFC 8414 §5 also inserts the path of OpenID Connect's document.
        paths.push(format!("/.well-known/openid-configuration{path}"));
    }
    let at = |path: String| {
        url.set_path(&path);
        url.to_string()
    };
    paths.into_iter().map(at).collect()
}

/// Parses the metadata of this issuer.
pub(crate) fn metadata(body: &[u8], issuer: &str) -> Result<Metadata, TokenError> {
    let members: Map<String, Value> =
        serde_json::from_slice(trim(body)).map_err(|_| malformed("are not a JSON object"))?;
    let declared = text(&members, "issuer").ok_or_else(|| malformed("have no issuer"))?;
    // RFC 8414 §3.3: "The "issuer" value returned MUST be identical to the authorization server's issuer identifier value
    // […]. If these values are not identical, the data contained in the response MUST NOT be used."
    if declared != issuer {
        return Err(TokenError::configuration(format!(
            "the provider's metadata have the issuer {}, which differs from the configured one: if it is the intended \
             issuer, configure exactly this value",
            graphic(declared, MAX_ISSUER)
        )));
    }
    let token_endpoint = endpoint(&members, issuer)?
        .ok_or_else(|| malformed("have no token_endpoint, so this provider issues no tokens"))?;
    let aliases = members.get("mtls_endpoint_aliases");
    let aliases = aliases.and_then(Value::as_object);
    let mtls_token_endpoint = aliases
        .map(|aliases| endpoint(aliases, issuer))
        .transpose()?;
    Ok(Metadata {
        token_endpoint,
        mtls_token_endpoint: mtls_token_endpoint.flatten(),
        auth_methods: methods(&members),
    })
}

/// Returns the member `token_endpoint`, if it exists.
fn endpoint(members: &Map<String, Value>, issuer: &str) -> Result<Option<Uri>, TokenError> {
    let Some(text) = text(members, "token_endpoint") else {
        return Ok(None);
    };
    let uri = parse(Kind::TokenUrl, text)
        .map_err(|error| malformed("have an invalid token_endpoint").with_source(error))?;
    // A token endpoint without TLS is only accepted if the metadata were fetched without TLS, both from loopback.
    let is_local = |uri: &Uri| uri.host().is_some_and(is_loopback);
    let is_loopback_issuer = issuer
        .parse()
        .is_ok_and(|issuer: Uri| issuer.scheme() == Some(&Scheme::HTTP) && is_local(&issuer));
    let is_secure = uri.scheme() == Some(&Scheme::HTTPS);
    if is_secure || (is_local(&uri) && is_loopback_issuer) {
        return Ok(Some(uri));
    }
    Err(malformed(
        "have a token_endpoint without TLS, which is not allowed",
    ))
}

fn methods(members: &Map<String, Value>) -> Vec<String> {
    let declared = members.get("token_endpoint_auth_methods_supported");
    let methods = declared.and_then(Value::as_array).into_iter().flatten();
    methods
        .filter_map(Value::as_str)
        .filter(|method| method.len() <= MAX_METHOD && method.chars().all(|c| c.is_ascii_graphic()))
        .take(MAX_METHODS)
        .map(str::to_owned)
        .collect()
}

fn text<'a>(members: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    members.get(name)?.as_str()
}

fn malformed(what: &str) -> TokenError {
    TokenError::new(
        ErrorKind::Malformed,
        format!(
            "the provider's metadata {what}: check the issuer, or configure the token URL itself"
        ),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const ISSUER: &str = "https://login.example/acme";

    fn read(document: &Value) -> Result<Metadata, TokenError> {
        metadata(document.to_string().as_bytes(), ISSUER)
    }

    #[test]
    fn path_of_the_issuer_comes_before_or_after_well_known() {
        let paths = [
            "https://login.example/.well-known/oauth-authorization-server/acme",
            "https://login.example/acme/.well-known/openid-configuration",
            "https://login.example/.well-known/openid-configuration/acme",
        ];
        assert_eq!(well_known(ISSUER), paths);
        assert_eq!(well_known("https://login.example/acme/"), paths);
    }

    #[test]
    fn issuer_without_a_path_has_two_metadata_urls() {
        let paths = [
            "http://localhost:8080/.well-known/oauth-authorization-server",
            "http://localhost:8080/.well-known/openid-configuration",
        ];
        assert_eq!(well_known("http://localhost:8080"), paths);
        assert_eq!(well_known("http://localhost:8080/"), paths);
        for issuer in ["no url", "mailto:a", "x:-/y{z"] {
            assert!(well_known(issuer).is_empty(), "{issuer}");
        }
    }

    #[test]
    fn required_members_are_read() {
        let document = json!({
            "issuer": ISSUER,
            "token_endpoint": "https://login.example/acme/token",
            "mtls_endpoint_aliases": { "token_endpoint": "https://mtls.login.example/token", "other": 7 },
            "token_endpoint_auth_methods_supported": ["private_key_jwt", 7, "tls_client_auth", "a\nb"],
            "anything": [null],
        });
        let found = read(&document).unwrap();
        assert_eq!(found.token_endpoint, "https://login.example/acme/token");
        let alias = found.mtls_token_endpoint.unwrap();
        assert_eq!(alias, "https://mtls.login.example/token");
        assert_eq!(found.auth_methods, ["private_key_jwt", "tls_client_auth"]);
        let marked = format!("\u{feff} {document}\n");
        assert!(metadata(marked.as_bytes(), ISSUER).is_ok());
    }

    #[test]
    fn issuer_is_compared_exactly() {
        for other in [
            "https://login.example/acme/",
            "https://login.example/Acme",
            "https://login.example:443/acme",
            "https://evil.example/acme",
        ] {
            let document = json!({ "issuer": other, "token_endpoint": "https://login.example/t" });
            let error = read(&document).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration);
            assert!(error.to_string().contains(other), "{error}");
        }
    }

    #[test]
    fn errors_name_the_fault_and_the_remedy() {
        for (document, part) in [
            (json!([]), "JSON"),
            (json!({ "token_endpoint": "https://x/" }), "no issuer"),
            (json!({ "issuer": 7 }), "no issuer"),
            (json!({ "issuer": ISSUER }), "no token_endpoint"),
            (
                json!({ "issuer": ISSUER, "token_endpoint": "/t" }),
                "invalid token_endpoint",
            ),
            (
                json!({ "issuer": ISSUER, "token_endpoint": "https://a:b@c/" }),
                "invalid token_endpoint",
            ),
            (
                json!({ "issuer": ISSUER, "token_endpoint": "http://login.example/" }),
                "TLS",
            ),
            // Plain HTTP to loopback is only accepted from a provider on loopback.
            (
                json!({ "issuer": ISSUER, "token_endpoint": "http://127.0.0.1/" }),
                "TLS",
            ),
        ] {
            let error = read(&document).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Malformed);
            let shown = error.to_string();
            assert!(
                shown.contains(part) && shown.contains("check the issuer"),
                "{shown}"
            );
        }
    }

    #[test]
    fn provider_on_loopback_needs_no_tls() {
        let read = |endpoint: &str| {
            let issuer = "http://127.0.0.1:80";
            let document = json!({ "issuer": issuer, "token_endpoint": endpoint });
            metadata(document.to_string().as_bytes(), issuer)
        };
        assert!(read("http://localhost:8080/token").is_ok());
        assert!(read("https://login.example/token").is_ok());
        assert!(read("http://login.example/token").is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(body in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = metadata(&body, ISSUER);
        }

        #[test]
        fn arbitrary_members_do_not_panic(name in "[a-z_]{0,40}", value in ".{0,60}", issuer in ".{0,60}") {
            let document = json!({ "issuer": issuer, "token_endpoint": value, name: value });
            if let Ok(found) = metadata(document.to_string().as_bytes(), &issuer) {
                prop_assert!(found.token_endpoint.host().is_some());
            }
            // Metadata is only fetched for valid issuers.
            if crate::oauth::EndpointUrl::issuer(&issuer).sample().is_err() {
                return Ok(());
            }
            for path in well_known(&issuer) {
                prop_assert!(path.contains("/.well-known/"));
            }
        }
    }
}
