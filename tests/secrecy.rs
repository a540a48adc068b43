//! Tests that no secret appears in the logs of any crate at any level, nor in `Debug` and `Display` output.

use std::{
    error::Error as StdError,
    fmt,
    io::{self, Write},
    sync::Mutex,
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::{runtime::Runtime, task::JoinSet};
use tower::{Layer, Service, ServiceExt};
use tower_bearer::{
    AuthLayer, NewToken, Route, Secret, TokenCache, TokenError, TokenSource, TokenSpec,
    credentials::{ClientAuth, ClientCredentials, TokenEndpoint},
    layer::{Recovery, replay},
    source::TokenRequest,
    testing::{Api, AuthorizationServer, Fault, TokenCall},
    transport::Transport,
};
use tracing_subscriber::{fmt::format::FmtSpan, util::SubscriberInitExt};

const ID: &str = "orders é";
/// Contains characters that the encodings represent differently.
const SECRET: &str = "hush hush:100%+sure/é? and long enough";
/// A part of invalid responses, which must not appear in any output.
const BROKEN: &str = "broken-token-in-a-response";

#[test]
fn logs_contain_no_secret() {
    capture_log();
    let mut forbidden = secret_texts();
    forbidden.extend(Runtime::new().unwrap().block_on(async {
        let mut runs = JoinSet::new();
        let methods = [
            ClientAuth::basic(SECRET),
            ClientAuth::post(SECRET),
            ClientAuth::secret_jwt(SECRET),
        ];
        for transport in [Transport::reqwest(), Transport::hyper()] {
            for auth in methods.clone() {
                for tls in [false, true] {
                    runs.spawn(use_tokens(transport.clone(), auth.clone(), tls));
                    runs.spawn(run_faults(transport.clone(), auth.clone(), tls));
                }
            }
        }
        runs.join_all().await.concat()
    }));
    let text = String::from_utf8(LOG.lock().unwrap().clone()).unwrap();
    // The log contains records of all these crates.
    for who in "tower_bearer h2:: hyper_util:: rustls:: reqwest::".split(' ') {
        assert!(text.contains(who), "no record of {who}");
    }
    assert!(forbidden.len() > 100, "{}", forbidden.len());
    assert_clean(&text, &forbidden);
}

#[test]
#[should_panic(expected = "is in second")]
fn leak_check_finds_a_secret() {
    assert_clean(&format!("first\nsecond {SECRET}\nthird"), &secret_texts());
}

#[test]
#[should_panic(expected = "is shown")]
fn leak_check_finds_a_header_value() {
    let request = Request::get("/")
        .header("authorization", "Bearer abc")
        .body(());
    assert_clean(&format!("{request:?}"), &[]);
}

#[tokio::test]
async fn debug_and_display_contain_no_secret() {
    let login = AuthorizationServer::builder().with_client(ID, SECRET);
    let login = login.start().await.unwrap();
    let api = Api::start(&login).await.unwrap();
    let secret = Secret::new(SECRET);
    let transport = Transport::reqwest();
    let source = ClientCredentials::from_endpoint(
        TokenEndpoint::new(login.token_url())
            .with_client(ID, ClientAuth::post(secret.clone()))
            .with_transport(transport.clone()),
    )
    .with_extra("assertion", SECRET);
    let new = source
        .fetch(&TokenRequest::new(TokenSpec::default()))
        .await
        .unwrap();
    let builder = TokenCache::builder(source.clone());
    let mut output = Output::default();
    output.debug(&builder);
    let cache = builder.build();
    let spec = TokenSpec::scopes(["read"]).with_extra("password", SECRET);
    let layer = AuthLayer::new(cache.clone())
        .route(api.url(), spec.clone())
        .unwrap();
    let mut client = layer.layer(reqwest::Client::new());

    let url = api.url_of("/orders");
    let get = || reqwest::Request::new(http::Method::GET, url.parse().unwrap());
    output.debug(&client);
    let first = client.ready().await.unwrap().call(get()).await.unwrap();
    output.debug(&first);
    login.revoke_all();
    let pending = client.ready().await.unwrap().call(get());
    output.debug(&pending);
    let second = pending.await.unwrap();
    let recovery = second.extensions().get::<Recovery>().unwrap();
    assert!(matches!(recovery, Recovery::Recovered));
    output.debug(recovery);
    output.debug(&second);
    let token = cache.get(&spec).await.unwrap();
    let mut request = Request::get("https://api.example.com/").body(()).unwrap();
    token.apply(request.headers_mut());
    let mut theirs = get();
    token.apply(theirs.headers_mut());

    output.0.push(secret.to_string());
    let exposed = secret.expose().unwrap();
    output.debug(&(&secret, exposed, &new, &token, token.header_value()));
    output.debug(&(&spec, TokenRequest::new(spec.clone()), &source, &transport));
    output.debug(&(&cache, cache.stats(), cache.entries(), &layer, &client));
    output.debug(&Route::new(api.url(), spec.clone()));
    output.debug(&(replay::CloneBody, replay::NoReplay));
    output.debug(&AuthorizationServer::builder().with_client(ID, SECRET));
    output.debug(&(&login, &api, Api::builder(&login), login.hold()));
    output.debug(&(login.requests(), api.requests(), login.counts()));
    output.debug(&Fault::response(200, None, SECRET).with_header("x-echo", "hush-hush"));
    output.debug(&(&request, &theirs));
    let new_token = NewToken::bearer(BROKEN).unwrap();
    let value = http::HeaderValue::from_static(BROKEN);
    output.debug(&new_token.with_header(http::HeaderName::from_static("x-more"), value));
    output.errors(&NewToken::bearer(&format!("{BROKEN}\n")).unwrap_err());
    output.errors(&Secret::from_file("/no/such/file").unwrap_err());
    let refused = client.clone().oneshot(get());
    login.revoke_all();
    let _ = cache.remove(&spec);
    login.fault_always(echo(400));
    match refused.await {
        Ok(response) => output.debug(&response),
        Err(error) => output.errors(&error),
    }
    let entries = cache.entries();
    assert!(entries.iter().any(|entry| entry.last_error.is_some()));
    output.debug(&entries);

    let mut forbidden = secret_texts();
    forbidden.push(token.expose().to_owned());
    forbidden.extend(api.requests().into_iter().filter_map(|call| call.token));
    assert!(output.0.len() > 30, "{}", output.0.len());
    for text in &output.0 {
        assert_clean(text, &forbidden);
    }
}

/// Fetches, uses, rejects and replaces tokens over every protocol. Returns the tokens and assertions.
async fn use_tokens(transport: Transport, auth: ClientAuth, tls: bool) -> Vec<String> {
    let servers = Servers::new(transport, auth, tls).await;
    let cache = servers.cache(Duration::from_secs(10));
    let spec = TokenSpec::scopes(["read"]);
    let layer = AuthLayer::new(cache.clone());
    let layer = layer.route(servers.api.url(), spec.clone()).unwrap();
    let url = servers.api.url_of("/orders");

    let ca = servers.api.ca_pem();
    let ca = ca.map(|pem| reqwest::Certificate::from_pem(pem.as_bytes()).unwrap());
    let client = reqwest::Client::builder().tls_certs_only(ca).build();
    let mut client = layer.layer(client.unwrap());
    for _ in 0..4 {
        let mut request = reqwest::Request::new(http::Method::POST, url.parse().unwrap());
        *request.body_mut() = Some("abc".into());
        let response = client.ready().await.unwrap().call(request).await.unwrap();
        assert_eq!(response.bytes().await.unwrap(), "abc");
        servers.login.revoke_all();
    }
    if !tls {
        for http2 in [false, true] {
            let mut builder = Client::builder(TokioExecutor::new());
            let client = builder.http2_only(http2).build_http::<Full<Bytes>>();
            let mut client = layer.layer(client);
            for _ in 0..4 {
                let request = Request::post(&url).body(Full::from("abc")).unwrap();
                let response = client.ready().await.unwrap().call(request).await.unwrap();
                let body = response.into_body().collect().await.unwrap();
                assert_eq!(body.to_bytes(), "abc");
                servers.login.revoke_all();
            }
        }
    }
    let token = cache.refresh(&spec).await.unwrap();
    cache.reject(&token);
    let next = cache.get(&spec).await.unwrap();
    servers.api.always_unauthorized(true);
    for _ in 0..8 {
        let request = reqwest::Request::new(http::Method::GET, url.parse().unwrap());
        client.ready().await.unwrap().call(request).await.unwrap();
    }
    let mut tokens = vec![token.expose().to_owned(), next.expose().to_owned()];
    let calls = servers.api.requests().into_iter();
    tokens.extend(calls.filter_map(|call| call.token));
    let assertion = |call: TokenCall| Some(call.parameter("client_assertion")?.to_owned());
    tokens.extend(servers.login.requests().into_iter().filter_map(assertion));
    tokens.sort_unstable();
    tokens.dedup();
    tokens
}

/// Runs through the faults of a provider, which echoes secrets. Returns no tokens.
async fn run_faults(transport: Transport, auth: ClientAuth, tls: bool) -> Vec<String> {
    let servers = Servers::new(transport, auth, tls).await;
    let json = Some("application/json");
    let answer = |body: String| Fault::response(200, json, body);
    let with = |rest: String| answer(format!(r#"{{"access_token":"{BROKEN}"{rest}"#));
    let faults = [
        echo(400),
        echo(401),
        echo(500),
        answer(format!(r#"{{"access_token":"{BROKEN}\n{SECRET}"}}"#)),
        with(format!(r#","error":"{SECRET}"}}"#)),
        with(r#","expires_in":0}"#.into()),
        with(format!(r#","token_type":"{SECRET}"}}"#)),
        answer(format!(r#"{{"access_token":"{BROKEN}"#)),
        answer(format!(r#"["{BROKEN}"]"#)),
        Fault::response(200, Some("text/html"), format!("<h1>{SECRET}</h1>")),
        Fault::response(502, Some("text/html"), format!("<h1>{SECRET}</h1>")),
        Fault::redirect(&format!("https://elsewhere.example/?token={BROKEN}")),
        Fault::status(429).with_header("retry-after", "100"),
        Fault::drop_connection(),
        Fault::never(),
        Fault::huge(2 << 20),
    ];
    let mut output = Output::default();
    for fault in faults {
        servers.login.clear_faults();
        servers.login.fault_always(fault);
        let cache = servers.cache(Duration::from_secs(1));
        for _ in 0..2 {
            output.errors(&cache.get(&TokenSpec::default()).await.unwrap_err());
        }
        output.debug(&cache.entries());
    }
    servers.login.clear_faults();
    servers.login.set_client_secret(ID, "another");
    let cache = servers.cache(Duration::from_secs(10));
    output.errors(&cache.get(&TokenSpec::default()).await.unwrap_err());
    for text in output.0 {
        assert_clean(&text, &secret_texts());
    }
    vec![]
}

/// An error response that echoes the secret in each encoding that is sent.
fn echo(status: u16) -> Fault {
    let (sent, _) = secrets();
    let body =
        serde_json::json!({"error": "invalid_grant", "error_description": sent.join(" and ")});
    Fault::response(status, Some("application/json"), body.to_string())
}

struct Servers {
    login: AuthorizationServer,
    api: Api,
    source: ClientCredentials,
}

impl Servers {
    async fn new(mut transport: Transport, auth: ClientAuth, tls: bool) -> Self {
        let mut login = AuthorizationServer::builder().with_client(ID, SECRET);
        if tls {
            login = login.with_tls();
        }
        let login = login.start().await.unwrap();
        let mut api = Api::builder(&login);
        if tls {
            api = api.with_tls();
        }
        let api = api.start().await.unwrap();
        if let Some(ca) = login.ca_pem() {
            transport = transport.with_root_certificate_pem(ca.as_bytes()).unwrap();
        }
        let endpoint = TokenEndpoint::new(login.token_url())
            .with_client(ID, auth)
            .with_transport(transport);
        let source = ClientCredentials::from_endpoint(endpoint);
        Self { login, api, source }
    }

    fn cache(&self, timeout: Duration) -> TokenCache {
        let builder = TokenCache::builder(self.source.clone());
        builder.with_fetch_timeout(timeout).build()
    }
}

/// Returns the client secret in the encodings that are sent, and in others.
fn secrets() -> (Vec<String>, Vec<String>) {
    let form = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let percents = |text: &str| form(text).replace('+', "%20");
    let basic = |id: &str, secret: &str| BASE64_STANDARD.encode(format!("{id}:{secret}"));
    let sent = vec![
        SECRET.to_owned(),
        form(SECRET),
        percents(SECRET),
        basic(&percents(ID), &percents(SECRET)),
    ];
    let others = vec![basic(ID, SECRET), basic(&form(ID), &form(SECRET))];
    (sent, others)
}

/// Returns the texts, in addition to the tokens, that must not appear in any output.
fn secret_texts() -> Vec<String> {
    let (sent, others) = secrets();
    [sent, others, vec![BROKEN.to_owned()]].concat()
}

fn assert_clean(text: &str, forbidden: &[String]) {
    for needle in forbidden {
        let Some(at) = text.find(needle) else {
            continue;
        };
        let start = text[..at].rfind('\n').map_or(0, |end| end + 1);
        panic!("{needle:?} is in {}", text[start..].lines().next().unwrap());
    }
    // An unredacted header value follows its scheme, as a challenge does.
    for scheme in ["Bearer ", "Basic "] {
        for after in text.split(scheme).skip(1) {
            let value = after.split([' ', '"', ',', '\\', '\n']).next().unwrap();
            let harmless = value.is_empty() || value.starts_with("error=");
            assert!(harmless, "{scheme}{value} is shown");
        }
    }
}

/// Collected `Debug` and `Display` output.
#[derive(Default)]
struct Output(Vec<String>);

impl Output {
    fn debug(&mut self, value: &impl fmt::Debug) {
        self.0.push(format!("{value:?}"));
        self.0.push(format!("{value:#?}"));
    }

    /// Adds the error and all its causes.
    fn errors(&mut self, error: &(dyn StdError + 'static)) {
        let mut next = Some(error);
        while let Some(error) = next {
            self.0.push(format!("{error} {error:?} {error:#?}"));
            if let Some(error) = error.downcast_ref::<TokenError>() {
                self.0
                    .push(format!("{:?} {:?}", error.description(), error.claims()));
            }
            next = error.source();
        }
    }
}

/// The output of `tracing` and `log`.
static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn capture_log() {
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_span_events(FmtSpan::NEW | FmtSpan::CLOSE)
        .with_writer(|| LogWriter);
    // Captures records of the `log` crate too.
    SubscriberInitExt::init(subscriber.finish());
}
