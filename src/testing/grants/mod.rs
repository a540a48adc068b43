//! The grants that the token endpoint knows, one file each: what does the request ask for, and may the client have it?

mod client_credentials;
mod table;

pub(super) use table::{NAMES, asked};
