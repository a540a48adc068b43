//! This module implements [`SecretJson`], a JSON object that contains secrets.

use serde_json::{Map, Value};
use zeroize::Zeroize;

/// The members of a JSON object. Every string in them is wiped on drop.
#[derive(Default)]
pub(crate) struct SecretJson(pub(crate) Map<String, Value>);

impl SecretJson {
    /// Parses an object. The parse error is dropped, because it may quote a secret.
    pub(crate) fn parse(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).map(Self).ok()
    }

    /// Returns a member that is a string.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }
}

impl Drop for SecretJson {
    fn drop(&mut self) {
        self.0.values_mut().for_each(wipe);
    }
}

/// Wipes every string in a value.
fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(values) => values.iter_mut().for_each(wipe),
        Value::Object(members) => members.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
