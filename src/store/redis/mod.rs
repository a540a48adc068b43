//! Implements a store in Redis, which the processes of a fleet share.
//!
//! | file | contents |
//! |---|---|
//! | `redis_store` | [`RedisStore`] |
//! | `config` | the server or cluster, and the credentials |
//! | `connection` | one connection to a server or a cluster |
//! | `connections` | the connections, one for each runtime |
//! | `scripts` | the Lua scripts that run in Redis |
//! | `error` | the translation of Redis errors |

mod config;
mod connection;
mod connections;
mod error;
mod redis_store;
mod scripts;

pub use redis_store::RedisStore;
