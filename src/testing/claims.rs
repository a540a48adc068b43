//! Compares the claims that a token was requested with to the claims that the API requires (OpenID Connect's claims request, as
//! used by continuous access evaluation).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::form::Form;
use super::oauth_error::OAuthError;

/// The claims that an API requires of every token.
#[derive(Clone, Debug)]
pub(super) struct RequiredClaims {
    /// The base64 form used in a challenge.
    encoded: String,
    /// `None` if the text is not a JSON object. No token satisfies that.
    required: Option<Value>,
}

impl RequiredClaims {
    pub(super) fn new(claims: &str) -> Self {
        Self {
            encoded: STANDARD.encode(claims),
            required: object(claims),
        }
    }

    /// Returns `true` if a token requested with these claims has all required ones.
    pub(super) fn are_satisfied_by(&self, requested: Option<&Value>) -> bool {
        match (&self.required, requested) {
            (Some(required), Some(requested)) => contains(requested, required),
            _ => false,
        }
    }

    /// Returns the base64 value of a challenge's `claims` attribute.
    pub(super) fn encoded(&self) -> &str {
        &self.encoded
    }
}

/// Reads the `claims` parameter of a token request.
pub(super) fn requested(form: &Form) -> Result<Option<Value>, OAuthError> {
    let Some(claims) = form.one("claims")? else {
        return Ok(None);
    };
    match object(claims) {
        Some(claims) => Ok(Some(claims)),
        None => Err(OAuthError::invalid_request("`claims` is not a JSON object")),
    }
}

fn object(claims: &str) -> Option<Value> {
    let claims: Value = serde_json::from_str(claims).ok()?;
    claims.is_object().then_some(claims)
}

/// Returns `true` if `present` contains everything in `required`, possibly among other members.
fn contains(present: &Value, required: &Value) -> bool {
    let (Value::Object(present), Value::Object(required)) = (present, required) else {
        return present == required;
    };
    required.iter().all(|(name, required)| {
        present
            .get(name)
            .is_some_and(|present| contains(present, required))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NBF: &str = r#"{"access_token":{"nbf":{"essential":true,"value":"1604106651"}}}"#;

    #[test]
    fn all_required_claims_have_to_be_requested() {
        let required_claims = RequiredClaims::new(NBF);
        let met = |claims| required_claims.are_satisfied_by(object(claims).as_ref());
        assert!(met(NBF));
        assert!(met(
            r#"{"access_token":{"xms_cc":{"values":["cp1"]},"nbf":{"value":"1604106651","essential":true}}}"#
        ));
        assert!(!met(
            r#"{"access_token":{"nbf":{"essential":true,"value":"1604106650"}}}"#
        ));
        assert!(!met(r#"{"access_token":{}}"#));
        assert!(!required_claims.are_satisfied_by(None));
    }

    #[test]
    fn requirement_that_is_not_an_object_is_never_satisfied() {
        for required_claims in ["", "[]", "{"] {
            let required_claims = RequiredClaims::new(required_claims);
            assert!(
                !required_claims.are_satisfied_by(object("{}").as_ref()),
                "{required_claims:?}"
            );
        }
    }

    #[test]
    fn requested_claims_have_to_be_one_json_object() {
        let read = |form: &str| requested(&Form::parse(form.as_bytes()));
        assert_eq!(read("").unwrap(), None);
        assert!(read("claims=%7B%7D").unwrap().is_some());
        for malformed in ["claims=x", "claims=7", "claims=%7B%7D&claims=%7B%7D"] {
            assert!(read(malformed).is_err(), "{malformed}");
        }
    }
}
