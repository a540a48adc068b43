//! Converts tokens to stored records and back.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::{
    cache::freshness,
    clock::Moment,
    store::Record,
    token::{NewToken, Times},
};

/// Makes the record of a token.
pub(super) fn from_token(token: &NewToken, times: &Times) -> Record {
    let at = Moment::system_time;
    let mut record = Record::new(
        token.expose(),
        at(times.requested_at()),
        at(times.refresh_at()),
        at(times.expires_at()),
    );
    record.scopes = token.scopes.as_deref().map(Into::into);
    record.extra_headers = token.extra_headers.clone();
    record
}

/// Makes a token of a record, with its times as of now. Returns `None` if the token can't be sent in a header.
pub(super) fn to_token(record: &Record, now: Moment, jitter: f64) -> Option<(NewToken, Times)> {
    let times = freshness::resume(
        now,
        nanos(record.requested_at),
        nanos(record.refresh_at),
        nanos(record.expires_at),
        jitter,
    );
    let mut token = NewToken::bearer(&record.text).ok()?;
    if let Some(scopes) = &record.scopes {
        token = token.with_granted_scopes(scopes);
    }
    for (name, value) in &record.extra_headers {
        token = token.with_header(name.clone(), value.clone());
    }
    Some((token, times))
}

fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
