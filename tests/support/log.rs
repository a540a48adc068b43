//! Captures log lines: there is one subscriber for the process, and each thread reads the lines that it wrote.
//!
//! `tracing` asks once per call site whether a line is enabled, and caches the result for all threads. With a subscriber
//! per thread, the result would depend on which thread is first. So each test that reads log lines calls [`begin`]
//! first, and so does each test in the same binary that may write them.

use std::{cell::RefCell, io, sync::Once};

thread_local! {
    static LINES: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Starts to capture the log lines of this thread.
pub(crate) fn begin() {
    static LOG: Once = Once::new();
    LOG.call_once(|| {
        let log = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_ansi(false)
            .without_time()
            .with_writer(|| ThreadLog)
            .finish();
        tracing::subscriber::set_global_default(log).expect("another subscriber is installed");
    });
    LINES.set(Some(Vec::new()));
}

/// Returns the lines captured since the last call.
pub(crate) fn take() -> String {
    let lines = LINES.replace(Some(Vec::new()));
    String::from_utf8(lines.expect("log::begin was not called")).unwrap()
}

struct ThreadLog;

impl io::Write for ThreadLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A thread may log after its thread-local storage was destroyed.
        let _ = LINES.try_with(|lines| {
            if let Some(lines) = lines.borrow_mut().as_mut() {
                lines.extend_from_slice(bytes);
            }
        });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
