//! Claims that a token has to satisfy: OpenID's claims request, as continuous access evaluation sends it about. Pure.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::form::Form;
use super::refusal::Refusal;

/// What an API wants of every token from some time on.
#[derive(Clone, Debug)]
pub(super) struct Demand {
    /// As a challenge carries it.
    encoded: String,
    /// None: it is no JSON object, and so no token satisfies it.
    wanted: Option<Value>,
}

impl Demand {
    pub(super) fn new(claims: &str) -> Self {
        Self {
            encoded: STANDARD.encode(claims),
            wanted: object(claims),
        }
    }

    /// Whether a token is good that was asked for with these claims.
    pub(super) fn is_met_by(&self, asked: Option<&Value>) -> bool {
        match (&self.wanted, asked) {
            (Some(wanted), Some(asked)) => holds(asked, wanted),
            _ => false,
        }
    }

    /// In base64, as `claims` of a challenge.
    pub(super) fn encoded(&self) -> &str {
        &self.encoded
    }
}

/// The claims that a token request asks for.
pub(super) fn asked(form: &Form) -> Result<Option<Value>, Refusal> {
    let Some(claims) = form.one("claims")? else {
        return Ok(None);
    };
    match object(claims) {
        Some(claims) => Ok(Some(claims)),
        None => Err(Refusal::invalid_request("the claims are no JSON object")),
    }
}

fn object(claims: &str) -> Option<Value> {
    let claims: Value = serde_json::from_str(claims).ok()?;
    claims.is_object().then_some(claims)
}

/// Whether all that is wanted is there; there may be more.
fn holds(there: &Value, wanted: &Value) -> bool {
    let (Value::Object(there), Value::Object(wanted)) = (there, wanted) else {
        return there == wanted;
    };
    wanted
        .iter()
        .all(|(name, wanted)| there.get(name).is_some_and(|there| holds(there, wanted)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NBF: &str = r#"{"access_token":{"nbf":{"essential":true,"value":"1604106651"}}}"#;

    #[test]
    fn claims_meet_a_demand_if_all_of_it_is_in_them() {
        let demand = Demand::new(NBF);
        let met = |claims| demand.is_met_by(object(claims).as_ref());
        assert!(met(NBF));
        assert!(met(
            r#"{"access_token":{"xms_cc":{"values":["cp1"]},"nbf":{"value":"1604106651","essential":true}}}"#
        ));
        assert!(!met(
            r#"{"access_token":{"nbf":{"essential":true,"value":"1604106650"}}}"#
        ));
        assert!(!met(r#"{"access_token":{}}"#));
        assert!(!demand.is_met_by(None));
    }

    #[test]
    fn a_demand_that_is_no_object_is_met_by_nothing() {
        for demand in ["", "[]", "{"] {
            let demand = Demand::new(demand);
            assert!(!demand.is_met_by(object("{}").as_ref()), "{demand:?}");
        }
    }

    #[test]
    fn claims_of_a_request_are_an_object_or_refused() {
        let read = |form: &str| asked(&Form::parse(form.as_bytes()));
        assert_eq!(read("").unwrap(), None);
        assert!(read("claims=%7B%7D").unwrap().is_some());
        for malformed in ["claims=x", "claims=7", "claims=%7B%7D&claims=%7B%7D"] {
            assert!(read(malformed).is_err(), "{malformed}");
        }
    }
}
