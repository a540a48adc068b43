//! This module removes what some providers send around a JSON document.

/// Removes a byte-order mark, and whitespace at both ends.
pub(super) fn trim(body: &[u8]) -> &[u8] {
    const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
    let body = body.trim_ascii();
    body.strip_prefix(BYTE_ORDER_MARK)
        .unwrap_or(body)
        .trim_ascii()
}
