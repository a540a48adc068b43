//! Implements the client credentials grant (RFC 6749 §4.4).

use super::{ClientAuth, endpoint::TokenEndpoint};
use crate::{
    error::TokenError,
    secret::Secret,
    source::{SourceId, TokenRequest, TokenSource},
    token::NewToken,
    transport::Transport,
};

/// Fetches tokens for the program itself.
///
/// `{tenant}` in the URL is replaced by the [tenant](crate::TokenSpec::with_tenant) of the spec.
///
/// Constructors never fail. [`check`](Self::check) returns the configuration errors that every fetch would return.
///
/// ```
/// use bytes::Bytes;
/// use tower_bearer::{
///     TokenSource, TokenSpec, credentials::ClientCredentials, source::TokenRequest, transport::Transport,
/// };
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_bearer::TokenError> {
/// // A provider without a network.
/// let provider = Transport::from_fn(async |request| {
///     assert_eq!(request.body(), "grant_type=client_credentials&scope=read");
///     Ok(http::Response::new(Bytes::from(r#"{"access_token":"abc","expires_in":3600}"#)))
/// });
/// let source = ClientCredentials::new("https://login.example.com/token", "orders", "hunter2").with_transport(provider);
/// source.check()?;
///
/// let request = TokenRequest::new(TokenSpec::scopes(["read"]));
/// let token = source.fetch(&request).await?;
/// # let _ = token;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct ClientCredentials(TokenEndpoint);

impl ClientCredentials {
    /// Requests tokens from this token URL, with client id and secret in a header ([`ClientAuth::basic`]).
    ///
    /// It is short for [`from_endpoint`](Self::from_endpoint) with [`TokenEndpoint::new`].
    ///
    /// ```
    /// use tower_bearer::credentials::ClientCredentials;
    ///
    /// let source = ClientCredentials::new("http://login.example.com/token", "orders", "hunter2");
    /// let error = source.check().unwrap_err();
    /// assert!(error.to_string().contains("https"));
    /// ```
    pub fn new(
        token_url: impl AsRef<str>,
        client_id: impl Into<String>,
        secret: impl Into<Secret>,
    ) -> Self {
        Self(TokenEndpoint::new(token_url).with_client(client_id, ClientAuth::basic(secret)))
    }

    /// Requests tokens from the provider with this issuer, with client id and secret in a header
    /// ([`ClientAuth::basic`]).
    ///
    /// It is short for [`from_endpoint`](Self::from_endpoint) with [`TokenEndpoint::discover`].
    ///
    /// ```
    /// use tower_bearer::credentials::ClientCredentials;
    ///
    /// # #[cfg(feature = "reqwest")] {
    /// let source = ClientCredentials::discover("https://login.example.com", "orders", "hunter2");
    /// assert!(source.check().is_ok());
    /// # }
    /// ```
    pub fn discover(
        issuer: impl AsRef<str>,
        client_id: impl Into<String>,
        secret: impl Into<Secret>,
    ) -> Self {
        Self(TokenEndpoint::discover(issuer).with_client(client_id, ClientAuth::basic(secret)))
    }

    /// Requests tokens from this endpoint.
    ///
    /// ```
    /// use tower_bearer::credentials::{ClientAuth, ClientCredentials, TokenEndpoint};
    ///
    /// let endpoint = TokenEndpoint::new("https://login.example.com/token")
    ///     .with_client("orders", ClientAuth::post("hunter2"));
    /// let source = ClientCredentials::from_endpoint(endpoint);
    /// # let _ = source;
    /// ```
    #[must_use]
    pub fn from_endpoint(endpoint: TokenEndpoint) -> Self {
        Self(endpoint)
    }

    /// Adds an extra parameter to each token request: see [`TokenEndpoint::with_extra`].
    #[must_use]
    pub fn with_extra(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        Self(self.0.with_extra(name, value))
    }

    /// Sends token requests with this transport.
    #[must_use]
    pub fn with_transport(self, transport: Transport) -> Self {
        Self(self.0.with_transport(transport))
    }

    /// Checks the configuration without calling the provider.
    ///
    /// # Errors
    /// Returns an error in the cases of [`TokenEndpoint::check`].
    pub fn check(&self) -> Result<(), TokenError> {
        self.0.check()
    }
}

impl TokenSource for ClientCredentials {
    async fn fetch(&self, request: &TokenRequest) -> Result<NewToken, TokenError> {
        // RFC 6749 §4.4.2: "grant_type REQUIRED. Value MUST be set to "client_credentials"."
        // §4.4.3: "A refresh token SHOULD NOT be included." If there is one, it is dropped.
        self.0.fetch(request, "client_credentials", &[]).await
    }

    fn source_id(&self) -> Option<SourceId> {
        self.0.source_id("client_credentials")
    }

    fn credential_changed(&self, since: &TokenError) -> bool {
        self.0.credential_changed(since)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::Mutex};

    use bytes::Bytes;
    use http::{Response, StatusCode};

    use super::*;
    use crate::{ErrorKind, TokenSpec};

    const URL: &str = "https://login.example/token";

    /// Returns a source whose provider always sends this response.
    fn over_answer(
        url: &str,
        secret: impl Into<Secret>,
        answer: Response<&'static str>,
    ) -> ClientCredentials {
        let (parts, body) = answer.into_parts();
        let transport = Transport::from_fn(move |_| {
            let answer = Response::from_parts(parts.clone(), Bytes::from_static(body.as_bytes()));
            std::future::ready(Ok(answer))
        });
        ClientCredentials::new(url, "orders", secret).with_transport(transport)
    }

    fn plain_token() -> Response<&'static str> {
        Response::new(r#"{"access_token":"abc","expires_in":60}"#)
    }

    async fn fetch(source: &ClientCredentials, spec: TokenSpec) -> Result<NewToken, TokenError> {
        source.fetch(&TokenRequest::new(spec)).await
    }

    async fn refusal(source: &ClientCredentials) -> TokenError {
        fetch(source, TokenSpec::default()).await.unwrap_err()
    }

    #[cfg(any(feature = "reqwest", feature = "hyper"))]
    mod on_the_wire {
        use super::*;
        use crate::transport::responder::Responder;

        fn transports() -> Vec<Transport> {
            vec![
                #[cfg(feature = "reqwest")]
                Transport::reqwest(),
                #[cfg(feature = "hyper")]
                Transport::hyper(),
            ]
        }

        /// Returns the request that a server receives for this client authentication.
        async fn sent(transport: Transport, auth: ClientAuth) -> String {
            let server = Responder::json(r#"{"access_token":"abc","expires_in":60}"#);
            let source = ClientCredentials::from_endpoint(
                TokenEndpoint::new(server.url("/token?v=2"))
                    .with_client("or:ders", auth)
                    .with_transport(transport),
            )
            .with_extra("first", "1")
            .with_extra("second", "2");
            let spec = TokenSpec::scopes(["b", "a"])
                .with_resource("https://api.example/x y")
                .with_resource("urn:stock")
                .with_audience("stock")
                .with_extra("second", "two");
            fetch(&source, spec).await.unwrap();
            server.requests().pop().unwrap()
        }

        /// Space, colon, percent, plus, slash, and a letter beyond ASCII.
        const SPECIAL: &str = "a b:c%d+e/fé";
        const COMMON: &str = "grant_type=client_credentials&scope=a+b&resource=https%3A%2F%2Fapi.example%2Fx+y\
            &resource=urn%3Astock&audience=stock&second=two&first=1";

        #[tokio::test]
        async fn basic_sends_the_encoded_secret_in_the_header() {
            for transport in transports() {
                let seen = sent(transport, ClientAuth::basic(SPECIAL)).await;
                let (head, body) = seen.split_once("\r\n\r\n").unwrap();
                assert!(head.starts_with("POST /token?v=2 HTTP/1.1\r\n"), "{head}");
                // or%3Aders:a%20b%3Ac%25d%2Be%2Ff%C3%A9
                let basic = "b3IlM0FkZXJzOmElMjBiJTNBYyUyNWQlMkJlJTJGZiVDMyVBOQ==";
                for line in [
                    format!("authorization: Basic {basic}"),
                    "content-type: application/x-www-form-urlencoded".into(),
                    "accept: application/json".into(),
                    format!("content-length: {}", body.len()),
                ] {
                    assert!(head.lines().any(|found| found == line), "{line}: {head}");
                }
                assert_eq!(body, COMMON);
            }
        }

        #[tokio::test]
        async fn post_sends_the_encoded_secret_in_the_form() {
            for transport in transports() {
                let seen = sent(transport, ClientAuth::post(SPECIAL)).await;
                let (head, body) = seen.split_once("\r\n\r\n").unwrap();
                assert!(!head.contains("authorization"), "{head}");
                let credentials = "client_id=or%3Aders&client_secret=a+b%3Ac%25d%2Be%2Ff%C3%A9";
                assert_eq!(body, format!("{COMMON}&{credentials}"));
            }
        }

        #[tokio::test]
        async fn public_client_sends_only_its_id() {
            for transport in transports() {
                let seen = sent(transport, ClientAuth::none()).await;
                let (head, body) = seen.split_once("\r\n\r\n").unwrap();
                assert!(!head.contains("authorization"), "{head}");
                assert_eq!(body, format!("{COMMON}&client_id=or%3Aders"));
            }
        }
    }

    #[tokio::test]
    async fn claims_of_all_origins_are_sent_in_one_parameter() {
        let bodies = std::sync::Arc::new(Mutex::new(Vec::new()));
        let kept = bodies.clone();
        let transport = Transport::from_fn(move |request| {
            let form = form_urlencoded::parse(request.body());
            let claims = form.filter(|(name, _)| name == "claims");
            let claims: Vec<_> = claims.map(|(_, value)| value.into_owned()).collect();
            kept.lock().unwrap().push(claims);
            std::future::ready(Ok(plain_token().map(Bytes::from)))
        });
        let source = ClientCredentials::new(URL, "orders", "hunter2")
            .with_transport(transport)
            .with_extra("claims", r#"{"a":1}"#);
        let request = TokenRequest::new(TokenSpec::default());
        source.fetch(&request).await.unwrap();
        let challenged = request.clone().with_claims(r#"{"b":2}"#);
        source.fetch(&challenged).await.unwrap();
        let capable = ClientCredentials(source.0.with_client_capability("cp1"));
        capable.fetch(&request).await.unwrap();
        let bodies = bodies.lock().unwrap();
        assert_eq!(bodies[0], [r#"{"a":1}"#]);
        assert_eq!(bodies[1], [r#"{"b":2}"#]);
        assert_eq!(
            bodies[2],
            [r#"{"a":1,"access_token":{"xms_cc":{"values":["cp1"]}}}"#]
        );
    }

    #[tokio::test]
    async fn response_becomes_a_token() {
        let answer = Response::new(
            r#"{"access_token":"abc","expires_in":60,"refresh_in":30,"scope":"a b"}"#,
        );
        let source = over_answer(URL, "hunter2", answer);
        let token = fetch(&source, TokenSpec::default()).await.unwrap();
        assert_eq!(token.lifetime.unwrap().as_secs(), 60);
        assert_eq!(token.refresh_in.unwrap().as_secs(), 30);
        assert!(format!("{token:?}").contains("a b"));
    }

    #[tokio::test]
    async fn secret_file_is_read_for_each_attempt() {
        let path = std::env::temp_dir().join(format!("tower-bearer-{}", std::process::id()));
        fs::write(&path, "first\n").unwrap();
        let secret = Secret::from_file(&path).unwrap();
        let bodies = std::sync::Arc::new(Mutex::new(Vec::new()));
        let kept = bodies.clone();
        let transport = Transport::from_fn(move |request| {
            kept.lock().unwrap().push(request.into_body());
            std::future::ready(Ok(plain_token().map(Bytes::from)))
        });
        let source = ClientCredentials::from_endpoint(
            TokenEndpoint::new(URL)
                .with_client("orders", ClientAuth::post(secret))
                .with_transport(transport),
        );
        fetch(&source, TokenSpec::default()).await.unwrap();
        fs::write(&path, "second\n").unwrap();
        fetch(&source, TokenSpec::default()).await.unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(refusal(&source).await.kind(), ErrorKind::Configuration);
        let bodies = bodies.lock().unwrap();
        assert!(bodies[0].ends_with(b"client_secret=first"));
        assert!(bodies[1].ends_with(b"client_secret=second"));
        assert_eq!(bodies.len(), 2);
    }

    #[tokio::test]
    async fn tenant_is_part_of_the_url() {
        let transport = Transport::from_fn(|request: http::Request<Bytes>| {
            assert_eq!(request.uri(), "https://login.example/acme/token");
            std::future::ready(Ok(plain_token().map(Bytes::from)))
        });
        let url = "https://login.example/{tenant}/token";
        let source = ClientCredentials::new(url, "orders", "hunter2").with_transport(transport);
        source.check().unwrap();
        let spec = TokenSpec::default().with_tenant("acme");
        fetch(&source, spec).await.unwrap();
        for spec in [
            TokenSpec::default(),
            TokenSpec::default().with_tenant("../x"),
        ] {
            let error = fetch(&source, spec).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration);
        }
    }

    #[tokio::test]
    async fn check_and_fetch_report_faults_without_echoing_values() {
        for (url, id, extra) in [
            ("http://login.example/hunter2", "orders", "x"),
            ("http://{tenant}.example/hunter2", "orders", "x"),
            ("https://user:hunter2@login.example/", "orders", "x"),
            ("https://login.example/#hunter2", "orders", "x"),
            ("hunter2", "orders", "x"),
            (URL, "", "x"),
            (URL, "orders", "grant_type"),
            (URL, "orders", ""),
        ] {
            let transport = Transport::from_fn(async |_| panic!("nothing may be sent"));
            let source = ClientCredentials::new(url, id, "hunter2")
                .with_transport(transport)
                .with_extra(extra, "hunter2");
            for error in [source.check().unwrap_err(), refusal(&source).await] {
                assert_eq!(error.kind(), ErrorKind::Configuration, "{url}");
                assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
            }
        }
    }

    #[tokio::test]
    async fn secrets_echoed_by_the_provider_are_redacted() {
        let answer = Response::builder()
            .status(StatusCode::UNAUTHORIZED)
            .body(r#"{"error":"invalid_client","error_description":"no b3JkZXJzOmh1bnRlcjI= for hunter2 and long-secret"}"#)
            .unwrap();
        let source = over_answer(URL, "hunter2", answer).with_extra("assertion", "long-secret");
        let error = refusal(&source).await;
        assert_eq!(error.kind(), ErrorKind::InvalidClient);
        assert_eq!(
            error.description(),
            Some("no [redacted]= for [redacted] and [redacted]")
        );
    }

    #[test]
    fn source_id_covers_url_client_and_extra_but_not_the_secret() {
        let of = |url, id, secret: &str, value| {
            let transport = Transport::from_fn(async |_| panic!("nothing is sent"));
            let source = ClientCredentials::new(url, id, secret).with_transport(transport);
            source.with_extra("a", value).source_id()
        };
        let identity = of(URL, "orders", "hunter2", "x");
        assert!(identity.is_some());
        assert_eq!(identity, of(URL, "orders", "rotated", "x"));
        assert_ne!(
            identity,
            of("https://login.example/{tenant}", "orders", "hunter2", "x")
        );
        assert_ne!(identity, of(URL, "stock", "hunter2", "x"));
        assert_ne!(identity, of(URL, "orders", "hunter2", "y"));
        assert!(of("no url", "orders", "hunter2", "x").is_none());
    }

    #[test]
    fn debug_shows_no_secret() {
        let source = over_answer(
            "https://login.example/token?key=hunter2",
            "hunter2",
            plain_token(),
        )
        .with_extra("password", "hunter2");
        let shown = format!("{source:?}");
        assert!(
            shown.contains("orders")
                && shown.contains("login.example")
                && shown.contains("password"),
            "{shown}"
        );
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
