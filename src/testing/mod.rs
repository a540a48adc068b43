//! An authorization server and a protected API.
