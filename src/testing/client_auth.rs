//! Authenticates clients by a secret in the header or the form, by an assertion, or by a certificate.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HeaderMap};

use super::assertion::Assertion;
use super::client::Client;
use super::form::Form;
use super::oauth_error::OAuthError;

/// The method by which a client authenticated at the token endpoint or tried to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AuthMethod {
    /// `client_secret_basic`: an `Authorization` header.
    Basic,
    /// `client_secret_post`: a `client_secret` in the form.
    Post,
    /// `client_secret_jwt`: a `client_assertion` that is signed with the secret.
    SecretJwt,
    /// `private_key_jwt`: a `client_assertion` of any other kind.
    PrivateKeyJwt,
    /// `tls_client_auth`: a certificate in the TLS handshake and none of the methods above.
    Certificate,
    /// None of these.
    None,
}

/// The parts of an HTTP request that client authentication depends on.
#[derive(Clone, Copy)]
pub(super) struct RequestContext<'a> {
    pub(super) headers: &'a HeaderMap,
    /// The client's TLS certificate in DER, if it sent one.
    pub(super) certificate: Option<&'a [u8]>,
    /// The origin of the server.
    pub(super) origin: &'a str,
    pub(super) path: &'a str,
}

/// The registered clients.
pub(super) struct Clients<'a> {
    pub(super) registered: &'a HashMap<String, Client>,
    /// The IDs of the assertions used so far.
    pub(super) used_assertions: &'a Mutex<HashSet<String>>,
}

impl AuthMethod {
    pub(super) fn of(context: RequestContext<'_>, form: &Form) -> Self {
        if context.headers.contains_key(AUTHORIZATION) {
            return Self::Basic;
        }
        if !form.all("client_secret").is_empty() {
            return Self::Post;
        }
        if let Some(assertion) = form.all("client_assertion").first() {
            let by_secret = Assertion::parse(assertion).is_some_and(|jwt| jwt.uses_secret());
            return match by_secret {
                true => Self::SecretJwt,
                false => Self::PrivateKeyJwt,
            };
        }
        match context.certificate {
            Some(_) => Self::Certificate,
            None => Self::None,
        }
    }
}

/// Authenticates the client and returns its ID.
pub(super) fn authenticate(
    context: RequestContext<'_>,
    form: &Form,
    clients: &Clients<'_>,
) -> Result<String, OAuthError> {
    let headers = context.headers;
    let tried_header = headers.contains_key(AUTHORIZATION);
    let error = OAuthError::invalid_client(tried_header);
    let client_id = form.one("client_id")?;
    let posted = form.one("client_secret")?;
    let assertion = form.one("client_assertion")?;
    // RFC 6749, section 2.3: "The client MUST NOT use more than one authentication method in each request."
    let methods = [tried_header, posted.is_some(), assertion.is_some()];
    if methods.into_iter().filter(|method| *method).count() > 1
        || headers.get_all(AUTHORIZATION).iter().count() > 1
    {
        return Err(OAuthError::invalid_request(
            "the client used more than one authentication method",
        ));
    }
    if let Some(assertion) = assertion {
        let kind = form.one("client_assertion_type")?;
        if kind != Some("urn:ietf:params:oauth:client-assertion-type:jwt-bearer") {
            return Err(OAuthError::invalid_request("unknown client_assertion_type"));
        }
        return by_assertion(context, client_id, assertion, clients).ok_or(error);
    }
    let (id, secret) = if tried_header {
        let (id, secret) = basic(headers).ok_or(error)?;
        if client_id.is_some_and(|client_id| client_id != id) {
            return Err(OAuthError::invalid_request(
                "client_id differs from the client in the Authorization header",
            ));
        }
        (id, secret)
    } else if let Some(secret) = posted {
        (client_id.ok_or(error)?.to_owned(), secret.to_owned())
    } else {
        return by_certificate(context, client_id, clients).ok_or(error);
    };
    let known = clients
        .registered
        .get(&id)
        .and_then(|client| client.secret.as_ref());
    match known {
        Some(known) if *known == secret => Ok(id),
        _ => Err(error),
    }
}

