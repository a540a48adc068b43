//! stub until merge
use http::{HeaderMap, StatusCode};
/// v
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// p
    Pass,
    /// r
    Rejected,
}
#[inline]
pub(crate) fn judge(status: StatusCode, _headers: &HeaderMap) -> Verdict {
    if status == StatusCode::UNAUTHORIZED {
        Verdict::Rejected
    } else {
        Verdict::Pass
    }
}
