//! What was done about a response that refused the token.

use crate::{error::TokenError, verdict::Verdict};

/// What was done about a response that refused the token; in the extensions of the response that the caller gets, and
/// only if there was something to do.
///
/// ```
/// use tower_bearer::Recovery;
///
/// fn note<B>(response: &http::Response<B>) {
///     match response.extensions().get::<Recovery>() {
///         None => {}
///         Some(Recovery::Recovered) => println!("the token was revoked, and nobody noticed"),
///         Some(Recovery::NoToken(error)) => println!("the 401 stands, for want of another token: {error}"),
///         Some(other) => println!("the response stands: {other:?}"),
///     }
/// }
/// # note(&http::Response::new(()));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Recovery {
    /// The token was refused; the request was sent again with another, and this is the answer.
    Recovered,
    /// The token was refused, and so was the next one: this is the second answer.
    RejectedAgain,
    /// The token was refused and is out of service; the request's body can't be sent twice, so this is the first answer.
    NotReplayable,
    /// The token was refused, and no other could be had; this is the first answer.
    NoToken(TokenError),
    /// The token was refused, and its source gave the very same one again; this is the first answer.
    SameToken,
    /// The token was refused, as too many were before it; it stays in service, and this is the first answer.
    RejectionLimitReached,
    /// The response wants something that another token of the same kind would not give it.
    Unsatisfiable(Verdict),
}

impl Recovery {
    /// The outcome's name in snake_case, for logs and metrics.
    ///
    /// ```
    /// assert_eq!(tower_bearer::Recovery::SameToken.as_str(), "same_token");
    /// ```
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Recovered => "recovered",
            Self::RejectedAgain => "rejected_again",
            Self::NotReplayable => "not_replayable",
            Self::NoToken(_) => "no_token",
            Self::SameToken => "same_token",
            Self::RejectionLimitReached => "rejection_limit_reached",
            Self::Unsatisfiable(_) => "unsatisfiable",
        }
    }
}