fn by_assertion(
    context: RequestContext<'_>,
    client_id: Option<&str>,
    text: &str,
    clients: &Clients<'_>,
) -> Option<String> {
    // An assertion signed by a third party is compared as a whole.
    let third_party = |id: &str| clients.registered.get(id)?.assertion.as_deref();
    if let Some(id) = client_id.filter(|id| third_party(id) == Some(text)) {
        return Some(id.to_owned());
    }
    let assertion = Assertion::parse(text)?;
    let id = assertion.client()?;
    // RFC 7521, section 4.2: "If present, the value of the "client_id" parameter MUST identify the same client as is identified
    // by the client assertion."
    if client_id.is_some_and(|client_id| client_id != id) {
        return None;
    }
    if !assertion.is_signed_by(clients.registered.get(id)?) {
        return None;
    }
    let audiences = [
        context.origin.to_owned(),
        format!("{}{}", context.origin, context.path),
    ];
    let mut used = clients
        .used_assertions
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    assertion
        .is_acceptable(&audiences, &mut used)
        .then(|| id.to_owned())
}

/// Authenticates the client by the certificate registered for it (RFC 8705, section 2).
fn by_certificate(
    context: RequestContext<'_>,
    client_id: Option<&str>,
    clients: &Clients<'_>,
) -> Option<String> {
    let known = clients.registered.get(client_id?)?.certificate.as_deref()?;
    (context.certificate? == known).then_some(client_id?.to_owned())
}

/// Decodes the credentials of HTTP Basic authentication.
///
/// RFC 6749, section 2.3.1: "The client identifier is encoded using the "application/x-www-form-urlencoded" encoding algorithm
/// [...] and the encoded value is used as the username; the client password is encoded using the same algorithm and used as the
/// password."
fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let header = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, credentials) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let credentials = String::from_utf8(STANDARD.decode(credentials.trim()).ok()?).ok()?;
    let (id, secret) = credentials.split_once(':')?;
    Some((form_decoded(id)?, form_decoded(secret)?))
}

fn form_decoded(encoded: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(encoded.len());
    let mut bytes = encoded.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => hex(bytes.next()?)? << 4 | hex(bytes.next()?)?,
            other => other,
        });
    }
    String::from_utf8(decoded).ok()
}

fn hex(digit: u8) -> Option<u8> {
    u8::try_from(char::from(digit).to_digit(16)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "a b:c%d+e/é";

    #[test]
    fn both_encodings_of_a_space_are_accepted() {
        for encoded in ["a+b%3Ac%25d%2Be%2F%C3%A9", "a%20b%3ac%25d%2be/%c3%a9"] {
            assert_eq!(
                try_basic(&format!("us%3Aer:{encoded}")),
                Ok("us:er".to_owned()),
                "{encoded}"
            );
        }
    }

    #[test]
    fn unencoded_or_malformed_secret_is_rejected() {
        for wrong in [SECRET, "a%2", "a%zz", "%ff", ""] {
            assert_eq!(
                try_basic(&format!("us%3Aer:{wrong}")),
                Err(OAuthError::invalid_client(true)),
                "{wrong}"
            );
        }
        assert_eq!(try_basic("no colon"), Err(OAuthError::invalid_client(true)));
    }

    #[test]
    fn form_may_repeat_the_client_id_but_not_the_secret() {
        let headers = basic_header("us%3Aer:a+b%3Ac%25d%2Be%2F%C3%A9");
        let authenticate_with = |form: &str| try_with(&headers, form);
        assert!(authenticate_with("client_id=us:er").is_ok());
        assert!(
            matches!(authenticate_with("client_id=other"), Err(error) if error != OAuthError::invalid_client(true))
        );
        assert!(
            matches!(authenticate_with("client_secret=x"), Err(error) if error != OAuthError::invalid_client(true))
        );
    }

    #[test]
    fn client_without_a_secret_gets_no_challenge() {
        let error = try_with(&HeaderMap::new(), "client_id=us:er");
        assert_eq!(error, Err(OAuthError::invalid_client(false)));
    }

    fn try_basic(credentials: &str) -> Result<String, OAuthError> {
        try_with(&basic_header(credentials), "")
    }

    fn try_with(headers: &HeaderMap, form: &str) -> Result<String, OAuthError> {
        let context = RequestContext {
            headers,
            certificate: None,
            origin: "http://127.0.0.1",
            path: "/token",
        };
        let client = Client {
            secret: Some(SECRET.into()),
            ..Client::default()
        };
        let clients = Clients {
            registered: &HashMap::from([("us:er".to_owned(), client)]),
            used_assertions: &Mutex::default(),
        };
        authenticate(context, &Form::parse(form.as_bytes()), &clients)
    }

    fn basic_header(credentials: &str) -> HeaderMap {
        let value = format!("basic {}", STANDARD.encode(credentials));
        HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())])
    }
}
