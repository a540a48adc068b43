//! Who may come in: programs on this machine, and no page in a browser.

use std::net::SocketAddr;

use http::{
    HeaderMap, HeaderValue, Uri,
    header::{HOST, ORIGIN},
};

/// What a request may call the proxy.
#[derive(Clone)]
pub(crate) struct OriginCheck {
    names: Vec<String>,
}

impl OriginCheck {
    /// The origins of a connection that arrived at this address.
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

    /// Why the request may not come in.
    pub(crate) fn refuses(&self, uri: &Uri, headers: &HeaderMap) -> Option<&'static str> {
        // A page whose name was pointed at this machine (DNS rebinding) still sends its own name.
        let target = uri
            .authority()
            .map(|authority| authority.as_str().as_bytes());
        let hosts = headers.get_all(HOST).iter().map(HeaderValue::as_bytes);
        let mut named = hosts.chain(target).peekable();
        if named.peek().is_none() || !named.all(|name| self.is_own(name)) {
            return Some(
                "the request's Host is neither the address that the proxy listens on nor localhost, with the port: call it by one of these",
            );
        }
        // Fetch, "origin": a browser sends it with whatever a page does to another origin but plain navigation …
        if headers.contains_key(ORIGIN) {
            return Some(
                "the request has an Origin header, so it comes from a page in a browser: call from a program",
            );
        }
        // … and Fetch Metadata: "none" is what a person typed.
        let same = |site: &HeaderValue| matches!(site.as_bytes(), b"none" | b"same-origin");
        if !headers.get_all("sec-fetch-site").iter().all(same) {
            return Some(
                "the request has a Sec-Fetch-Site header of another site's page: call from a program",
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
