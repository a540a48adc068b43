//! One page for each task, with complete examples and the usual mistakes.
//!
//! | page | contents |
//! |---|---|
//! | [`service_to_service`] | a service that calls others on its own behalf, with Microsoft Entra ID and without a secret |
//! | [`on_behalf_of`] | a service that calls others on behalf of its users |
//! | [`providers`] | Keycloak, Auth0, Okta and other providers |
//! | [`tonic`] | gRPC clients |
//! | [`many_tenants`] | one program with tokens of many customers |
//! | [`fleet`] | several processes that share their tokens, and tools that start often |
//! | [`own_source`] | tokens from a system that this crate does not support |
//! | [`own_store`] | tokens in a custom database |
//! | [`testing_your_service`] | tests of a program that uses this crate |
//! | [`migrating`] | replacing azure_core's policy, a custom middleware, or tower's retry |
//!
//! Every example is compiled, and most are run, against the in-process servers of the feature `testing`.

/// Adds a page, whose examples are tests if these features are enabled.
macro_rules! page {
    ($name:ident, $file:literal, $($feature:literal),+) => {
        #[cfg(any(not(doctest), all($(feature = $feature),+)))]
        #[doc = include_str!($file)]
        pub mod $name {}
    };
}

page!(fleet, "fleet.md", "file", "redis", "reqwest", "testing");
page!(many_tenants, "many_tenants.md", "reqwest", "testing");
page!(migrating, "migrating.md", "reqwest-middleware", "testing");
page!(on_behalf_of, "on_behalf_of.md", "reqwest", "testing");
page!(own_source, "own_source.md", "testing");
page!(own_store, "own_store.md", "store", "testing");
page!(providers, "providers.md", "reqwest", "testing");
page!(
    service_to_service,
    "service_to_service.md",
    "jwt",
    "reqwest",
    "testing"
);
page!(
    testing_your_service,
    "testing_your_service.md",
    "reqwest",
    "testing"
);
page!(tonic, "tonic.md", "reqwest", "testing");
