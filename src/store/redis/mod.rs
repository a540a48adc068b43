//! A store in Redis, which all processes of a fleet share.
//!
//! | file | what it holds |
//! |---|---|
//! | `store` | [`RedisStore`] |
//! | `address` | where Redis is and who we are there |
//! | `connection` | one connection, to a server or to a cluster |
//! | `connections` | a connection for each runtime |
//! | `scripts` | what runs within Redis |
//! | `fault` | what Redis said no with |

mod address;
mod connection;
mod connections;
mod fault;
mod scripts;
mod store;

pub use store::RedisStore;
