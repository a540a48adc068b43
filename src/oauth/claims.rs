//! This module builds the parameter `claims` of a token request (OpenID Connect Core §5.5) from the claims that a server requires
//! and the capabilities of the client.

use serde_json::{Map, Value, json};

/// Returns the value of the parameter, or `None` if there is nothing to send. Claims that are not a JSON object are ignored.
pub(crate) fn claims_parameter(capabilities: &[String], required: Option<&str>) -> Option<String> {
    let required = required.and_then(|text| match serde_json::from_str(text) {
        Ok(Value::Object(claims)) => Some((text, claims)),
        _ => None,
    });
    if capabilities.is_empty() {
        // Sent unchanged: a provider may depend on the order of the members.
        return required.map(|(text, _)| text.to_owned());
    }
    // Microsoft declares the capabilities of a client as `xms_cc` among the claims of the access token.
    let declared = json!({ "access_token": { "xms_cc": { "values": capabilities } } });
    let mut claims = required.map(|(_, claims)| claims).unwrap_or_default();
    if let Value::Object(declared) = declared {
        merge(&mut claims, declared);
    }
    Some(Value::Object(claims).to_string())
}

/// Merges the second object into the first, recursively. The recursion is as deep as the second object.
fn merge(into: &mut Map<String, Value>, from: Map<String, Value>) {
    for (name, value) in from {
        match (into.get_mut(&name), value) {
            (Some(Value::Object(into)), Value::Object(from)) => merge(into, from),
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

    fn parameter(capabilities: &[&str], required: Option<&str>) -> Option<Value> {
        let capabilities: Vec<String> = capabilities.iter().map(|&one| one.into()).collect();
        let text = claims_parameter(&capabilities, required)?;
        Some(serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn no_claims_and_no_capabilities_give_no_parameter() {
        assert_eq!(parameter(&[], None), None);
    }

    #[test]
    fn required_claims_are_sent_unchanged() {
        assert_eq!(claims_parameter(&[], Some(NBF)).as_deref(), Some(NBF));
    }

    #[test]
    fn capabilities_are_merged_into_required_claims() {
        let both = json!({ "access_token": {
            "nbf": { "essential": true, "value": "1604106651" },
            "xms_cc": { "values": ["cp1"] },
        } });
        assert_eq!(parameter(&["cp1"], Some(NBF)), Some(both));
        let declared = json!({ "access_token": { "xms_cc": { "values": ["cp1"] } } });
        assert_eq!(parameter(&["cp1"], None), Some(declared.clone()));
        assert_eq!(parameter(&["cp1"], Some("[]")), Some(declared.clone()));
        assert_eq!(
            parameter(&["cp1"], Some(r#"{"access_token":null}"#)),
            Some(declared)
        );
    }

    proptest! {
        #[test]
        fn parameter_is_always_an_object(required in ".*") {
            if let Some(claims) = parameter(&["cp1"], Some(&required)) {
                prop_assert!(claims.is_object());
            }
        }
    }
}
