//! This module builds the errors of requests without a response. They contain only scheme, host and port of the URL.

use std::{error::Error, io, iter};

use http::Uri;

use crate::error::{ErrorKind, TokenError};

pub(super) type BoxError = Box<dyn Error + Send + Sync>;

/// The step of a request that failed.
#[derive(Clone, Copy)]
pub(super) enum RequestStage {
    Connecting,
    Waiting,
    Reading,
}

impl RequestStage {
    /// Returns the stage at which sending failed.
    pub(super) const fn of_send(is_connect: bool) -> Self {
        match is_connect {
            true => Self::Connecting,
            false => Self::Waiting,
        }
    }
}

/// Converts an error of a client; `is_timeout` is set if the client itself reports a timeout. The error must not contain
/// the URL of the request.
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
            format!("connecting to {origin} timed out: check the URL, the network and the firewall")
        }
        RequestStage::Connecting => format!(
            "can't reach {origin}: {cause}: check the URL, the network and the server's certificate"
        ),
        RequestStage::Waiting => {
            format!(
                "the connection to {origin} broke before the response arrived: {cause}: try again"
            )
        }
        RequestStage::Reading => {
            format!("the response from {origin} is incomplete: {cause}: try again")
        }
    };
    let kind = match is_timeout {
        true => ErrorKind::Timeout,
        false => ErrorKind::Network,
    };
    TokenError::new(kind, message).with_source(error)
}

/// Converts the error of a client that can't be built.
pub(super) fn build_error(error: impl Into<BoxError>) -> TokenError {
    let error = error.into();
    let cause = root_cause(&*error).to_string();
    TokenError::configuration(format!(
        "the HTTP client for the token endpoint can't be built: {cause}: check the platform's and the configured root \
         certificates, and that the client certificate matches its key"
    ))
    .with_source(error)
}

/// Returns scheme, host and port, without userinfo, path and query.
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
    iter::successors(Some(error), |&error| error.source())
}
