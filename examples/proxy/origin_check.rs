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
        let headers = headers.iter().map(|(name, value)| {
            let name = http::HeaderName::from_static(name);
            (name, value.parse().unwrap())
        });
        let map = headers.fold(HeaderMap::new(), |mut map, (name, value)| {
            map.append(name, value);
            map
        });
        OriginCheck::for_address(address.parse().unwrap())
            .refuses(&uri.parse().unwrap(), &map)
            .is_some()
    }

    #[test]
    fn only_the_own_address_and_localhost_are_names() {
        for host in ["127.0.0.1:8080", "localhost:8080", "LocalHost:8080"] {
            assert!(!refused("127.0.0.1:8080", "/", &[("host", host)]), "{host}");
        }
        for host in [
            "127.0.0.1",
            "localhost",
            "127.0.0.1:80",
            "evil.example:8080",
            "127.0.0.1.nip.io:8080",
            "",
            "localhost.:8080",
        ] {
            assert!(refused("127.0.0.1:8080", "/", &[("host", host)]), "{host}");
        }
        assert!(refused("127.0.0.1:8080", "/", &[]));
        assert!(!refused("127.0.0.1:80", "/", &[("host", "localhost")]));
        assert!(!refused("[::1]:8080", "/", &[("host", "[::1]:8080")]));
        assert!(!refused(
            "[::ffff:127.0.0.1]:8080",
            "/",
            &[("host", "127.0.0.1:8080")]
        ));
    }

    #[test]
    fn every_name_in_a_request_counts() {
        let own = ("host", "127.0.0.1:1");
        assert!(!refused("127.0.0.1:1", "http://127.0.0.1:1/x", &[own]));
        assert!(!refused("127.0.0.1:1", "http://localhost:1/x", &[]));
        assert!(refused("127.0.0.1:1", "http://evil.example:1/x", &[own]));
        assert!(refused("127.0.0.1:1", "http://user@127.0.0.1:1/x", &[own]));
        assert!(refused(
            "127.0.0.1:1",
            "/",
            &[own, ("host", "evil.example:1")]
        ));
    }

    #[test]
    fn a_page_in_a_browser_is_refused() {
        let own = ("host", "127.0.0.1:1");
        for (name, value, expected) in [
            ("origin", "http://127.0.0.1:1", true),
            ("origin", "null", true),
            ("sec-fetch-site", "cross-site", true),
            ("sec-fetch-site", "same-site", true),
            ("sec-fetch-site", "None", true),
            ("sec-fetch-site", "none", false),
            ("sec-fetch-site", "same-origin", false),
        ] {
            assert_eq!(
                refused("127.0.0.1:1", "/", &[own, (name, value)]),
                expected,
                "{name}: {value}"
            );
        }
    }
}
