//! Removes headers that concern only one connection.

use http::{
    HeaderMap, HeaderName, HeaderValue, Version,
    header::{CONNECTION, COOKIE, HOST, TE, TRANSFER_ENCODING, UPGRADE},
};

/// Removes the headers of the connection between caller and proxy, before the token is added.
pub(crate) fn strip_request(headers: &mut HeaderMap, version: Version) {
    // RFC 9113 §8.2.2: TE "MAY be present in an HTTP/2 request; when it is, it MUST NOT contain any value other than
    // "trailers"". It is not a hop-by-hop header there, and gRPC servers require it.
    let trailers = version == Version::HTTP_2 && headers.get(TE).is_some_and(|te| te == "trailers");
    strip_response(headers);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    // The client sets the upstream's Host from its URL.
    headers.remove(HOST);
    if version == Version::HTTP_2 {
        join_cookies(headers);
    }
}

/// Removes hop-by-hop headers.
///
/// RFC 9110 §7.6.1: "Intermediaries MUST parse a received Connection header field before a message is forwarded and, for each
/// connection-option in this field, remove any header or trailer field(s) from the message with the same name as the
/// connection-option, and then remove the Connection header field itself".
pub(crate) fn strip_response(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|c| *c == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    headers.remove(CONNECTION);
    // "Furthermore, intermediaries SHOULD remove or replace fields that are known to require removal before forwarding,
    // whether or not they appear as a connection-option": Proxy-Connection, Keep-Alive, TE, Transfer-Encoding, Upgrade.
    headers.remove("proxy-connection");
    headers.remove("keep-alive");
    headers.remove(TE);
    headers.remove(TRANSFER_ENCODING);
    headers.remove(UPGRADE);
}

/// Returns true if the body has no transfer coding other than chunked, which hyper decodes.
pub(crate) fn only_chunked(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    codings.all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
}

/// RFC 9113 §8.2.3: several Cookie fields "MUST be concatenated into a single octet string using the two-octet delimiter of
/// 0x3b, 0x20 … before being passed into a non-HTTP/2 context".
fn join_cookies(headers: &mut HeaderMap) {
    let cookies: Vec<&[u8]> = headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if cookies.len() < 2 {
        return;
    }
    if let Ok(mut joined) = HeaderValue::from_bytes(&cookies.join(&b"; "[..])) {
        joined.set_sensitive(true);
        headers.insert(COOKIE, joined);
    }
}
