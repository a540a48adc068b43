//! Defines the Lua scripts that Redis runs atomically: fences, compare-and-delete, leases.
//!
//! They are short, so each call sends the whole text. A script may run twice for one call, because it is sent again if the
//! connection breaks before the response. The second run changes nothing, and returns the same result where possible.

use redis::Cmd;

/// Returns the command that runs a script. The arguments of the script are added to it.
pub(super) fn eval(script: &str, keys: &[String]) -> Cmd {
    let mut eval = redis::cmd("EVAL");
    eval.arg(script).arg(keys.len()).arg(keys);
    eval
}

/// Keys: value, fence. Arguments: fence, value, milliseconds. Returns whether the value was stored.
pub(super) const PUT: &str = "\
local highest = redis.call('GET', KEYS[2])
if highest and tonumber(highest) > tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1";

/// Keys: value or lease. Arguments: the expected content. Returns whether it was deleted.
pub(super) const DELETE_IF_SAME: &str = "\
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])";

/// Keys: lease, fence. Arguments: holder, milliseconds, milliseconds that the fence is remembered. Returns the fence, or nil if
/// the lease is taken.
///
/// A fence is the time in microseconds, or one more than the previous fence if that is higher. Fences therefore grow even after
/// Redis has lost its data. They are below 2^53, so a Lua number represents them exactly.
pub(super) const LEASE: &str = "\
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
