//! This module implements [`Redactor`], which removes the secrets of a token request from the provider's error messages.

use zeroize::Zeroizing;

use super::basic::{basic_credentials, percent_encoded};

/// The secrets of a request, in every encoding in which it contains them.
#[derive(Default)]
pub(crate) struct Redactor(Vec<Zeroizing<String>>);

impl Redactor {
    /// Adds a client secret, also as it is encoded for `Authorization: Basic`.
    pub(super) fn add_client(&mut self, id: &str, secret: &str) {
        self.add(secret);
        let credentials = basic_credentials(id, secret);
        let credentials = str::from_utf8(&credentials).unwrap_or_default();
        let unpadded = credentials.trim_end_matches('=').to_owned();
        self.0.push(Zeroizing::new(unpadded));
    }

    /// Adds a value that may be a secret. A short one is ignored, because it may be an ordinary word of the provider's description.
    pub(crate) fn add_if_long(&mut self, value: &str) {
        if value.len() >= 8 {
            self.add(value);
        }
    }

    /// Adds a secret.
    pub(crate) fn add(&mut self, secret: &str) {
        if secret.is_empty() {
            return;
        }
        let plain = Zeroizing::new(secret.to_owned());
        let encoded = percent_encoded(secret);
        let form_encoded = Zeroizing::new(encoded.replace("%20", "+"));
        self.0.extend([plain, encoded, form_encoded]);
    }

    /// Replaces every secret in a text.
    pub(super) fn redact(&self, text: &str) -> String {
        const REDACTED: &str = "[redacted]";
        // A shorter secret also occurs in ordinary words, and what is missing from them would reveal it.
        const MIN_REPLACED: usize = 6;
        let mut text = text.to_owned();
        for secret in &self.0 {
            if !text.contains(secret.as_str()) {
                continue;
            }
            if secret.len() < MIN_REPLACED {
                return REDACTED.to_owned();
            }
            text = text.replace(secret.as_str(), REDACTED);
        }
        text
    }
}
