//! What runs within Redis, because it must happen at once: comparison and deletion, fences, leases.
//!
//! Each may run twice for one call: where a connection breaks, nobody knows whether Redis did what it was asked. So the
//! second run changes nothing, and says the same where it can.

use redis::{Cmd, ErrorKind, Script, ServerErrorKind};

/// A script: its text, and the digest by which Redis knows it once it has run.
pub(super) struct LuaScript {
    text: &'static str,
    digest: Script,
}

/// Every script.
pub(super) struct Scripts {
    /// Keys: value, fence. Arguments: fence, value, milliseconds. Whether it was put.
    pub(super) put: LuaScript,
    /// Keys: value. Arguments: value. Whether it was deleted.
    pub(super) delete_if: LuaScript,
    /// Keys: lease, fence. Arguments: holder, milliseconds, milliseconds that the fence is remembered. The fence, or nil.
    pub(super) lease: LuaScript,
    /// Keys: lease. Arguments: holder. Whether it was given back.
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

    /// The command that runs it by its digest.
    pub(super) fn by_digest(&self, keys: &[String], arguments: &[&[u8]]) -> Cmd {
        run("EVALSHA", self.digest.get_hash(), keys, arguments)
    }

    /// The command that runs it by its text, if that is what this error asks for.
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

// A fence is the time in microseconds, or one more than the highest there is: so fences grow too where that was
// forgotten. Such a number is below 2^53, so a Lua number holds it exactly.
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
