//! Reads form parameters by the rules of OAuth.

use std::collections::BTreeSet;

use super::oauth_error::OAuthError;

#[derive(Clone, Debug, Default)]
pub(super) struct Form(Vec<(String, String)>);

impl Form {
    pub(super) fn parse(body: &[u8]) -> Self {
        Self(form_urlencoded::parse(body).into_owned().collect())
    }

    /// Returns the value of a parameter that may be present once.
    ///
    /// RFC 6749, section 3.2: "Parameters sent without a value MUST be treated as if they were omitted from the request. [...]
    /// Request and response parameters MUST NOT be included more than once."
    pub(super) fn one(&self, name: &str) -> Result<Option<&str>, OAuthError> {
        let mut values = self.values(name);
        let first = values.next();
        match values.next() {
            None => Ok(first),
            Some(_) => Err(OAuthError::invalid_request(
                "a parameter is present more than once",
            )),
        }
    }

    pub(super) fn required(&self, name: &str) -> Result<&str, OAuthError> {
        self.one(name)?.ok_or(OAuthError::invalid_request(
            "a required parameter is missing",
        ))
    }

    /// Returns all values of a parameter that may be repeated, such as `resource` (RFC 8707).
    pub(super) fn all(&self, name: &str) -> Vec<String> {
        self.values(name).map(String::from).collect()
    }

    /// Returns the requested scopes without duplicates, in the order of the request.
    pub(super) fn scopes(&self) -> Result<Vec<String>, OAuthError> {
        let Some(scope) = self.one("scope")? else {
            return Ok(Vec::new());
        };
        let mut seen = BTreeSet::new();
        let mut scopes = Vec::new();
        for scope in scope.split(' ') {
            if !is_scope_token(scope) {
                return Err(OAuthError::invalid_scope("the scope is malformed"));
            }
            if seen.insert(scope) {
                scopes.push(scope.to_owned());
            }
        }
        Ok(scopes)
    }

    pub(super) fn into_pairs(self) -> Vec<(String, String)> {
        self.0
    }

    fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(move |(key, value)| key == name && !value.is_empty())
            .map(|(_, value)| value.as_str())
    }
}

/// RFC 6749, section 3.3: "scope-token = 1*( %x21 / %x23-5B / %x5D-7E )".
fn is_scope_token(token: &str) -> bool {
    !token.is_empty()
        && token
            .bytes()
            .all(|byte| matches!(byte, 0x21 | 0x23..=0x5B | 0x5D..=0x7E))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_is_missing_and_repeated_is_rejected() {
        let form = Form::parse(b"a=&b=1&c=1&c=2&resource=x&resource=y");
        assert_eq!(form.one("a").unwrap(), None);
        assert!(form.required("a").is_err());
        assert_eq!(form.one("b").unwrap(), Some("1"));
        assert!(form.one("c").is_err());
        assert_eq!(form.all("resource"), ["x", "y"]);
    }

    #[test]
    fn scopes_keep_their_order_and_malformed_ones_fail() {
        assert_eq!(Form::parse(b"scope=b+a+b").scopes().unwrap(), ["b", "a"]);
        assert!(Form::parse(b"").scopes().unwrap().is_empty());
        for malformed in ["scope=a++b", "scope=%22a%22", "scope=%C3%A9", "scope=+a"] {
            assert!(
                Form::parse(malformed.as_bytes()).scopes().is_err(),
                "{malformed}"
            );
        }
    }
}
