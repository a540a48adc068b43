//! Converts tokens to stored records and back.

use zeroize::Zeroizing;

use crate::{
    cache::freshness,
    clock::Moment,
    store::Record,
    token::{NewToken, Times},
};

/// Makes the record of a token.
pub(super) fn from_token(token: &NewToken, times: &Times) -> Record {
    Record {
        text: Zeroizing::new(token.expose().to_owned()),
        requested_at: times.requested_at().wall,
        refresh_at: times.refresh_at().wall,
        expires_at: times.expires_at().wall,
        scopes: token.scopes.as_deref().map(Into::into),
        extra_headers: token.extra_headers.clone(),
    }
}

/// Makes a token of a record, with its times as of now. Returns `None` if the token can't be sent in a header.
pub(super) fn to_token(record: &Record, now: Moment, jitter: f64) -> Option<(NewToken, Times)> {
    let mut token = NewToken::bearer(&record.text).ok()?;
    if let Some(scopes) = &record.scopes {
        token = token.with_granted_scopes(scopes);
    }
    for (name, value) in &record.extra_headers {
        token = token.with_header(name.clone(), value.clone());
    }
    let &Record {
        requested_at,
        refresh_at,
        expires_at,
        ..
    } = record;
    let times = freshness::resume(now, requested_at, refresh_at, expires_at, jitter);
    Some((token, times))
}
