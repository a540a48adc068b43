//! This module cleans texts of a provider.

/// Removes what some providers send around a JSON document: a byte-order mark, and whitespace at both ends.
pub(super) fn trim(body: &[u8]) -> &[u8] {
    let body = body.trim_ascii();
    body.strip_prefix(b"\xef\xbb\xbf")
        .unwrap_or(body)
        .trim_ascii()
}

/// Returns the first `limit` characters that are graphic ASCII, which are safe in error messages and logs.
pub(super) fn graphic(text: &str, limit: usize) -> String {
    let graphic = text.chars().filter(char::is_ascii_graphic);
    graphic.take(limit).collect()
}
