//! Why an endpoint gave no answer, told without what an address may hold beside host and port.

use std::{error::Error, io};

use http::Uri;

use crate::error::{ErrorKind, TokenError};

pub(super) type BoxError = Box<dyn Error + Send + Sync>;

/// When it failed.
#[derive(Clone, Copy)]
pub(super) enum RequestStage {
    Connecting,
    Waiting,
    Reading,
}

/// What a client's error comes to; `late` if the client itself calls it a timeout. The error must not show the
/// request's address.
pub(super) fn request_error(
    uri: &Uri,
    stage: RequestStage,
    is_timeout: bool,
    error: impl Into<BoxError>,
) -> TokenError {
    let error = error.into();
    let origin = origin(uri);
    let (cause, is_timeout) = (root_cause(&*error), is_timeout || is_timed_out(&*error));
    let message = match stage {
        RequestStage::Connecting if is_timeout => {
            format!(
                "no connection to {origin} in time: check the address, the network and the firewall"
            )
        }
        RequestStage::Connecting => format!(
            "can't reach {origin}: {cause}: check the address, the network, and the trust in its certificate"
        ),
        RequestStage::Waiting => {
            format!("the connection to {origin} broke before the answer came: {cause}: try again")
        }
        RequestStage::Reading => format!("the answer of {origin} broke off: {cause}: try again"),
    };
    let kind = if is_timeout {
        ErrorKind::Timeout
    } else {
        ErrorKind::Network
    };
    TokenError::new(kind, message).with_source(error)
}

/// What keeps the client itself from being built.
pub(super) fn build_error(error: impl Into<BoxError>) -> TokenError {
    let error = error.into();
    let cause = root_cause(&*error).to_string();
    TokenError::configuration(format!(
        "the token endpoint's client can't be built: {cause}: check the platform's and your own root certificates, \
         and that the client's certificate and key belong together"
    ))
    .with_source(error)
}

/// Scheme, host and port alone: no userinfo, no query.
fn origin(uri: &Uri) -> String {
    let scheme = uri.scheme_str().unwrap_or("https");
    let host = uri.host().unwrap_or_default();
    match uri.port_u16() {
        Some(port) => format!("{scheme}://{host}:{port}"),
        None => format!("{scheme}://{host}"),
    }
}

fn root_cause<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    chain(error).last().unwrap_or(error)
}

fn is_timed_out(error: &(dyn Error + 'static)) -> bool {
    chain(error)
        .filter_map(|error| error.downcast_ref::<io::Error>())
        .any(|error| error.kind() == io::ErrorKind::TimedOut)
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}
