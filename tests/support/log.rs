//! What the log says to a test: there is one log for the whole program, and each thread reads what it wrote itself.
//!
//! Whether anybody wants a line is asked once, when a thread first comes to where it is written, and the answer is kept for all
//! threads. A log that one thread has to itself is not asked then, if another thread comes first: the line never shows, or does
//! so on some days. So whatever reads a log here calls [`begin`] first, and so does every test beside it that may write the same
//! lines.

use std::{cell::RefCell, io, sync::Once};

thread_local! {
    static LINES: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// From here on, what this thread logs is kept.
pub(crate) fn begin() {
    static LOG: Once = Once::new();
    LOG.call_once(|| {
        let log = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_ansi(false)
            .without_time()
            .with_writer(|| OfThisThread)
            .finish();
        tracing::subscriber::set_global_default(log).expect("there is another log");
    });
    LINES.set(Some(Vec::new()));
}

/// What this thread has logged since it was last asked.
pub(crate) fn take() -> String {
    let lines = LINES.replace(Some(Vec::new()));
    String::from_utf8(lines.expect("the log has not begun")).unwrap()
}

struct OfThisThread;

impl io::Write for OfThisThread {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A thread that ends may have something to say after its lines are gone.
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
