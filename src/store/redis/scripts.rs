//! Defines the Lua scripts that Redis runs atomically: compare-and-delete, fences, leases.
//!
//! A script may run twice for one call, because it is sent again if the connection breaks before the response. The second run
//! changes nothing, and returns the same result where possible.

use redis::{Cmd, ErrorKind, Script, ServerErrorKind};

/// A script with the digest by which Redis knows it after the first run.
pub(super) struct LuaScript {
    text: &'static str,
    digest: Script,
}

/// All scripts.
pub(super) struct Scripts {
    /// Keys: value, fence. Arguments: fence, value, milliseconds. Returns whether the value was stored.
    pub(super) put: LuaScript,
    /// Keys: value. Arguments: value. Returns whether it was deleted.
    pub(super) delete_if: LuaScript,
    /// Keys: lease, fence. Arguments: holder, milliseconds, milliseconds that the fence is remembered. Returns the fence, or
    /// nil if the lease is taken.
    pub(super) lease: LuaScript,
    /// Keys: lease. Arguments: holder. Returns whether it was released.
    pub(super) release: LuaScript,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            put: LuaScript::new(PUT),
            delete_if: LuaScript::new(DELETE_IF_SAME),
            lease: LuaScript::new(LEASE),
            release: LuaScript::new(DELETE_IF_SAME),
        }
    }
}

impl LuaScript {
    fn new(text: &'static str) -> Self {
        Self {
            text,
            digest: Script::new(text),
        }
    }

    /// Returns the command that runs the script by its digest.
    pub(super) fn by_digest(&self, keys: &[String], arguments: &[&[u8]]) -> Cmd {
        run("EVALSHA", self.digest.get_hash(), keys, arguments)
    }

    /// Returns the command that runs the script by its text, if the error says that its digest is unknown.
    pub(super) fn by_text(
        &self,
        error: &redis::RedisError,
        keys: &[String],
        arguments: &[&[u8]],
    ) -> Option<Cmd> {
        let unknown = error.kind() == ErrorKind::Server(ServerErrorKind::NoScript);
        unknown.then(|| run("EVAL", self.text, keys, arguments))
    }
}

fn run(command: &str, script: &str, keys: &[String], arguments: &[&[u8]]) -> Cmd {
    let mut run = redis::cmd(command);
    run.arg(script).arg(keys.len()).arg(keys).arg(arguments);
    run
}

const PUT: &str = "\
local highest = redis.call('GET', KEYS[2])
if highest and tonumber(highest) > tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1";

const DELETE_IF_SAME: &str = "\
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])";

// A fence is the time in microseconds, or one more than the previous fence if that is higher. Fences therefore grow even after
// Redis has lost its data. They are below 2^53, so a Lua number represents them exactly.
const LEASE: &str = "\
local holder = redis.call('GET', KEYS[1])
if holder == ARGV[1] then return redis.call('GET', KEYS[2]) end
if holder then return false end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local fence = tonumber(redis.call('GET', KEYS[2]) or '0') + 1
if now > fence then fence = now end
fence = string.format('%.0f', fence)
redis.call('SET', KEYS[2], fence, 'PX', ARGV[3])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return fence";
