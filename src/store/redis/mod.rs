//! A store in Redis, which all processes of a fleet share.
//!
//! | file | what it holds |
//! |---|---|
//! | `redis_store` | [`RedisStore`] |
//! | `config` | where Redis is and who we are there |
//! | `connection` | one connection, to a server or to a cluster |
//! | `connections` | a connection for each runtime |
//! | `scripts` | what runs within Redis |
//! | `error` | what Redis said no with |

mod config;
mod connection;
mod connections;
mod error;
mod redis_store;
mod scripts;

pub use redis_store::RedisStore;
