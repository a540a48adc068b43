//! Defines the faults that a test can inject into either server.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};

use super::response_body::ResponseBody;

/// A fault that a server injects into a response. It is queued with `fault`, `fault_times` or `fault_always` of either server.
///
/// A fault is created by one of the constructors and refined by the methods:
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
/// No method panics. A fault with an invalid status (outside of 200 to 999) or header is answered with status 500 and a body that
/// names the mistake.
#[derive(Clone)]
pub struct Fault {
    after: Duration,
    before_body: bool,
    reply: Reply,
    headers: HeaderMap,
    pause: Option<Duration>,
}

/// How the server replies.
#[derive(Clone)]
pub(super) enum Reply {
    /// Sends the response that the request gets without a fault.
    Normal,
    /// Sends this response.
    Custom(StatusCode, Payload),
    /// Closes the connection.
    Drop,
    /// Sends no response.
    Never,
}

#[derive(Clone)]
pub(super) enum Payload {
    Bytes(Bytes),
    Spaces(u64),
}

impl Fault {
    /// Creates a fault that sends the regular response. It lets one request in the queue succeed, or is refined by
    /// [`Fault::with_header`] and [`Fault::before_body`].
    pub fn none() -> Self {
        Self::new(Reply::Normal)
    }

    /// Creates a fault that sends the regular response after a delay.
    pub fn delay(delay: Duration) -> Self {
        Self::none().after(delay)
    }

    /// Creates a fault that sends a response with this status and no body.
    pub fn status(status: u16) -> Self {
        match final_status(status) {
            Some(status) => Self::new(Reply::Custom(status, Payload::Bytes(Bytes::new()))),
            None => Self::none().invalid("status"),
        }
    }

    /// Creates a fault that sends a response with this status and body.
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

    /// Creates a fault that closes the connection without a response. Other requests on the connection are lost too.
    pub fn drop_connection() -> Self {
        Self::new(Reply::Drop)
    }

    /// Creates a fault that sends no response and keeps the connection open.
    pub fn never() -> Self {
        Self::new(Reply::Never)
    }

    /// Creates a fault that sends the body of the regular response byte by byte, with this pause before each byte.
    pub fn drip(pause: Duration) -> Self {
        Self {
            pause: Some(pause),
            ..Self::none()
        }
    }

    /// Creates a fault that sends status 200 and an `application/json` body of `bytes` spaces without a declared length.
    pub fn huge(bytes: usize) -> Self {
        Self::new(Reply::Custom(StatusCode::OK, Payload::Spaces(bytes as u64)))
            .with_content_type("application/json")
    }

    /// Creates a fault that sends a 307 redirect. A client that follows it repeats the method and the body.
    pub fn redirect(location: &str) -> Self {
        Self::status(307).with_header("location", location)
    }

    /// Creates a fault that sends this status with `challenge` as the value of `WWW-Authenticate`.
    ///
    /// ```
    /// use tower_bearer::testing::Fault;
    ///
    /// let wider = Fault::challenge(403, r#"Bearer error="insufficient_scope", scope="write""#);
    /// ```
    pub fn challenge(status: u16, challenge: impl AsRef<[u8]>) -> Self {
        Self::status(status).with_header("www-authenticate", challenge)
    }

    /// Creates a fault that sends the response of a failed gRPC call: HTTP 200 with `grpc-status` in the headers and no body.
    pub fn grpc_status(status: u32) -> Self {
        Self::status(200)
            .with_content_type("application/grpc")
            .with_header("grpc-status", status.to_string())
    }

    /// Delays the response.
    pub fn after(self, delay: Duration) -> Self {
        Self {
            after: delay,
            ..self
        }
    }

    /// Sends the response without reading the request's body. The authorization server always reads the body.
    pub fn before_body(self) -> Self {
        Self {
            before_body: true,
            ..self
        }
    }

    /// Adds a header to the response. It replaces the headers with this name in the regular response. Calling this twice with the
    /// same name adds two headers.
    pub fn with_header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let name = HeaderName::from_bytes(name.as_bytes());
        let value = HeaderValue::from_bytes(value.as_ref());
        let (Ok(name), Ok(value)) = (name, value) else {
            return self.invalid("header");
        };
        self.headers.append(name, value);
        self
    }

    /// Replaces the body of the response. The status is 200 unless the fault sets another one.
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

    /// Applies the fault's headers and pauses to a response.
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
        let message = format!("the fault that the test injected has an invalid {what}");
        self.reply = Reply::Custom(
            StatusCode::INTERNAL_SERVER_ERROR,
            Payload::Bytes(message.into()),
        );
        self
    }
}

/// Omits header values and the body, which may contain a token.
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

/// Returns the status unless it is invalid or informational: after an informational one the client would wait for another.
fn final_status(status: u16) -> Option<StatusCode> {
    StatusCode::from_u16(status)
        .ok()
        .filter(|status| !status.is_informational())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_a_fault_replace_those_of_the_response() {
        let fault = Fault::none()
            .with_header("x-one", "a")
            .with_header("x-one", "b");
        let response = Response::builder()
            .header("x-one", "old")
            .header("x-two", "kept")
            .body(ResponseBody::empty());
        let response = fault.apply_to(response.unwrap());
        let ones: Vec<_> = response.headers().get_all("x-one").iter().collect();
        assert_eq!(ones, ["a", "b"]);
        assert_eq!(response.headers()["x-two"], "kept");
    }

    #[test]
    fn invalid_status_or_header_becomes_a_500() {
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
