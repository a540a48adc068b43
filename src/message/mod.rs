//! What the layer needs of requests and responses, whichever client they belong to.
//!
//! | file | what it holds |
//! |---|---|
//! | `outgoing` | a request that can be given a token |
//! | `incoming` | a response that can be judged |
//! | `over_reqwest` | reqwest's own requests and responses |
//! | `twin` | a second request like the first, where that is cheap |
//! | `drain` | reading on what nobody will read, for the sake of its connection |

mod drain;
mod incoming;
mod outgoing;
#[cfg(feature = "reqwest")]
mod over_reqwest;
mod twin;

pub(crate) use drain::Draining;
#[cfg(feature = "reqwest")]
pub(crate) use incoming::AnsweredBy;
pub(crate) use incoming::HttpResponse;
pub(crate) use outgoing::HttpRequest;
