//! A client, its layer, and the servers that it talks to.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tower_bearer::{
    AuthLayer, NewToken, Route, TokenCache, TokenError, TokenSource, TokenSpec,
    credentials::ClientCredentials,
    source::TokenRequest,
    testing::{Api, AuthorizationServer},
};

use super::client::{self, Digest, Kind, Payload, Sender, Sent, messages};

/// More than anything that is sent here.
const AMPLE: usize = 4 << 20;

pub(crate) struct Fixture {
    pub(crate) kind: Kind,
    pub(crate) login: AuthorizationServer,
    pub(crate) api: Api,
    pub(crate) cache: TokenCache,
    asked: Arc<Mutex<Vec<TokenRequest>>>,
    send: Sender,
}

/// How bodies are sent again.
#[derive(Clone, Copy)]
enum Bodies {
    AsTheyAre,
    Never,
    Kept(usize),
}

impl Fixture {
    /// With a client that sends bodies in memory again: tonic's are never known to be, so what it sends is kept.
    pub(crate) async fn new(kind: Kind) -> Self {
        match kind.is_tonic() {
            true => Self::keeping(kind, AMPLE).await,
            false => Self::plain(kind).await,
        }
    }

    /// Without any buffer.
    pub(crate) async fn plain(kind: Kind) -> Self {
        Self::start(kind, Bodies::AsTheyAre).await
    }

    pub(crate) async fn without_replay(kind: Kind) -> Self {
        Self::start(kind, Bodies::Never).await
    }

    /// With a buffer of this size.
    pub(crate) async fn keeping(kind: Kind, limit: usize) -> Self {
        Self::start(kind, Bodies::Kept(limit)).await
    }

    async fn start(kind: Kind, bodies: Bodies) -> Self {
        let login = AuthorizationServer::start().await.unwrap();
        let mut api = Api::builder(&login)
            .requiring_scope("/write", "write")
            .requiring_scope("/admin", "admin");
        if kind.is_tls() {
            api = api.with_tls();
        }
        let api = api.start().await.unwrap();
        let asked = Arc::default();
        let cache = TokenCache::new(RecordingSource {
            source: ClientCredentials::new(login.token_url(), "client", "secret"),
            asked: Arc::clone(&asked),
        });
        let route =
            Route::new(api.url(), TokenSpec::scopes(["read"])).with_allowed_scopes(["write"]);
        let layer = AuthLayer::new(cache.clone()).with_route(route).unwrap();
        let (ca, url) = (api.ca_pem(), api.url());
        let send = match bodies {
            Bodies::AsTheyAre => client::plain(kind, ca.as_deref(), &url, &layer),
            Bodies::Never => client::plain(kind, ca.as_deref(), &url, &layer.without_replay()),
            Bodies::Kept(limit) => client::buffered(kind, ca.as_deref(), &url, layer, limit),
        };
        Self {
            kind,
            login,
            api,
            cache,
            asked,
            send,
        }
    }

    pub(crate) async fn post(&self, payload: Payload) -> Sent {
        self.post_to("/echo", payload).await
    }

    pub(crate) async fn post_to(&self, path: &str, payload: Payload) -> Sent {
        (self.send)(path, payload).await
    }

    /// The way to send, for another task.
    pub(crate) fn sender(&self) -> Sender {
        Arc::clone(&self.send)
    }

    /// A first request, which fetches the token and opens the connection. The counters start after it.
    pub(crate) async fn warm_up(&self) {
        let answer = self.post(Payload::Whole(Bytes::new())).await.unwrap();
        assert_eq!(answer.outcome(), (200, "none"), "{:?}", self.kind);
        self.api.reset_counts();
        self.login.reset_counts();
        self.asked.lock().unwrap().clear();
    }

    /// Requests that arrived, and token requests.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.api.counts().requests, self.login.counts().requests)
    }

    /// The bodies that arrived, in their order.
    pub(crate) fn bodies(&self) -> Vec<Digest> {
        let calls = self.api.requests().into_iter();
        calls
            .map(|call| match self.kind.is_tonic() {
                true => Digest::of(&messages(call.body)),
                false => Digest::of(&call.body),
            })
            .collect()
    }

    /// The scopes and the claims of the token requests.
    pub(crate) fn asked(&self) -> Vec<(String, Option<String>)> {
        let asked = self.asked.lock().unwrap();
        let each = asked.iter().map(|request| {
            let scopes: Vec<_> = request.spec().iter_scopes().collect();
            (scopes.join(" "), request.claims().map(str::to_owned))
        });
        each.collect()
    }
}

/// A source that remembers what it was asked for.
struct RecordingSource {
    source: ClientCredentials,
    asked: Arc<Mutex<Vec<TokenRequest>>>,
}

impl TokenSource for RecordingSource {
    async fn fetch(&self, request: &TokenRequest) -> Result<NewToken, TokenError> {
        self.asked.lock().unwrap().push(request.clone());
        self.source.fetch(request).await
    }
}
