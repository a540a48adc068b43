//! What a server is to do with a request instead of, or besides, answering it properly.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};

use super::response_body::ResponseBody;

/// One misbehaviour, ordered with `fault`, `fault_times` or `fault_always` of either server.
///
/// A fault is made by one of the constructors and refined by the methods:
///
/// ```
/// use std::time::Duration;
/// use tower_bearer::testing::Fault;
///
/// let overloaded = Fault::status(503).with_header("retry-after", "2").after(Duration::from_millis(50));
/// let gateway = Fault::response(502, Some("text/html"), "<h1>Bad Gateway</h1>");
/// let slow = Fault::drip(Duration::from_millis(1));
/// let dated = Fault::none().with_header("date", "Thu, 01 Jan 1970 00:00:00 GMT");
/// ```
///
/// Nothing here panics: what HTTP can't carry (a status outside of 200 to 999, a header that is none) is answered with a 500
/// whose body says so.
#[derive(Clone)]
pub struct Fault {
    after: Duration,
    before_body: bool,
    reply: Reply,
    headers: HeaderMap,
    pause: Option<Duration>,
}

/// What becomes of the request.
#[derive(Clone)]
pub(super) enum Reply {
    /// The answer that it would have got.
    Normal,
    /// This one.
    Custom(StatusCode, Payload),
    /// The connection closes.
    Drop,
    /// Silence.
    Never,
}

#[derive(Clone)]
pub(super) enum Payload {
    Bytes(Bytes),
    Spaces(u64),
}

impl Fault {
    /// The proper answer: a place in the queue for a request that shall succeed, or a start for [`Fault::with_header`] and
    /// [`Fault::before_body`].
    pub fn none() -> Self {
        Self::new(Reply::Normal)
    }

    /// The proper answer, later.
    pub fn delay(delay: Duration) -> Self {
        Self::none().after(delay)
    }

    /// An answer with this status and no body.
    pub fn status(status: u16) -> Self {
        match final_status(status) {
            Some(status) => Self::new(Reply::Custom(status, Payload::Bytes(Bytes::new()))),
            None => Self::none().invalid("status"),
        }
    }

    /// An answer with this status and body.
    pub fn response(status: u16, content_type: Option<&str>, body: impl Into<Bytes>) -> Self {
        let Some(status) = final_status(status) else {
            return Self::status(status);
        };
        let fault = Self::new(Reply::Custom(status, Payload::Bytes(body.into())));
        match content_type {
            Some(content_type) => fault.with_content_type(content_type),
            None => fault,
        }
    }

    /// No answer: the socket is closed, with everything that is under way on it.
    pub fn drop_connection() -> Self {
        Self::new(Reply::Drop)
    }

    /// No answer, and the connection stays open.
    pub fn never() -> Self {
        Self::new(Reply::Never)
    }

    /// The proper answer, its body sent byte by byte, with this pause before each.
    pub fn drip(pause: Duration) -> Self {
        Self {
            pause: Some(pause),
            ..Self::none()
        }
    }

    /// A 200 of `application/json` with so many bytes, all of them blanks, their number unannounced.
    pub fn huge(bytes: usize) -> Self {
        Self::new(Reply::Custom(StatusCode::OK, Payload::Spaces(bytes as u64)))
            .with_content_type("application/json")
    }

    /// A 307 to another place: a client that follows it sends the same method and body again.
    pub fn redirect(location: &str) -> Self {
        Self::status(307).with_header("location", location)
    }

    /// An answer with this status, and with this in `WWW-Authenticate`.
    ///
    /// ```
    /// use tower_bearer::testing::Fault;
    ///
    /// let wider = Fault::challenge(403, r#"Bearer error="insufficient_scope", scope="write""#);
    /// ```
    pub fn challenge(status: u16, challenge: impl AsRef<[u8]>) -> Self {
        Self::status(status).with_header("www-authenticate", challenge)
    }

    /// What a gRPC server that fails a call at once sends: HTTP 200, `grpc-status` in the headers, no body.
    pub fn grpc_status(status: u32) -> Self {
        Self::status(200)
            .with_content_type("application/grpc")
            .with_header("grpc-status", status.to_string())
    }

    /// Waits so long first.
    pub fn after(self, delay: Duration) -> Self {
        Self {
            after: delay,
            ..self
        }
    }

    /// Doesn't read the body of the request. (The authorization server always does.)
    pub fn before_body(self) -> Self {
        Self {
            before_body: true,
            ..self
        }
    }

