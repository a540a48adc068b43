//! What a provider says of itself (RFC 8414, OpenID Connect Discovery), and where it says it.
//!
//! Only what a token request needs is read. Whatever else stands there, however odd, is passed over.

use http::{Uri, uri::Scheme};
use serde_json::{Map, Value};
use url::Url;

use super::{
    endpoint_url::{Kind, parse},
    json::trim,
};
use crate::{
    error::{ErrorKind, TokenError},
    util::loopback::is_loopback,
};

/// Authentication methods that are kept, and characters of each.
const MAX_METHODS: usize = 20;
const MAX_METHOD: usize = 60;
/// Characters of a foreign issuer that are shown.
const MAX_ISSUER: usize = 200;

/// What a token request needs to know of a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Metadata {
    pub(crate) token_endpoint: Uri,
    /// The same for clients that show a certificate (RFC 8705 §5).
    pub(crate) mtls_token_endpoint: Option<Uri>,
    /// How clients may prove themselves; nothing if the provider does not say.
    pub(crate) auth_methods: Vec<String>,
}

/// Where an issuer's metadata may be, the likeliest first.
pub(crate) fn well_known(issuer: &str) -> Vec<String> {
    let Ok(mut url) = Url::parse(issuer) else {
        return Vec::new();
    };
    if !url.has_host() {
        return Vec::new();
    }
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
        // RFC 8414 §5 moves OpenID's document too.
        paths.push(format!("/.well-known/openid-configuration{path}"));
    }
    let mut at = |path: String| {
        url.set_path(&path);
        url.to_string()
    };
    paths.into_iter().map(&mut at).collect()
}

/// Reads the metadata of this issuer.
pub(crate) fn metadata(body: &[u8], issuer: &str) -> Result<Metadata, TokenError> {
    let Ok(members) = serde_json::from_slice::<Map<String, Value>>(trim(body)) else {
        return Err(malformed("are no JSON object"));
    };
    let Some(declared) = text(&members, "issuer") else {
        return Err(malformed("name no issuer"));
    };
    // RFC 8414 §3.3: "The "issuer" value returned MUST be identical to the authorization server's issuer identifier value
    // […]. If these values are not identical, the data contained in the response MUST NOT be used."
    if declared != issuer {
        return Err(TokenError::configuration(format!(
            "the provider's metadata are those of the issuer {}, and not of the one that is configured: if that is the \
             one you mean, configure it letter by letter",
            printable(declared)
        )));
    }
    let token_endpoint = endpoint(&members, issuer)?
        .ok_or_else(|| malformed("name no token_endpoint, so this provider gives out no tokens"))?;
    let aliases = members
        .get("mtls_endpoint_aliases")
        .and_then(Value::as_object);
    let mtls_token_endpoint = match aliases {
        Some(aliases) => endpoint(aliases, issuer)?,
        None => None,
    };
    Ok(Metadata {
        token_endpoint,
        mtls_token_endpoint,
        auth_methods: methods(&members),
    })
}

/// The token endpoint that these members name, if they do.
fn endpoint(members: &Map<String, Value>, issuer: &str) -> Result<Option<Uri>, TokenError> {
    let Some(text) = text(members, "token_endpoint") else {
        return Ok(None);
    };
    let uri = parse(Kind::TokenUrl, text).map_err(|error| {
        malformed("name a token_endpoint that can't be asked").with_source(error)
    })?;
    // Without TLS on the way to the metadata, an address without TLS in them is as good; else somebody lowers the guard.
    let is_local = |uri: &Uri| uri.host().is_some_and(is_loopback);
    let is_loopback_issuer = issuer
        .parse()
        .is_ok_and(|issuer: Uri| issuer.scheme() == Some(&Scheme::HTTP) && is_local(&issuer));
    let is_secure = uri.scheme() == Some(&Scheme::HTTPS);
    if is_secure || (is_local(&uri) && is_loopback_issuer) {
        return Ok(Some(uri));
    }
    Err(malformed(
        "name a token_endpoint without TLS, to which no secret is sent",
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

/// A foreign text, fit for a message.
fn printable(text: &str) -> String {
    let graphic = text.chars().filter(char::is_ascii_graphic);
    graphic.take(MAX_ISSUER).collect()
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
    fn an_issuer_with_a_path_has_it_behind_and_before() {
        let paths = [
            "https://login.example/.well-known/oauth-authorization-server/acme",
            "https://login.example/acme/.well-known/openid-configuration",
            "https://login.example/.well-known/openid-configuration/acme",
        ];
        assert_eq!(well_known(ISSUER), paths);
        assert_eq!(well_known("https://login.example/acme/"), paths);
    }

    #[test]
    fn an_issuer_without_a_path_has_two_places() {
        let paths = [
            "http://localhost:8080/.well-known/oauth-authorization-server",
            "http://localhost:8080/.well-known/openid-configuration",
        ];
        assert_eq!(well_known("http://localhost:8080"), paths);
        assert_eq!(well_known("http://localhost:8080/"), paths);
        for nowhere in ["no url", "mailto:a", "x:-/y{z"] {
            assert!(well_known(nowhere).is_empty(), "{nowhere}");
        }
    }

    #[test]
    fn what_a_token_request_needs_is_read() {
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
    fn an_issuer_that_differs_in_one_letter_is_another() {
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
    fn each_fault_is_named_with_a_remedy() {
        for (document, part) in [
            (json!([]), "JSON"),
            (json!({ "token_endpoint": "https://x/" }), "no issuer"),
            (json!({ "issuer": 7 }), "no issuer"),
            (json!({ "issuer": ISSUER }), "no token_endpoint"),
            (
                json!({ "issuer": ISSUER, "token_endpoint": "/t" }),
                "can't be asked",
            ),
            (
                json!({ "issuer": ISSUER, "token_endpoint": "https://a:b@c/" }),
                "can't be asked",
            ),
            (
                json!({ "issuer": ISSUER, "token_endpoint": "http://login.example/" }),
                "TLS",
            ),
            // Plain HTTP to this machine is for providers of this machine.
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
    fn a_provider_of_this_machine_needs_no_tls_on_this_machine() {
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
        fn no_bytes_panic(body in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = metadata(&body, ISSUER);
        }

        #[test]
        fn no_member_panics(name in "[a-z_]{0,40}", value in ".{0,60}", issuer in ".{0,60}") {
            let document = json!({ "issuer": issuer, "token_endpoint": value, name: value });
            if let Ok(found) = metadata(document.to_string().as_bytes(), &issuer) {
                prop_assert!(found.token_endpoint.host().is_some());
            }
            // Nothing but what can be asked gets as far as that.
            if crate::oauth::EndpointUrl::issuer(&issuer).check().is_err() {
                return Ok(());
            }
            for path in well_known(&issuer) {
                prop_assert!(path.contains("/.well-known/"));
            }
        }
    }
}
