//! What a client shows for itself in a token request: in a header, in the form, or nothing but its id.

use http::{HeaderMap, header::AUTHORIZATION};

use super::{basic::Client, sent::Sent, token_request::Form};
use crate::{error::TokenError, secret::Exposed};

/// What a client shows for itself in one attempt.
pub(crate) enum ClientAuthParams {
    /// `client_secret_basic`: id and secret in the header `Authorization: Basic`.
    Basic(Exposed),
    /// `client_secret_post`: id and secret as parameters of the form.
    Post(Exposed),
    /// A JWT that says who it is from; and the secret that it was signed with, if it was, which is not sent.
    Assertion(Exposed, Option<Exposed>),
    /// The id alone: the client is public, or its certificate says the rest.
    Id,
}

impl ClientAuthParams {
    /// Puts it where it belongs.
    pub(crate) fn apply<'a>(
        &'a self,
        id: &'a str,
        form: &mut Form<'a>,
        headers: &mut HeaderMap,
    ) -> Result<(), TokenError> {
        match self {
            Self::Basic(secret) => {
                let secret = secret.as_str();
                headers.insert(AUTHORIZATION, Client { id, secret }.basic()?);
                return Ok(());
            }
            Self::Post(secret) => {
                form.push("client_id", id);
                form.push("client_secret", secret.as_str());
            }
            Self::Assertion(assertion, _) => {
                // RFC 7521 §4.2: "The "client_id" is unnecessary for client assertion authentication because the client
                // is identified by the subject within the assertion. If present, the value of the "client_id" parameter
                // MUST identify the same client". Microsoft Entra ID does want it.
                form.push("client_id", id);
                form.push("client_assertion_type", JWT_BEARER);
                form.push("client_assertion", assertion.as_str());
            }
            // RFC 8705 §2: "For all requests to the authorization server utilizing mutual-TLS client authentication, the
            // client MUST include the "client_id" parameter".
            Self::Id => form.push("client_id", id),
        }
        Ok(())
    }

    /// What must not come back in an error.
    pub(crate) fn sent(&self, id: &str) -> Sent {
        let mut sent = Sent::default();
        match self {
            Self::Basic(secret) | Self::Post(secret) => {
                let secret = secret.as_str();
                sent.add_client(Client { id, secret });
            }
            Self::Assertion(assertion, secret) => {
                sent.add(assertion.as_str());
                // The provider knows it, and could tell it as well.
                if let Some(secret) = secret {
                    let secret = secret.as_str();
                    sent.add_client(Client { id, secret });
                }
            }
            Self::Id => {}
        }
        sent
    }
}

/// RFC 7523 §2.2: "The value of the "client_assertion_type" is
/// "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"."
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
