//! What providers put around their JSON, and do not mean.

/// The bytes without a byte-order mark, and without the blanks at either end.
pub(super) fn trim(body: &[u8]) -> &[u8] {
    const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
    let body = body.trim_ascii();
    body.strip_prefix(BYTE_ORDER_MARK)
        .unwrap_or(body)
        .trim_ascii()
}