    /// Puts a header on the answer, in place of those of that name that the proper answer would have. Given twice, the header
    /// is there twice.
    pub fn with_header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let name = HeaderName::from_bytes(name.as_bytes());
        let value = HeaderValue::from_bytes(value.as_ref());
        let (Ok(name), Ok(value)) = (name, value) else {
            return self.invalid("header");
        };
        self.headers.append(name, value);
        self
    }

    /// Replaces the body of the answer. On a fault without a status of its own that is an answer with status 200.
    pub fn with_body(mut self, content_type: &str, body: impl Into<Bytes>) -> Self {
        let status = match self.reply {
            Reply::Custom(status, _) => status,
            _ => StatusCode::OK,
        };
        self.reply = Reply::Custom(status, Payload::Bytes(body.into()));
        self.with_content_type(content_type)
    }

    pub(super) fn delay_before(&self) -> Duration {
        self.after
    }

    pub(super) fn reads_body(&self) -> bool {
        !self.before_body
    }

    pub(super) fn reply(&self) -> &Reply {
        &self.reply
    }

    /// Puts the fault's headers and pace on an answer.
    pub(super) fn apply_to(&self, mut response: Response<ResponseBody>) -> Response<ResponseBody> {
        for name in self.headers.keys() {
            response.headers_mut().remove(name);
            for value in self.headers.get_all(name) {
                response.headers_mut().append(name, value.clone());
            }
        }
        match self.pause {
            Some(pause) => response.map(|body| body.dripping(pause)),
            None => response,
        }
    }

    fn new(reply: Reply) -> Self {
        Self {
            after: Duration::ZERO,
            before_body: false,
            reply,
            headers: HeaderMap::new(),
            pause: None,
        }
    }

    fn with_content_type(mut self, content_type: &str) -> Self {
        self.headers.remove(header::CONTENT_TYPE);
        self.with_header("content-type", content_type)
    }

    fn invalid(mut self, what: &str) -> Self {
        let message = format!("the fault that was ordered has an unusable {what}");
        self.reply = Reply::Custom(
            StatusCode::INTERNAL_SERVER_ERROR,
            Payload::Bytes(message.into()),
        );
        self
    }
}

/// Without the values of headers and the bytes of the body: an ordered answer may hold a token.
impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Fault");
        match &self.reply {
            Reply::Normal => debug.field("reply", &"normal"),
            Reply::Custom(status, Payload::Bytes(body)) => {
                debug.field("status", status).field("body_len", &body.len())
            }
            Reply::Custom(status, Payload::Spaces(count)) => {
                debug.field("status", status).field("body_len", count)
            }
            Reply::Drop => debug.field("reply", &"dropped connection"),
            Reply::Never => debug.field("reply", &"never"),
        };
        let headers: Vec<_> = self.headers.keys().map(HeaderName::as_str).collect();
        debug
            .field("headers", &headers)
            .field("after", &self.after)
            .field("pause", &self.pause);
        debug.field("before_body", &self.before_body).finish()
    }
}

/// A final status: an interim one would leave the client waiting.
fn final_status(status: u16) -> Option<StatusCode> {
    StatusCode::from_u16(status)
        .ok()
        .filter(|status| !status.is_informational())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_a_fault_replace_those_of_the_answer() {
        let fault = Fault::none()
            .with_header("x-one", "a")
            .with_header("x-one", "b");
        let answer = Response::builder()
            .header("x-one", "old")
            .header("x-two", "kept")
            .body(ResponseBody::empty());
        let answer = fault.apply_to(answer.unwrap());
        let ones: Vec<_> = answer.headers().get_all("x-one").iter().collect();
        assert_eq!(ones, ["a", "b"]);
        assert_eq!(answer.headers()["x-two"], "kept");
    }

    #[test]
    fn what_http_cannot_carry_becomes_a_500() {
        for fault in [
            Fault::status(42),
            Fault::status(100),
            Fault::response(1000, Some("text/plain"), "x"),
            Fault::none().with_header("no name", "x"),
            Fault::redirect("line\nbreak"),
        ] {
            assert!(
                matches!(
                    fault.reply,
                    Reply::Custom(StatusCode::INTERNAL_SERVER_ERROR, _)
                ),
                "{fault:?}"
            );
        }
    }

    #[test]
    fn debug_shows_neither_body_nor_header_values() {
        let fault = Fault::response(200, None, "{\"access_token\":\"hidden\"}")
            .with_header("authorization", "hidden");
        let shown = format!("{fault:?}");
        assert!(!shown.contains("hidden"), "{shown}");
        assert!(shown.contains("authorization"), "{shown}");
    }
}
