//! How to do what: a page for each task, with complete examples, and what goes wrong if it is done otherwise.
//!
//! | page | for whom |
//! |---|---|
//! | [`service_to_service`] | a service that calls others in its own name, with Microsoft Entra ID and without a secret |
//! | [`providers`] | whoever has Keycloak, Auth0, Okta or another provider |
//! | [`on_behalf_of`] | a service that calls others in the name of its users |
//! | [`tonic`] | gRPC clients |
//! | [`testing_your_service`] | whoever tests a program that uses this crate |
//!
//! Every example is compiled, and nearly every one is run: against the servers of the feature `testing`, in its own process.

// Without these features the pages can be read, and their examples are no tests.
macro_rules! page {
    ($name:ident, $file:literal) => {
        #[cfg(any(
            not(doctest),
            all(
                feature = "file",
                feature = "jwt",
                feature = "redis",
                feature = "reqwest-middleware",
                feature = "testing"
            )
        ))]
        #[doc = include_str!($file)]
        pub mod $name {}
    };
}

page!(service_to_service, "service_to_service.md");
page!(providers, "providers.md");
page!(on_behalf_of, "on_behalf_of.md");
page!(tonic, "tonic.md");
page!(testing_your_service, "testing_your_service.md");
