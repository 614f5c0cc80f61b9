-- SPDX-License-Identifier: BSD-3-Clause
-- A txn (common/wire/txn.h) on Redis: the same bytes, run by one script, atomically
-- on the master that owns the Redis slot of the hash tag. What it means is what
-- statestore/core/execute.c and plan.c do; nothing is written before all guards held.
--
-- The client puts `local T = {...}` in front: the tables it opened, by number:
--   {name, kind, flags, ks, vs, po, pl, to, max, rest, react = {{kind, off, len, table}, ...}}
-- KEYS[1]  "{L17}", the hash tag of hash slot 17; every key begins with it:
--   e:NAME:KEY  entry: version, time-out, children, deadline, parent, value
--   k:NAME      sorted set of its keys by the version that created them (scan)
--   x           sorted set NAME\0KEY by deadline       v  the slot's sequence
--   f:NAME i:NAME q:NAME   pool: free indexes, made?, resting indexes by end of rest
--   r:CLIENT    results kept for a retry (hash: sequence, and "ack"), s:CLIENT their order
-- ARGV     txn, client ("" : a read, or nobody's), ack, ms that a silent client is remembered
-- Returns the encoded result. Times are this server's clock.
local P, txn, client = KEYS[1], ARGV[1], ARGV[2]
local call, pack, unpack_, sub = redis.call, struct.pack, struct.unpack, string.sub
local HASH, POOL, COUNTERS = 1, 2, 3
local PARENT_DIES, ABSOLUTE = 1, 4
local GET, CHECK, INSERT, CAS, DELETE, ADD, ADD_LIMIT, ALLOC, FREE, SCAN = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
local OK, CONFLICT, LIMIT, EXHAUSTED, NO_MEMORY, BAD, FORGOTTEN = 0, 1, 2, 3, 4, 6, 8
local HIT, ABSENT, DONE, FAILED = 1, 2, 3, 4
local EXPIRE_SOME, RESULT_MAX = 16, 16384
local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local seq, _, slot, nops = unpack_('<I8I2BB', txn)
local work, order, promised, version = {}, {}, {}, nil

local function has(flags, bit) return math.floor(flags / bit) % 2 == 1 end
local function slack(timeout) return math.max(timeout / 8, 100) end

-- --- entries ---------------------------------------------------------------------------

local function load(t, key)
  local id = T[t].name .. '\0' .. key
  local w = work[id]
  if w then return w end
  w = {t = t, key = key, id = id, version = 0, timeout = 0, children = 0, deadline = 0, value = ''}
  local raw = call('GET', P .. 'e:' .. T[t].name .. ':' .. key)
  if raw then
    local pt, pl, at
    w.version, w.timeout, w.children, w.deadline, pt, pl, at = unpack_('<I8I4I4I8BB', raw)
    if pl > 0 then w.pt, w.pk = pt, sub(raw, at, at + pl - 1) end
    w.value, w.exists, w.existed = sub(raw, at + pl), true, true
  end
  work[id] = w
  order[#order + 1] = w
  return w
end

local function next_version()
  if not version then version = tonumber(call('GET', P .. 'v') or '0') + 1 end
  return version
end

-- An entry in which a touch may move the deadline without a write is kept longer
-- than promised by that much: never early.
local function set_deadline(w, at)
  if w.timeout == 0 then w.deadline = 0 return end
  w.deadline = at + (has(T[w.t].flags, ABSOLUTE) and 0 or slack(w.timeout))
  w.dirty = true
end

local function touch_to(w, at)
  if w.timeout > 0 and not has(T[w.t].flags, ABSOLUTE) and at > w.deadline then set_deadline(w, at) end
end

local function touch(w)
  local mine = now + w.timeout
  touch_to(w, mine)
  if w.pk then
    local p = load(w.pt, w.pk)
    if p.exists then touch_to(p, math.max(mine, now + p.timeout)) end
  end
end

local function extend_parent(w)
  if not w.pk then return end
  local p = load(w.pt, w.pk)
  if p.exists and p.timeout > 0 then
    touch_to(p, math.max(w.timeout > 0 and now + w.timeout or 0, now + p.timeout))
  end
end

local delete

local function react(w, depth)
  for _, r in ipairs(T[w.t].react) do
    local kind, off, len, target = r[1], r[2], r[3], r[4]
    if kind == 1 then
      local p = load(target, sub(w.value, off + 1, off + 4))
      local want = p.version
      if len == 12 then want = unpack_('<I8', w.value, off + 5) end
      if p.exists and p.version == want then delete(p, depth) end
    elseif kind == 2 then
      local c = load(target, sub(w.key, off + 1, off + len))
      if c.exists then
        local zero = string.rep('\0', #c.value - 8)
        local n = unpack_('<i8', c.value) - 1
        c.value = pack('<i8', n) .. sub(c.value, 9)
        c.version, c.dirty = next_version(), true
        if n == 0 and sub(c.value, 9) == zero then delete(c, depth) end
      end
    end
  end
end

delete = function(w, depth)
  if depth > 4 then return end
  local pt, pk = w.pt, w.pk
  w.exists, w.dirty, w.pt, w.pk = false, true, nil, nil
  next_version()
  react(w, depth + 1)
  if not pk then return end
  local p = load(pt, pk)
  if not p.exists then return end
  p.children, p.dirty = p.children - 1, true
  if p.children == 0 and has(T[pt].flags, PARENT_DIES) then delete(p, depth) end
end

-- --- pools --------------------------------------------------------------------------------

local function make_pool(t)
  if call('SETNX', P .. 'i:' .. t.name, '1') == 0 then return end
  local all = {}
  for block = slot, math.ceil(t.max / 64) - 1, 256 do
    for i = block * 64, math.min(block * 64 + 63, t.max - 1) do all[#all + 1] = i end
    if #all > 4000 then call('SADD', P .. 'f:' .. t.name, unpack(all)) all = {} end
  end
  if #all > 0 then call('SADD', P .. 'f:' .. t.name, unpack(all)) end
end

local function mature(t)
  local q = P .. 'q:' .. t.name
  local over = call('ZRANGEBYSCORE', q, '-inf', now, 'LIMIT', 0, 64)
  if #over == 0 then return end
  call('SADD', P .. 'f:' .. t.name, unpack(over))
  call('ZREM', q, unpack(over))
end

-- A random free index that this txn has not taken yet; nil: none.
local function promise(t)
  make_pool(t)
  mature(t)
  local mine = promised[t.name] or {}
  promised[t.name] = mine
  local some = call('SRANDMEMBER', P .. 'f:' .. t.name, #mine + 1)
  for _, i in ipairs(some) do
    local taken = false
    for _, j in ipairs(mine) do taken = taken or i == j end
    if not taken then mine[#mine + 1] = i return tonumber(i) end
  end
end

-- --- what was worked out becomes state ------------------------------------------------------

local function commit_one(w)
  local t = T[w.t]
  local key, x = P .. 'e:' .. t.name .. ':' .. w.key, P .. 'x'
  if w.exists then
    call('SET', key, pack('<I8I4I4I8BB', w.version, w.timeout, w.children, w.deadline, w.pt or 0,
                          w.pk and #w.pk or 0) .. (w.pk or '') .. w.value)
    if not w.existed then
      call('ZADD', P .. 'k:' .. t.name, w.version, w.key)
      if t.kind == POOL then call('SREM', P .. 'f:' .. t.name, (unpack_('<I4', w.key))) end
    end
    if w.deadline > 0 and w.children == 0 then call('ZADD', x, w.deadline, w.id)
    else call('ZREM', x, w.id) end
  elseif w.existed then
    call('DEL', key)
    call('ZREM', x, w.id)
    call('ZREM', P .. 'k:' .. t.name, w.key)
    if t.kind == POOL then call('ZADD', P .. 'q:' .. t.name, now + t.rest, (unpack_('<I4', w.key))) end
  end
end

local function commit()
  for _, w in ipairs(order) do
    if w.dirty then commit_one(w) end
  end
  if version then call('SET', P .. 'v', string.format('%.0f', version)) end
  work, order, promised, version = {}, {}, {}, nil
end

local by_name = {}
for i, t in pairs(T) do by_name[t.name] = i end

local function expire_some()
  for _, id in ipairs(call('ZRANGEBYSCORE', P .. 'x', '-inf', now, 'LIMIT', 0, EXPIRE_SOME)) do
    local zero = string.find(id, '\0', 1, true)
    local t = by_name[sub(id, 1, zero - 1)]
    if t then
      local w = load(t, sub(id, zero + 1))
      if not w.exists or w.children > 0 then call('ZREM', P .. 'x', id)
      elseif w.deadline <= now then delete(w, 0) end
    end
  end
  commit()
end

-- --- results ------------------------------------------------------------------------------------

local results, nres, result_of = {}, 0, {}

local function padded(s) return s .. string.rep('\0', -#s % 8) end

local function result(op, res, value, index, v, timeout)
  local body = padded(value)
  results[#results + 1] = pack('<BBI2I4I8I4I4', op, res, #value, index, v, timeout, 24 + #body) .. body
  nres = nres + 1
  result_of[op] = {value = value, index = index, version = v}
end

local function index_of(w) return T[w.t].kind == POOL and unpack_('<I4', w.key) or 0 end

local function result_entry(op, res, w)
  if w.exists then result(op, res, w.value, index_of(w), w.version, w.timeout)
  else result(op, res, '', index_of(w), 0, 0) end
end

local function result_done(op, w)
  result(op, DONE, '', index_of(w), w.exists and w.version or 0, w.exists and w.timeout or 0)
end

local function encoded(status, failed)
  local body = table.concat(results)
  return pack('<I8I2BBBBBB', seq, 16 + #body, status, nres, failed, 0, 0, 0) .. body
end

-- --- ops: each returns nothing, a number of ops to skip, 'stop', or a status as 'fail' -------------

local function fail(status) return 'fail', status end
local function fail_with(op, status, w) result_entry(op, FAILED, w) return fail(status) end

-- The entry if it lives: time that has passed counts also if nobody swept yet.
local function find(t, key)
  local w = load(t, key)
  if w.exists and w.deadline > 0 and w.deadline <= now and w.children == 0 and not w.dirty then
    delete(w, 0)
  end
  return w
end

local function set_value(w, value, timeout)
  w.version, w.value, w.timeout, w.exists, w.dirty = next_version(), value, timeout, true, true
end

local function op_insert(i, op, w)
  if w.exists then return fail_with(i, CONFLICT, w) end
  w.children, w.pt, w.pk = 0, nil, nil
  if has(op.flags, 8) then
    local p = T[op.pt] and T[op.pt].kind == HASH and #op.pk == T[op.pt].ks and find(op.pt, op.pk)
    if not p then return fail(BAD) end
    if not p.exists then return fail_with(i, CONFLICT, w) end
    if p.pk or p == w then return fail(BAD) end
    p.children, p.dirty = p.children + 1, true
    w.pt, w.pk = op.pt, op.pk
  end
  local timeout = op.timeout > 0 and op.timeout or T[w.t].to
  set_value(w, op.value, timeout)
  set_deadline(w, now + timeout)
  extend_parent(w)
  result_done(i, w)
end

local function op_cas(i, op, w)
  if not w.exists or w.version ~= op.arg then return fail_with(i, CONFLICT, w) end
  set_value(w, op.value, op.timeout > 0 and op.timeout or w.timeout)
  if op.timeout > 0 or not has(T[w.t].flags, ABSOLUTE) then set_deadline(w, now + w.timeout) end
  extend_parent(w)
  result_done(i, w)
end

local function op_delete(i, op, w)
  if not w.exists or w.version ~= op.arg or w.children > 0 then return fail_with(i, CONFLICT, w) end
  delete(w, 0)
  result_done(i, w)
end

local function op_add(i, op, w)
  local was = w.exists and w.value or string.rep('\0', T[w.t].vs)
  if op.code == ADD_LIMIT and
     unpack_('<i8', was) + unpack_('<i8', op.value) > unpack_('<i8', op.arg_bytes) then
    return fail_with(i, LIMIT, w)
  end
  local sum = {}
  for f = 1, #was, 8 do sum[#sum + 1] = pack('<i8', unpack_('<i8', was, f) + unpack_('<i8', op.value, f)) end
  local timeout = w.exists and op.timeout == 0 and w.timeout or (op.timeout > 0 and op.timeout or T[w.t].to)
  local fresh = not w.exists
  set_value(w, table.concat(sum), timeout)
  if fresh or op.timeout > 0 or not has(T[w.t].flags, ABSOLUTE) then set_deadline(w, now + timeout) end
  result_entry(i, DONE, w)
end

local function op_alloc(i, op)
  local index = promise(T[op.t])
  if not index then
    result(i, FAILED, '', 0, 0, 0)
    return fail(EXHAUSTED)
  end
  local w = load(op.t, pack('<I4', index))
  local timeout = op.timeout > 0 and op.timeout or T[op.t].to
  set_value(w, op.value, timeout)
  set_deadline(w, now + timeout)
  result_done(i, w)
end

local function op_scan(i, op)
  local t, list, cursor = T[op.t], {}, 0
  local size = math.ceil((16 + t.ks + t.vs) / 8) * 8
  local most = math.floor((RESULT_MAX - 16 - 24) / size)
  local keys = call('ZRANGEBYSCORE', P .. 'k:' .. t.name, '(' .. string.format('%.0f', op.arg), '+inf',
                    'WITHSCORES', 'LIMIT', 0, most)
  for k = 1, #keys, 2 do
    local w = load(op.t, keys[k])
    local left = w.deadline > 0 and math.max(w.deadline - now, 1) or 0
    if w.exists then
      list[#list + 1] = padded(pack('<I8I2I2I4', w.version, #w.key, #w.value, left) .. w.key .. w.value)
    end
    cursor = tonumber(keys[k + 1])
  end
  result(i, DONE, table.concat(list), #list, #keys == 2 * most and cursor or 0, 0)
end

local function run(i, op)
  local t = T[op.t]
  if op.code == ALLOC then return op_alloc(i, op) end
  if op.code == SCAN then return op_scan(i, op) end
  if #op.key ~= t.ks then return fail(BAD) end
  local w = find(op.t, op.key)
  if op.code == GET then
    result_entry(i, w.exists and HIT or ABSENT, w)
    if not w.exists then return has(op.flags, 2) and 'stop' or nil end
    if has(op.flags, 1) then touch(w) end
    return has(op.flags, 4) and op.skip or nil
  elseif op.code == CHECK then
    if (w.exists and w.version or 0) ~= op.arg then return fail_with(i, CONFLICT, w) end
    result(i, DONE, '', index_of(w), op.arg, 0)
  elseif op.code == INSERT then return op_insert(i, op, w)
  elseif op.code == CAS then return op_cas(i, op, w)
  elseif op.code == DELETE or op.code == FREE then return op_delete(i, op, w)
  else return op_add(i, op, w) end
end

-- --- the program --------------------------------------------------------------------------------------

local KINDS = {[GET] = '123', [CHECK] = '12', [INSERT] = '1', [CAS] = '12', [DELETE] = '1', [ADD] = '3',
               [ADD_LIMIT] = '3', [ALLOC] = '2', [FREE] = '2', [SCAN] = '123'}

local function splice(s, off, piece) return sub(s, 1, off) .. piece .. sub(s, off + #piece + 1) end

local function patch(op, at)
  for k = 1, op.npatch do
    local from_op, from, from_off, len, into, _, into_off = unpack_('<BBBBBBI2', txn, at)
    local r = result_of[from_op]
    if not r then return false end
    local source = from == 0 and r.value or from == 1 and pack('<I4', r.index) or pack('<I8', r.version)
    if from_off + len > #source then return false end
    local piece = sub(source, from_off + 1, from_off + len)
    if into == 0 then op.key = splice(op.key, into_off, piece)
    elseif into == 1 then op.pk = splice(op.pk, into_off, piece)
    else op.value = splice(op.value, into_off, piece) end
    at = at + 8
  end
  return true
end

local function parse(at)
  local op = {}
  local kl, vl, pl, bytes
  op.code, op.t, op.flags, op.skip, kl, op.npatch, vl, op.timeout, op.pt, pl, bytes, op.arg =
    unpack_('<BBBBBBI2I4BBI2I8', txn, at)
  op.arg_bytes = sub(txn, at + 16, at + 23)
  local data = at + 32
  op.key = sub(txn, data, data + kl - 1)
  op.pk = sub(txn, data + kl, data + kl + pl - 1)
  op.value = sub(txn, data + kl + pl, data + kl + pl + vl - 1)
  return op, at + bytes, at + math.ceil((32 + kl + pl + vl) / 8) * 8
end

local function run_all()
  local at, skip = 17, 0
  for i = 0, nops - 1 do
    local op, next_at, patches = parse(at)
    at = next_at
    if skip > 0 then
      skip = skip - 1
    else
      local t = T[op.t]
      if not t or not string.find(KINDS[op.code] or '', tostring(t.kind), 1, true) or
         not patch(op, patches) then return BAD, i end
      local what, status = run(i, op)
      if what == 'fail' then return status, i end
      if what == 'stop' then return OK, 0 end
      skip = what or 0
    end
  end
  return OK, 0
end

local kept, kept_order = P .. 'r:' .. client, P .. 's:' .. client
local sequence = string.format('%.0f', seq)
if client ~= '' then
  local old = call('HGET', kept, sequence)
  if old then return old end
  local ack = tonumber(call('HGET', kept, 'ack') or '0')
  if seq <= ack then return pack('<I8I2BBBBBB', seq, 16, FORGOTTEN, 0, 0, 0, 0, 0) end
  local told = tonumber(ARGV[3])
  if told > ack then
    local done = call('ZRANGEBYSCORE', kept_order, '-inf', told)
    if #done > 0 then
      call('HDEL', kept, unpack(done))
      call('ZREM', kept_order, unpack(done))
    end
    call('HSET', kept, 'ack', ARGV[3])
  end
end
expire_some()
if nops == 0 then return pack('<I8I2BBBBBB', seq, 16, OK, 0, 0, 0, 0, 0) end
local status, failed = run_all()
if status == OK then
  commit()
elseif status == BAD then
  results, nres = {}, 0
end
local answer = encoded(status, failed)
if client ~= '' then
  call('HSET', kept, sequence, answer)
  call('ZADD', kept_order, seq, sequence)
  call('PEXPIRE', kept, ARGV[4])
  call('PEXPIRE', kept_order, ARGV[4])
end
return answer
