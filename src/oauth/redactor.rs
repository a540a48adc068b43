//! What a token request carried that nobody may see, to be found again in what the provider answers.

use zeroize::Zeroizing;

use super::basic::{BasicCredentials, percent_encode};

/// The secrets that a request carried, in every form in which it did.
#[derive(Default)]
pub(crate) struct Redactor(Vec<Zeroizing<String>>);

impl Redactor {
    pub(super) fn add_client(&mut self, client: BasicCredentials<'_>) {
        self.add(client.secret);
        let credentials = client.encoded();
        self.0
            .push(Zeroizing::new(credentials.trim_end_matches('=').to_owned()));
    }

    /// For what may be a secret, or a word that the provider's description needs.
    pub(crate) fn add_if_long(&mut self, value: &str) {
        if value.len() >= 8 {
            self.add(value);
        }
    }

    pub(crate) fn add(&mut self, secret: &str) {
        if secret.is_empty() {
            return;
        }
        let mut percents = Zeroizing::new(String::with_capacity(3 * secret.len()));
        percent_encode(secret, &mut percents);
        let form = Zeroizing::new(percents.replace("%20", "+"));
        for one in [Zeroizing::new(secret.to_owned()), percents, form] {
            if !self.0.contains(&one) {
                self.0.push(one);
            }
        }
    }

    /// Takes every secret that was sent out of a text.
    pub(super) fn redact(&self, text: &str) -> String {
        const REDACTED: &str = "[redacted]";
        // A secret so short is found in innocent words, and the gaps would show it.
        const SHORT: usize = 6;
        let mut text = text.to_owned();
        for secret in &self.0 {
            if !text.contains(secret.as_str()) {
                continue;
            }
            if secret.len() < SHORT {
                return REDACTED.to_owned();
            }
            text = text.replace(secret.as_str(), REDACTED);
        }
        text
    }
}
