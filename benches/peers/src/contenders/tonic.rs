//! Measures a tonic interceptor with a fixed token, which is common in gRPC clients.

use std::convert::Infallible;

use ::tonic::{Request, metadata::MetadataValue, service::interceptor::InterceptedService};

use crate::{
    contender::{Contender, nothing, through},
    services::Nothing,
};

pub fn interceptor() -> Contender {
    let token: MetadataValue<_> = format!("Bearer {}", "t".repeat(1024)).parse().unwrap();
    let interceptor = move |mut request: Request<()>| {
        request
            .metadata_mut()
            .insert("authorization", token.clone());
        Ok(request)
    };
    let client = Nothing::<Infallible>::new();
    Contender {
        package: "tonic",
        what: "`InterceptedService`",
        without: nothing(),
        with: through(InterceptedService::new(client, interceptor)),
        cold: None,
        reacts: false,
        scopes: false,
        note: "a fixed header: an interceptor is synchronous and can't fetch",
    }
}
