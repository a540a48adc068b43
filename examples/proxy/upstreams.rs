//! Selects the upstream of a request, and builds the URL there.

use http::uri::{Authority, InvalidUri, PathAndQuery, Scheme, Uri};
use tower_bearer::config::ConfigError;
use url::Url;

/// All upstreams, ordered by descending length of the prefix.
#[derive(Default)]
pub(crate) struct Upstreams(Vec<Upstream>);

/// A path prefix and the URL that replaces it.
pub(crate) struct Upstream {
    /// Without a trailing slash; empty for all paths.
    prefix: String,
    scheme: Scheme,
    authority: Authority,
    /// The path of the URL, without a trailing slash.
    base: String,
}

impl Upstreams {
    pub(crate) fn add(&mut self, upstream: Upstream) -> Result<(), ConfigError> {
        if self.0.iter().any(|other| other.prefix == upstream.prefix) {
            return Err(ConfigError::new(
                "prefix",
                "another upstream has the same prefix: remove one of them",
            ));
        }
        self.0.push(upstream);
        self.0
            .sort_by_key(|upstream| std::cmp::Reverse(upstream.prefix.len()));
        Ok(())
    }

    /// Returns the upstream's URL for a request, or `None` if no prefix covers its path.
    pub(crate) fn address(&self, uri: &Uri) -> Option<Result<Uri, InvalidUri>> {
        let mut all = self.0.iter();
        let (upstream, rest) =
            all.find_map(|upstream| Some((upstream, upstream.rest(uri.path())?)))?;
        Some(upstream.address(rest, uri.query()))
    }

    pub(crate) fn any_over_tls(&self) -> bool {
        self.0
            .iter()
            .any(|upstream| upstream.scheme == Scheme::HTTPS)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Upstream {
    pub(crate) fn new(prefix: &str, url: &str) -> Result<Self, ConfigError> {
        let at_prefix = |message| Err(ConfigError::new("prefix", message));
        if !prefix.starts_with('/') {
            return at_prefix("must start with a slash: write it as /graph");
        }
        if prefix == "/-" || prefix.starts_with("/-/") {
            return at_prefix("paths below /-/ are the proxy's own: choose another prefix");
        }
        if prefix.contains(['?', '#']) || prefix.parse::<PathAndQuery>().is_err() {
            return at_prefix(
                "not a valid path: remove the query, the fragment and invalid characters",
            );
        }
        if prefix
            .split('/')
            .any(|segment| matches!(segment, "." | ".."))
        {
            return at_prefix("must not contain dot segments: write the resolved path");
        }
        let at_url = |message| ConfigError::new("url", message);
        let parsed = Url::parse(url)
            .map_err(|_| at_url("not a valid URL: write it as https://host/path"))?;
        let scheme = match parsed.scheme() {
            "https" => Scheme::HTTPS,
            "http" => Scheme::HTTP,
            _ => {
                return Err(at_url(
                    "must be an https or http URL: write it as https://host/path",
                ));
            }
        };
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(at_url(
                "must not contain userinfo: remove the part before the @",
            ));
        }
        if parsed.query().is_some() || parsed.fragment().is_some() {
            return Err(at_url("must not contain a query or fragment: remove it"));
        }
        let authority = parsed.authority().parse();
        Ok(Self {
            prefix: prefix.trim_end_matches('/').to_owned(),
            scheme,
            authority: authority
                .map_err(|_| at_url("must have a host: write it as https://host/path"))?,
            base: parsed.path().trim_end_matches('/').to_owned(),
        })
    }

    /// Returns the path after the prefix. The prefix matches whole segments: `/graph` covers `/graph/me`, but not `/graphite`.
    fn rest<'a>(&self, path: &'a str) -> Option<&'a str> {
        let rest = path.strip_prefix(&self.prefix)?;
        (rest.is_empty() || rest.starts_with('/')).then_some(rest)
    }

    /// Appends the rest of the path to the upstream's URL without changing a byte.
    fn address(&self, rest: &str, query: Option<&str>) -> Result<Uri, InvalidUri> {
        let mut path_and_query = format!("{}{rest}", self.base);
        if path_and_query.is_empty() {
            path_and_query.push('/');
        }
        if let Some(query) = query {
            path_and_query.push('?');
            path_and_query.push_str(query);
        }
        let path_and_query = PathAndQuery::try_from(path_and_query)?;
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(path_and_query);
        // This cannot fail: scheme, authority and path are set.
        Ok(Uri::from_parts(parts).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(upstreams: &[(&str, &str)], uri: &str) -> Option<String> {
        let mut all = Upstreams::default();
        for (prefix, url) in upstreams {
            all.add(Upstream::new(prefix, url).unwrap()).unwrap();
        }
        let address = all.address(&uri.parse().unwrap())?;
        Some(address.unwrap().to_string())
    }

    #[test]
    fn longest_prefix_of_whole_segments_is_removed() {
        let two = [("/a", "http://one"), ("/a/b", "https://two:444/base/")];
        for (uri, expected) in [
            ("/a/x?y=%20&z", Some("http://one/x?y=%20&z")),
            ("/a", Some("http://one/")),
            ("/a?q", Some("http://one/?q")),
            ("/a/", Some("http://one/")),
            ("/a//x", Some("http://one//x")),
            ("/a/b/c", Some("https://two:444/base/c")),
            ("/a/b", Some("https://two:444/base")),
            ("/a/bc", Some("http://one/bc")),
            ("/ab", None),
            ("/", None),
        ] {
            assert_eq!(address(&two, uri).as_deref(), expected, "{uri}");
        }
    }

    #[test]
    fn slash_prefix_covers_all_other_paths() {
        let all = [("/", "http://one"), ("/a", "http://two")];
        assert_eq!(address(&all, "/x/y?z").unwrap(), "http://one/x/y?z");
        assert_eq!(address(&all, "//x").unwrap(), "http://one//x");
        assert_eq!(address(&all, "/a/y").unwrap(), "http://two/y");
    }
}
