//! Measures tower-http's fixed header, the cheapest alternative.

use std::convert::Infallible;

use ::tower_http::auth::AddAuthorizationLayer;
use tower::Layer;

use crate::{
    contender::{Contender, nothing, through},
    services::Nothing,
};

pub fn header() -> Contender {
    let layer = AddAuthorizationLayer::bearer(&"t".repeat(1024));
    Contender {
        package: "tower-http",
        what: "`AddAuthorizationLayer`",
        without: nothing(),
        with: through(layer.layer(Nothing::<Infallible>::new())),
        cold: None,
        reacts: false,
        scopes: false,
        note: "a fixed header: no cache, no expiry, no refresh",
    }
}
