//! Rejects requests of web pages in a browser, and requests for foreign hosts.

use std::net::SocketAddr;

use http::{
    HeaderMap, HeaderValue, Uri,
    header::{HOST, ORIGIN},
};

/// The names by which a request may address the proxy.
#[derive(Clone)]
pub(crate) struct OriginCheck {
    names: Vec<String>,
}

impl OriginCheck {
    /// Returns the check for connections to this address.
    pub(crate) fn for_address(address: SocketAddr) -> Self {
        let (ip, port) = (address.ip().to_canonical(), address.port());
        let mut names = vec![
            SocketAddr::new(ip, port).to_string(),
            format!("localhost:{port}"),
        ];
        if port == 80 {
            let bare = names.iter().filter_map(|name| name.strip_suffix(":80"));
            let bare: Vec<_> = bare.map(str::to_owned).collect();
            names.extend(bare);
        }
        Self { names }
    }

    /// Returns why the request is rejected, or `None` if it is accepted.
    pub(crate) fn refuses(&self, uri: &Uri, headers: &HeaderMap) -> Option<&'static str> {
        // A web page that uses DNS rebinding still sends its own host name.
        let target = uri
            .authority()
            .map(|authority| authority.as_str().as_bytes());
        let hosts = headers.get_all(HOST).iter().map(HeaderValue::as_bytes);
        let mut named = hosts.chain(target).peekable();
        if named.peek().is_none() || !named.all(|name| self.is_own(name)) {
            return Some(
                "the Host header is neither the proxy's address nor localhost with the proxy's port: use one of these",
            );
        }
        // A browser sends Origin with all cross-origin requests of a page except navigation …
        if headers.contains_key(ORIGIN) {
            return Some(
                "the request has an Origin header, so it comes from a web page: call the proxy from a program",
            );
        }
        // … and Sec-Fetch-Site with all requests: "none" is a URL that the user typed.
        let same = |site: &HeaderValue| matches!(site.as_bytes(), b"none" | b"same-origin");
        if !headers.get_all("sec-fetch-site").iter().all(same) {
            return Some(
                "the Sec-Fetch-Site header says that the request comes from a web page: call the proxy from a program",
            );
        }
        None
    }

    fn is_own(&self, name: &[u8]) -> bool {
        let mut names = self.names.iter();
        names.any(|own| own.as_bytes().eq_ignore_ascii_case(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(address: &str, uri: &str, headers: &[(&'static str, &str)]) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        OriginCheck::for_address(address.parse().unwrap())
            .refuses(&uri.parse().unwrap(), &map)
            .is_some()
    }

    #[test]
    fn only_own_address_and_localhost_are_accepted() {
        let same = "127.0.0.1:1";
        for (address, uri, hosts, expected) in [
            (same, "/", &[same][..], false),
            (same, "/", &["127.0.0.1:80"], true),
            ("127.0.0.1:80", "/", &["localhost"], false),
            ("127.0.0.1:80", "/", &["127.0.0.1"], false),
            ("[::1]:8080", "/", &["[::1]:8080"], false),
            ("[::ffff:127.0.0.1]:1", "/", &[same], false),
            (same, "http://127.0.0.1:1/x", &[same], false),
            (same, "http://localhost:1/x", &[], false),
            (same, "http://evil.example:1/x", &[same], true),
            (same, "http://user@127.0.0.1:1/x", &[same], true),
        ] {
            let headers: Vec<_> = hosts.iter().map(|host| ("host", *host)).collect();
            assert_eq!(refused(address, uri, &headers), expected, "{uri} {hosts:?}");
        }
    }
}
