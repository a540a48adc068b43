//! This module implements [`Redactor`], which removes the secrets of a token request from the provider's error messages.

use zeroize::Zeroizing;

use super::basic::{BasicCredentials, percent_encode};

/// The secrets of a request, in every encoding in which it contains them.
#[derive(Default)]
pub(crate) struct Redactor(Vec<Zeroizing<String>>);

impl Redactor {
    pub(super) fn add_client(&mut self, client: BasicCredentials<'_>) {
        self.add(client.secret);
        let credentials = client.encoded();
        self.0
            .push(Zeroizing::new(credentials.trim_end_matches('=').to_owned()));
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
        let mut percent_encoded = Zeroizing::new(String::with_capacity(3 * secret.len()));
        percent_encode(secret, &mut percent_encoded);
        let form_encoded = Zeroizing::new(percent_encoded.replace("%20", "+"));
        for one in [
            Zeroizing::new(secret.to_owned()),
            percent_encoded,
            form_encoded,
        ] {
            if !self.0.contains(&one) {
                self.0.push(one);
            }
        }
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
