//! Claims that a token has to satisfy: OpenID's claims request, as continuous access evaluation sends it about. Pure.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::form::Form;
use super::oauth_error::OAuthError;

/// What an API wants of every token from some time on.
#[derive(Clone, Debug)]
pub(super) struct RequiredClaims {
    /// As a challenge carries it.
    encoded: String,
    /// None: it is no JSON object, and so no token satisfies it.
    required: Option<Value>,
}

impl RequiredClaims {
    pub(super) fn new(claims: &str) -> Self {
        Self {
            encoded: STANDARD.encode(claims),
            required: object(claims),
        }
    }

    /// Whether a token is good that was asked for with these claims.
    pub(super) fn are_satisfied_by(&self, requested: Option<&Value>) -> bool {
        match (&self.required, requested) {
            (Some(required), Some(requested)) => contains(requested, required),
            _ => false,
        }
    }

    /// In base64, as `claims` of a challenge.
    pub(super) fn encoded(&self) -> &str {
        &self.encoded
    }
}

/// The claims that a token request asks for.
pub(super) fn requested(form: &Form) -> Result<Option<Value>, OAuthError> {
    let Some(claims) = form.one("claims")? else {
        return Ok(None);
    };
    match object(claims) {
        Some(claims) => Ok(Some(claims)),
        None => Err(OAuthError::invalid_request("the claims are no JSON object")),
    }
}

fn object(claims: &str) -> Option<Value> {
    let claims: Value = serde_json::from_str(claims).ok()?;
    claims.is_object().then_some(claims)
}

/// Whether all that is wanted is there; there may be more.
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
    fn claims_meet_a_demand_if_all_of_it_is_in_them() {
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
    fn a_demand_that_is_no_object_is_met_by_nothing() {
        for required_claims in ["", "[]", "{"] {
            let required_claims = RequiredClaims::new(required_claims);
            assert!(
                !required_claims.are_satisfied_by(object("{}").as_ref()),
                "{required_claims:?}"
            );
        }
    }

    #[test]
    fn claims_of_a_request_are_an_object_or_refused() {
        let read = |form: &str| requested(&Form::parse(form.as_bytes()));
        assert_eq!(read("").unwrap(), None);
        assert!(read("claims=%7B%7D").unwrap().is_some());
        for malformed in ["claims=x", "claims=7", "claims=%7B%7D&claims=%7B%7D"] {
            assert!(read(malformed).is_err(), "{malformed}");
        }
    }
}
