//! How to do what: a page for each task, with complete examples, and what goes wrong if it is done otherwise.
//!
//! | page | for whom |
//! |---|---|
//! | [`service_to_service`] | a service that calls others in its own name, with Microsoft Entra ID and without a secret |
//! | [`on_behalf_of`] | a service that calls others in the name of its users |
//! | [`providers`] | whoever has Keycloak, Auth0, Okta or another provider |
//! | [`tonic`] | gRPC clients |
//! | [`many_tenants`] | one program with tokens of many customers |
//! | [`fleet`] | many processes that share their tokens, and tools that start often |
//! | [`own_source`] | whoever gets tokens from somewhere that this crate has no source for |
//! | [`own_store`] | whoever keeps them in a database of their own |
//! | [`testing_your_service`] | whoever tests a program that uses this crate |
//! | [`migrating`] | whoever has azure_core's policy, a middleware of their own, or tower's retry |
//!
//! Every example is compiled, and nearly every one is run: against the servers of the feature `testing`, in its own process.

/// A page, whose examples are tests if there are these features.
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
