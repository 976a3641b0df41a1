import { redisScript } from '../redis/redis-connection.js';

/**
 * The ledger's programs. Each begins with the replica and its epoch, and refuses what bears another epoch than its lease
 * has ({@link STALE}): then Redis has not this replica's part, or has a newer one.
 *
 * A field of `nodes` is `m:`, `s:` or `c:` and a node: bytes, thousandths of slots, reservations. One of `counts` is `f:` and
 * a function or `p:` and a project. What is 0 has no field.
 */

/** The first number of an answer. */
export const STALE = 0;
export const RESERVED = 1;
export const FUNCTION_LIMIT = 3;
export const ACCOUNT_LIMIT = 4;

/** In place of a limit. */
export const NO_LIMIT = -1;

const COMMON = `
local replica, epoch = ARGV[1], ARGV[2]
local lease = 'lambda:lease:' .. replica

local function bump(hash, field, by)
  if by ~= 0 and redis.call('HINCRBY', hash, field, by) == 0 then redis.call('HDEL', hash, field) end
end

local function add(kind, field, by)
  bump('lambda:' .. kind, field, by)
  bump('lambda:' .. kind .. ':' .. replica, field, by)
end

local function change(sign, node, memory, milliSlots, fn, project)
  add('nodes', 'm:' .. node, sign * memory)
  add('nodes', 's:' .. node, sign * milliSlots)
  add('nodes', 'c:' .. node, sign)
  if fn ~= '' then add('counts', 'f:' .. fn, sign) end
  if project ~= '' then add('counts', 'p:' .. project, sign) end
end

local function takeBack(whose)
  for _, kind in ipairs({ 'nodes', 'counts' }) do
    local own = 'lambda:' .. kind .. ':' .. whose
    local fields = redis.call('HGETALL', own)
    for at = 1, #fields, 2 do bump('lambda:' .. kind, fields[at], -tonumber(fields[at + 1])) end
    redis.call('DEL', own)
  end
  redis.call('SREM', 'lambda:replicas', whose)
end

local function held(kind, field)
  return tonumber(redis.call('HGET', 'lambda:' .. kind, field) or 0)
end
`;

const MEMBERS_ONLY = `
if redis.call('GET', lease) ~= epoch then return { 0 } end
`;

/** Replaces the replica's part. Then: lease in ms, how many fields of nodes, these with their values, those of counts. */
export const PUBLISH = redisScript(`${COMMON}
local known = redis.call('GET', lease)
if known and tonumber(known) >= tonumber(epoch) then return { 0 } end
takeBack(replica)
local at, nodeFields = 5, tonumber(ARGV[4])
while at < #ARGV do
  add(at < 5 + 2 * nodeFields and 'nodes' or 'counts', ARGV[at], tonumber(ARGV[at + 1]))
  at = at + 2
end
redis.call('SADD', 'lambda:replicas', replica)
redis.call('SET', lease, epoch, 'PX', ARGV[3])
return { 1 }
`);

/**
 * Then: function, its limit, project, the limit of what it shares, bytes, thousandths of slots, 1 for a whole node; each
 * candidate with its bytes and thousandths of slots. Function and project are empty where nothing is counted.
 * Answers with the number of the candidate from 0, and what others have reserved there.
 */
export const RESERVE = redisScript(`${COMMON}${MEMBERS_ONLY}
local fn, functionMax, project, projectMax = ARGV[3], tonumber(ARGV[4]), ARGV[5], tonumber(ARGV[6])
if fn ~= '' and functionMax >= 0 and held('counts', 'f:' .. fn) >= functionMax then return { 3 } end
if project ~= '' and projectMax >= 0 and held('counts', 'p:' .. project) >= projectMax then return { 4 } end
local whole = ARGV[9] == '1'
for at = 10, #ARGV, 3 do
  local node, memoryMax, milliMax = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local memory, milliSlots = tonumber(ARGV[7]), tonumber(ARGV[8])
  if whole then memory, milliSlots = memoryMax, milliMax end
  local free = not whole or (milliMax > 0 and held('nodes', 'c:' .. node) == 0)
  local memoryHeld, milliHeld = held('nodes', 'm:' .. node), held('nodes', 's:' .. node)
  if free and memoryHeld + memory <= memoryMax and milliHeld + milliSlots <= milliMax then
    change(1, node, memory, milliSlots, fn, project)
    local own = redis.call('HMGET', 'lambda:nodes:' .. replica, 'm:' .. node, 's:' .. node)
    return { 1, (at - 10) / 3, memoryHeld + memory - tonumber(own[1] or 0), milliHeld + milliSlots - tonumber(own[2] or 0) }
  end
end
return { 2 }
`);

/** What was reserved without Redis, or is released. Then for each: 1 or -1, node, bytes, thousandths of slots, function, project. */
export const CHANGE = redisScript(`${COMMON}${MEMBERS_ONLY}
for at = 3, #ARGV, 6 do
  change(tonumber(ARGV[at]), ARGV[at + 1], tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]), ARGV[at + 4], ARGV[at + 5])
end
return { 1 }
`);

/**
 * Renews the lease, takes back what dead replicas had, and once in a while sums all parts anew. Then: lease in ms, that while
 * in ms. Answers with the number of replicas, all fields of nodes, and the replica's own of nodes and of counts.
 */
export const REFRESH = redisScript(`${COMMON}${MEMBERS_ONLY}
redis.call('PEXPIRE', lease, ARGV[3])
for _, other in ipairs(redis.call('SMEMBERS', 'lambda:replicas')) do
  if redis.call('EXISTS', 'lambda:lease:' .. other) == 0 then takeBack(other) end
end
redis.call('SADD', 'lambda:replicas', replica)
local replicas = redis.call('SMEMBERS', 'lambda:replicas')
if redis.call('SET', 'lambda:summed', '1', 'NX', 'PX', ARGV[4]) then
  for _, kind in ipairs({ 'nodes', 'counts' }) do
    redis.call('DEL', 'lambda:' .. kind)
    for _, other in ipairs(replicas) do
      local fields = redis.call('HGETALL', 'lambda:' .. kind .. ':' .. other)
      for at = 1, #fields, 2 do bump('lambda:' .. kind, fields[at], tonumber(fields[at + 1])) end
    end
  end
end
local own = { redis.call('HGETALL', 'lambda:nodes:' .. replica), redis.call('HGETALL', 'lambda:counts:' .. replica) }
return { 1, #replicas, redis.call('HGETALL', 'lambda:nodes'), own[1], own[2] }
`);

/** Of a replica that stops. */
export const LEAVE = redisScript(`${COMMON}${MEMBERS_ONLY}
takeBack(replica)
redis.call('DEL', lease)
return { 1 }
`);

export const LEDGER_SCRIPTS = [PUBLISH, RESERVE, CHANGE, REFRESH, LEAVE];
