//! This module collects response bodies, which contain tokens: it limits their size and wipes them when they are dropped.

use bytes::Bytes;
use http::Response;
use http_body::Body;
use http_body_util::BodyExt;
use zeroize::Zeroizing;

use super::length::check_length;
use crate::{error::TokenError, secret::wiped};

/// Collects the body of a response. `fault` converts an error of the body.
pub(super) async fn collect<B: Body<Data = Bytes> + Unpin>(
    response: Response<B>,
    fault: impl Fn(B::Error) -> TokenError,
) -> Result<Response<Bytes>, TokenError> {
    let (parts, mut body) = response.into_parts();
    let length = body.size_hint().exact().unwrap_or(4 << 10);
    let capacity = usize::try_from(length).unwrap_or(usize::MAX);
    check_length(capacity)?;
    let mut collected = Zeroizing::new(Vec::with_capacity(capacity));
    while let Some(frame) = body.frame().await {
        let Ok(chunk) = frame.map_err(&fault)?.into_data() else {
            continue;
        };
        let length = collected.len() + chunk.len();
        check_length(length)?;
        if length > collected.capacity() {
            // A vector that grows by itself does not wipe the memory that it frees.
            let capacity = length.max(2 * collected.capacity());
            let mut larger = Zeroizing::new(Vec::with_capacity(capacity));
            larger.extend_from_slice(&collected);
            collected = larger;
        }
        collected.extend_from_slice(&chunk);
    }
    Ok(Response::from_parts(parts, wiped(collected)))
}
