//! Implements a store in one file, for programs that start often and may run several times at once.
//!
//! | file | contents |
//! |---|---|
//! | `file_store` | [`FileStore`] |
//! | `disk` | reading, locking and replacing the file |
//! | `format` | the encoding of the file; pure |

mod disk;
mod file_store;
mod format;

pub use file_store::FileStore;
