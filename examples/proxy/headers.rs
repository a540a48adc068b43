//! What is between two neighbours alone, and is not passed on.

use http::{
    HeaderMap, HeaderName, HeaderValue, Version,
    header::{CONNECTION, COOKIE, HOST, TE, TRANSFER_ENCODING, UPGRADE},
};

/// Takes off what is the caller's business with the proxy, before the token is added.
pub(crate) fn strip_request(headers: &mut HeaderMap, version: Version) {
    // RFC 9113 §8.2.2: TE "MAY be present in an HTTP/2 request; when it is, it MUST NOT contain any value other than
    // "trailers"". There it is no business of the connection's, and gRPC servers want it.
    let trailers = version == Version::HTTP_2 && headers.get(TE).is_some_and(|te| te == "trailers");
    strip_response(headers);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    // The upstream's is made of its URL.
    headers.remove(HOST);
    if version == Version::HTTP_2 {
        join_cookies(headers);
    }
}

/// Takes off what concerns one connection alone.
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

/// Whether the body is coded for one connection in no other way than in chunks, which whoever reads it has taken off.
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
