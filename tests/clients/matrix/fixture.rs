//! Builds a client with its layer, and the servers that it calls.

use std::sync::{Arc, Mutex};

use tower_bearer::{
    AuthLayer, NewToken, Route, TokenCache, TokenError, TokenSource, TokenSpec,
    credentials::ClientCredentials,
    source::TokenRequest,
    testing::{Api, AuthorizationServer},
};

use super::{
    bodies::pattern,
    client::{self, ClientResponse, Digest, Kind, Outcome, Payload, Sender, messages},
};

/// A buffer larger than any body sent here.
const LARGE_BUFFER: usize = 4 << 20;

pub(crate) struct Fixture {
    pub(crate) kind: Kind,
    pub(crate) login: AuthorizationServer,
    pub(crate) api: Api,
    pub(crate) cache: TokenCache,
    token_requests: Arc<Mutex<Vec<TokenRequest>>>,
    sender: Sender,
}

/// How bodies are replayed.
#[derive(Clone, Copy)]
enum Bodies {
    Cloned,
    Never,
    Buffered(usize),
}

impl Fixture {
    /// A client that replays bodies in memory. Bodies of tonic cannot be cloned, so they are buffered.
    pub(crate) async fn new(kind: Kind) -> Self {
        match kind.is_tonic() {
            true => Self::start(kind, Bodies::Buffered(LARGE_BUFFER)).await,
            false => Self::start(kind, Bodies::Cloned).await,
        }
    }

    /// Like [`Self::new`], after [`Self::warm_up`]. So are the fixtures of the other constructors.
    pub(crate) async fn warm(kind: Kind) -> Self {
        Self::new(kind).await.warmed().await
    }

    pub(crate) async fn plain(kind: Kind) -> Self {
        Self::start(kind, Bodies::Cloned).await.warmed().await
    }

    pub(crate) async fn without_replay(kind: Kind) -> Self {
        Self::start(kind, Bodies::Never).await.warmed().await
    }

    pub(crate) async fn buffering(kind: Kind, limit: usize) -> Self {
        let bodies = Bodies::Buffered(limit);
        Self::start(kind, bodies).await.warmed().await
    }

    async fn warmed(self) -> Self {
        self.warm_up().await;
        self
    }

    async fn start(kind: Kind, bodies: Bodies) -> Self {
        let login = AuthorizationServer::start().await.unwrap();
        let mut api = Api::builder(&login)
            .with_required_scope("/write", "write")
            .with_required_scope("/admin", "admin");
        if kind.is_tls() {
            api = api.with_tls();
        }
        let api = api.start().await.unwrap();
        let token_requests = Arc::default();
        let cache = TokenCache::new(RecordingSource {
            source: ClientCredentials::new(login.token_url(), "client", "secret"),
            token_requests: Arc::clone(&token_requests),
        });
        let route = Route::new(api.url(), spec()).with_allowed_scopes(["write"]);
        let layer = AuthLayer::new(cache.clone()).with_route(route).unwrap();
        let (ca, url) = (api.ca_pem(), api.url());
        let sender = match bodies {
            Bodies::Cloned => client::plain(kind, ca.as_deref(), &url, &layer),
            Bodies::Never => client::plain(kind, ca.as_deref(), &url, &layer.without_replay()),
            Bodies::Buffered(limit) => client::buffered(kind, ca.as_deref(), &url, layer, limit),
        };
        Self {
            kind,
            login,
            api,
            cache,
            token_requests,
            sender,
        }
    }

    pub(crate) async fn post(&self, payload: Payload) -> Outcome {
        (self.sender)("/echo", payload).await
    }

    /// Sends an in-memory body of this size, and checks the status and the recovery of the response.
    pub(crate) async fn send(&self, size: usize, outcome: (u16, &str)) -> ClientResponse {
        self.send_to("/echo", size, outcome).await
    }

    pub(crate) async fn send_to(
        &self,
        path: &str,
        size: usize,
        outcome: (u16, &str),
    ) -> ClientResponse {
        let payload = Payload::Whole(pattern(size));
        self.checked((self.sender)(path, payload).await, outcome)
    }

    pub(crate) async fn send_payload(
        &self,
        payload: Payload,
        outcome: (u16, &str),
    ) -> ClientResponse {
        self.checked(self.post(payload).await, outcome)
    }

    fn checked(&self, sent: Outcome, outcome: (u16, &str)) -> ClientResponse {
        let response = sent.unwrap();
        assert_eq!(response.outcome(), outcome, "{:?}", self.kind);
        response
    }

    pub(crate) fn sender(&self) -> Sender {
        Arc::clone(&self.sender)
    }

    /// Sends a first request, which fetches the token and opens the connection, and resets the counters.
    pub(crate) async fn warm_up(&self) {
        self.send(0, (200, "none")).await;
        self.api.reset_counts();
        self.login.reset_counts();
        self.token_requests.lock().unwrap().clear();
    }

    /// Returns the number of API requests and of token requests.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.api.counts().requests, self.login.counts().requests)
    }

    /// Returns the bodies received by the API, in order.
    pub(crate) fn bodies(&self) -> Vec<Digest> {
        let calls = self.api.requests().into_iter();
        calls
            .map(|call| match self.kind.is_tonic() {
                true => Digest::of(&messages(call.body)),
                false => Digest::of(&call.body),
            })
            .collect()
    }

    /// Returns the scopes and claims of the token requests.
    pub(crate) fn token_requests(&self) -> Vec<(String, Option<String>)> {
        let token_requests = self.token_requests.lock().unwrap();
        let each = token_requests.iter().map(|request| {
            let scopes: Vec<_> = request.spec().iter_scopes().collect();
            (scopes.join(" "), request.claims().map(str::to_owned))
        });
        each.collect()
    }
}

pub(crate) fn spec() -> TokenSpec {
    TokenSpec::scopes(["read"])
}

/// A source that records its requests.
struct RecordingSource {
    source: ClientCredentials,
    token_requests: Arc<Mutex<Vec<TokenRequest>>>,
}

impl TokenSource for RecordingSource {
    async fn fetch(&self, request: &TokenRequest) -> Result<NewToken, TokenError> {
        self.token_requests.lock().unwrap().push(request.clone());
        self.source.fetch(request).await
    }
}
