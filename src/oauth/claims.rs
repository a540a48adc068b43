//! The parameter `claims` of a token request (OpenID Connect Core §5.5): what a server wants of the token, and what the
//! client says that it can handle.

use serde_json::{Map, Value, json};

/// How deep two objects are merged; what lies deeper is replaced.
const DEPTH: usize = 8;

/// The parameter's value, if there is anything to say. Claims that are no JSON object count as none.
pub(crate) fn claims_parameter(capabilities: &[String], required: Option<&str>) -> Option<String> {
    let required = required.and_then(|text| match serde_json::from_str(text) {
        Ok(Value::Object(claims)) => Some((text, claims)),
        _ => None,
    });
    if capabilities.is_empty() {
        // As it came: nobody knows what a provider makes of another order.
        return required.map(|(text, _)| text.to_owned());
    }
    // Microsoft's way to declare what a client can handle: `xms_cc` among the access token's claims.
    let declared = json!({ "access_token": { "xms_cc": { "values": capabilities } } });
    let mut claims = required.map(|(_, claims)| claims).unwrap_or_default();
    if let Value::Object(declared) = declared {
        merge(&mut claims, declared, DEPTH);
    }
    Some(Value::Object(claims).to_string())
}

/// Puts the second into the first, object into object.
fn merge(into: &mut Map<String, Value>, from: Map<String, Value>, depth: usize) {
    for (name, value) in from {
        match (into.get_mut(&name), value) {
            (Some(Value::Object(into)), Value::Object(from)) if depth > 0 => {
                merge(into, from, depth - 1);
            }
            (_, value) => {
                into.insert(name, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NBF: &str = r#"{"access_token":{"nbf":{"essential":true,"value":"1604106651"}}}"#;

    fn of(capabilities: &[&str], required: Option<&str>) -> Option<Value> {
        let capabilities: Vec<String> = capabilities.iter().map(|&one| one.into()).collect();
        let text = claims_parameter(&capabilities, required)?;
        Some(serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn without_anything_to_say_there_is_no_parameter() {
        assert_eq!(of(&[], None), None);
    }

    #[test]
    fn what_a_server_wants_goes_as_it_came() {
        assert_eq!(claims_parameter(&[], Some(NBF)).as_deref(), Some(NBF));
    }

    #[test]
    fn a_capability_is_declared_beside_what_is_wanted() {
        let both = json!({ "access_token": {
            "nbf": { "essential": true, "value": "1604106651" },
            "xms_cc": { "values": ["cp1"] },
        } });
        assert_eq!(of(&["cp1"], Some(NBF)), Some(both));
        let declared = json!({ "access_token": { "xms_cc": { "values": ["cp1"] } } });
        assert_eq!(of(&["cp1"], None), Some(declared.clone()));
        assert_eq!(of(&["cp1"], Some("[]")), Some(declared.clone()));
        assert_eq!(
            of(&["cp1"], Some(r#"{"access_token":null}"#)),
            Some(declared)
        );
    }

    proptest! {
        #[test]
        fn whatever_a_server_wants_an_object_is_sent(required in ".*") {
            if let Some(claims) = of(&["cp1"], Some(&required)) {
                prop_assert!(claims.is_object());
            }
        }
    }
}
