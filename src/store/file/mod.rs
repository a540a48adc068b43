//! A store in one file, for programs that start often, and for several of them at once.
//!
//! | file | what it holds |
//! |---|---|
//! | `file_store` | [`FileStore`] |
//! | `disk` | the file: read, locked, replaced |
//! | `format` | what stands in it; pure |

mod disk;
mod file_store;
mod format;

pub use file_store::FileStore;
