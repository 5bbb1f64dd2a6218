#!lua name=flashsale_gate_VERSION
-- The stock gate: checks and takes units of one sale, atomically.
--
-- VERSION, here and in every function's name, is replaced by the hash of this file when it is
-- installed, so that two versions live side by side.
--
-- KEYS (all functions; one hash tag, so one slot):
--   1  {sale}:sale       hash   epoch state initial available R O Q S limit opens closes
--   2  {sale}:users      hash   user -> units held or bought (users with 0 are absent); only where a user is limited
--   3  {sale}:purchases  hash   purchase id -> record (MessagePack array, below)
--   4  {sale}:journal    zset   purchase id -> due time, ms; every purchase that is not final
--   5  {sale}:window     hash   u:user and a:address -> new purchases judged since it was made; expires.
--                               Given to `drop`, and to `reserve` where somebody's rate is limited. No part
--                               of the books: loading, comparing and arming neither read nor drop it.
--
-- A record: version 1, state, quantity, user, then
--   R O Q: epoch, requestedAt, acceptedAt, source, eventId, paymentToken, traceparent
--   S X:   reason ("" at S).             Absent texts are "": ids and tokens are never empty.
--
-- Arguments and replies with structure are MessagePack. Times are ms UTC by this server's TIME.
-- Errors: "UNARMED …" (nothing was done), "BROKEN …" (the sale is now HALTED), "BADCALL …".
--
-- What is armed lives in this library's memory, which Redis neither saves nor replicates: a
-- restart, a failover or a demoted primary refuses until it is loaded from the database again.
-- Redis does not undo a script's writes when it fails: every function checks first, writes last.

local armed = {}    -- KEYS[1] -> epoch
local loading = {}  -- KEYS[1] -> {epoch, token}

local HOLDING = {R = true, O = true, Q = true}

local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- Reads the sale's hash; nil unless `epoch` is the sale's.
local function sale_of(keys, epoch)
  local h = redis.call('HMGET', keys[1], 'epoch', 'state', 'initial', 'available', 'R', 'O', 'Q', 'S', 'limit', 'opens', 'closes')
  if not h[1] or tonumber(h[1]) ~= epoch then return nil end
  return {
    state = h[2], initial = tonumber(h[3]), available = tonumber(h[4]),
    R = tonumber(h[5]), O = tonumber(h[6]), Q = tonumber(h[7]), S = tonumber(h[8]),
    limit = tonumber(h[9]), opens = tonumber(h[10]), closes = tonumber(h[11]),
  }
end

-- The same, and nil unless that epoch is armed here.
local function armed_sale(keys, epoch)
  if armed[keys[1]] ~= epoch then return nil end
  return sale_of(keys, epoch)
end

local function unarmed(keys)
  return redis.error_reply('UNARMED ' .. keys[1])
end

-- The books of one call: what was read, what has changed, written once at the end.
local function open_books(keys, sale, ids)
  local books = {keys = keys, sale = sale, records = {}, users = {}, dirty = {}, dirty_users = {}, due = {}, now = now_ms()}
  if #ids > 0 then
    local raw = redis.call('HMGET', keys[3], unpack(ids))
    for i, id in ipairs(ids) do
      if raw[i] then books.records[id] = cmsgpack.unpack(raw[i]) end
    end
  end
  return books
end

local function read_users(books, users)
  if #users == 0 or not books.sale.limit then return end
  local held = redis.call('HMGET', books.keys[2], unpack(users))
  for i, user in ipairs(users) do books.users[user] = tonumber(held[i] or 0) end
end

-- Puts a record in place of the old one and moves the units, the sale's and the user's. due: ms or nil.
local function put(books, id, record, due)
  local sale, old = books.sale, books.records[id]
  local state, quantity, user = record[2], record[3], record[4]
  local before = (old and old[2] ~= 'X') and old[3] or 0
  local after = (state ~= 'X') and quantity or 0
  if before > 0 then sale[old[2]] = sale[old[2]] - before end
  if after > 0 then sale[state] = sale[state] + after end
  sale.available = sale.available + before - after
  if before ~= after and sale.limit then
    books.users[user] = (books.users[user] or 0) + after - before
    books.dirty_users[user] = true
  end
  books.records[id] = record
  books.dirty[id] = true
  books.due[id] = due or false
end

-- Calls `command key` with many arguments, in pieces that Lua's stack can hold.
local function call_in_pieces(command, key, args)
  local n = #args
  for from = 1, n, 4000 do
    redis.call(command, key, unpack(args, from, math.min(from + 3999, n)))
  end
end

-- Asserts conservation, then writes. Returns nil, or the error when the books did not hold.
local function close_books(books)
  local keys, sale = books.keys, books.sale
  if sale.initial ~= sale.available + sale.R + sale.O + sale.Q + sale.S then
    redis.call('HSET', keys[1], 'state', 'HALTED')
    return redis.error_reply('BROKEN ' .. keys[1] .. ' units do not add up; halted')
  end
  local records, dues, done, users, gone = {}, {}, {}, {}, {}
  for id in pairs(books.dirty) do
    records[#records + 1] = id
    records[#records + 1] = cmsgpack.pack(books.records[id])
    if books.due[id] then
      dues[#dues + 1] = string.format('%.0f', books.due[id])
      dues[#dues + 1] = id
    else
      done[#done + 1] = id
    end
  end
  if #records == 0 then return nil end
  for user in pairs(books.dirty_users) do
    if books.users[user] > 0 then
      users[#users + 1] = user
      users[#users + 1] = string.format('%.0f', books.users[user])
    else
      gone[#gone + 1] = user
    end
  end
  call_in_pieces('HSET', keys[3], records)
  if #dues > 0 then call_in_pieces('ZADD', keys[4], dues) end
  if #done > 0 then call_in_pieces('ZREM', keys[4], done) end
  if #users > 0 then call_in_pieces('HSET', keys[2], users) end
  if #gone > 0 then call_in_pieces('HDEL', keys[2], gone) end
  local f = string.format
  redis.call('HSET', keys[1], 'available', f('%.0f', sale.available), 'R', f('%.0f', sale.R),
    'O', f('%.0f', sale.O), 'Q', f('%.0f', sale.Q), 'S', f('%.0f', sale.S))
  return nil
end

local function cut(record, state, reason)
  return {1, state, record[3], record[4], reason}
end

local function lifted(record)
  local copy = {}
  for i = 1, #record do copy[i] = record[i] end
  copy[2] = 'Q'
  return copy
end

local function lift(books, id, queued_due)
  local record = books.records[id]
  if record and (record[2] == 'R' or record[2] == 'O') then
    put(books, id, lifted(record), books.now + queued_due)
  end
end

-- Counts who asks, in the window that runs; nil where nothing is limited.
local function open_window(keys, args, claims)
  if not keys[5] or #claims == 0 then return nil end
  local window = {
    key = keys[5], per_user = tonumber(args[7]), per_address = tonumber(args[8]), lasts = tonumber(args[9]),
    left = redis.call('PTTL', keys[5]), counts = {}, dirty = {},
  }
  window.room = tonumber(args[10]) - redis.call('HLEN', keys[5])
  local fields = {}
  for _, claim in ipairs(claims) do
    if window.per_user > 0 then fields[#fields + 1] = 'u:' .. claim[2] end
    if window.per_address > 0 and claim[10] ~= '' then fields[#fields + 1] = 'a:' .. claim[10] end
  end
  if #fields == 0 then return nil end
  local counts = redis.call('HMGET', keys[5], unpack(fields))
  for i, field in ipairs(fields) do window.counts[field] = tonumber(counts[i] or nil) end
  return window
end

local function is_over(window, field, most)
  return most > 0 and (window.counts[field] or 0) >= most
end

local function count(window, field, most)
  if most == 0 then return end
  if not window.counts[field] then
    -- A full window lets in who is new, uncounted.
    if window.room <= 0 then return end
    window.room = window.room - 1
  end
  window.counts[field] = (window.counts[field] or 0) + 1
  window.dirty[field] = true
end

-- Counts one NEW claim, or says that it is one too many; what was refused so does not count.
local function limited(window, claim)
  local user, address = 'u:' .. claim[2], 'a:' .. claim[10]
  local per_address = claim[10] ~= '' and window.per_address or 0
  if is_over(window, user, window.per_user) or is_over(window, address, per_address) then
    return {'M', window.left > 0 and window.left or window.lasts}
  end
  count(window, user, window.per_user)
  count(window, address, per_address)
  return nil
end

local function close_window(window)
  local counts = {}
  for field in pairs(window.dirty) do
    counts[#counts + 1] = field
    counts[#counts + 1] = string.format('%.0f', window.counts[field])
  end
  if #counts == 0 then return end
  call_in_pieces('HSET', window.key, counts)
  if window.left < 0 then redis.call('PEXPIRE', window.key, window.lasts) end
end

-- Judges one NEW claim; nil admits it. The order is the contract's: state, time, rules, stock, limit.
local function refusal_of(books, claim)
  local sale, user, quantity, refused = books.sale, claim[2], claim[3], claim[9]
  if sale.state == 'CLOSED' or sale.state == 'SETTLED' then return {'C'}, 'CLOSED' end
  if sale.opens and books.now < sale.opens then return {'N', sale.opens}, 'NOT_OPEN' end
  if sale.closes and books.now >= sale.closes then return {'C'}, 'CLOSED' end
  if refused ~= '' then return {'F'}, refused end
  if quantity > sale.available then return {'S', sale.available}, 'SOLD_OUT' end
  local held = books.users[user] or 0
  if sale.limit and held + quantity > sale.limit then return {'L', sale.limit, held}, 'LIMIT_REACHED' end
  return nil
end

local function judge(books, claim, door, reserved_due, queued_due)
  local id, user, quantity = claim[1], claim[2], claim[3]
  local known = books.records[id]
  if known then
    -- A record without a user was burned by its row alone: it stands for any content.
    if known[4] ~= '' and (known[4] ~= user or known[3] ~= quantity) then return {'K'} end
    if door == 'Q' then lift(books, id, queued_due) end
    return {'P', books.records[id]}
  end
  local sale = books.sale
  if sale.state == 'PAUSED' or sale.state == 'HALTED' then return {'U', sale.state} end
  local too_many = books.window and limited(books.window, claim)
  if too_many then return too_many end
  local refusal, reason = refusal_of(books, claim)
  if refusal then
    -- At HTTP a refusal leaves no trace: a crowd must not own our memory. A worker's burns the id,
    -- because a REJECTED row will stand and a later retry must not be promised against it.
    if door ~= 'R' then put(books, id, {1, 'X', quantity, user, reason}, nil) end
    return refusal
  end
  local record = {1, door, quantity, user, books.epoch, claim[4], books.now, claim[5], claim[6], claim[7], claim[8]}
  put(books, id, record, books.now + (door == 'R' and reserved_due or queued_due))
  return {'T', books.now}
end

-- reserve: epoch, door (R O Q), due of R in ms, due of O and Q in ms, claims, marks, and with the fifth key:
--   new purchases that one user, and that one address, may ask for in a window (0: any number), how long a
--   window lasts in ms, and how many fields it may have
--   claims: array of {id, user, quantity, requestedAt, source, eventId, paymentToken, traceparent, refused code},
--           and with the fifth key the address, "" for none
--   marks:  array of ids whose message the broker confirmed
-- Returns an array, one answer a claim: {T, acceptedAt} taken · {P, record} replayed · {K} key reused ·
--   {S, available} sold out · {L, limit, held} · {N, opens} · {C} closed · {F} refused by a rule · {U, state}
--   {M, ms until the window ends} asked too often
local function reserve(keys, args)
  local epoch, door = tonumber(args[1]), args[2]
  local sale = armed_sale(keys, epoch)
  if not sale then return unarmed(keys) end
  local reserved_due, queued_due = tonumber(args[3]), tonumber(args[4])
  local claims, marks = cmsgpack.unpack(args[5]), cmsgpack.unpack(args[6])
  local ids, users = {}, {}
  for i, claim in ipairs(claims) do
    ids[i] = claim[1]
    users[i] = claim[2]
  end
  for i = 1, #marks do ids[#claims + i] = marks[i] end
  local books = open_books(keys, sale, ids)
  books.epoch = epoch
  read_users(books, users)
  books.window = open_window(keys, args, claims)
  for _, id in ipairs(marks) do lift(books, id, queued_due) end
  local answers = {}
  for i, claim in ipairs(claims) do
    answers[i] = judge(books, claim, door, reserved_due, queued_due)
  end
  local failed = close_books(books)
  if failed then return failed end
  if books.window then close_window(books.window) end
  return cmsgpack.pack(answers)
end

-- mark: epoch, due of Q in ms, ids. Lifts R and O to Q; others are ignored. Returns 1.
local function mark(keys, args)
  local sale = armed_sale(keys, tonumber(args[1]))
  if not sale then return unarmed(keys) end
  local ids = cmsgpack.unpack(args[3])
  local books = open_books(keys, sale, ids)
  for _, id in ipairs(ids) do lift(books, id, tonumber(args[2])) end
  return close_books(books) or 1
end

-- follow: epoch, sold ids, released {id, reason} pairs. Returns how many did not fit.
local function follow(keys, args)
  local sale = armed_sale(keys, tonumber(args[1]))
  if not sale then return unarmed(keys) end
  local sold, released = cmsgpack.unpack(args[2]), cmsgpack.unpack(args[3])
  local ids, users, misfits = {}, {}, 0
  for i, id in ipairs(sold) do ids[i] = id end
  for _, pair in ipairs(released) do ids[#ids + 1] = pair[1] end
  local books = open_books(keys, sale, ids)
  for _, record in pairs(books.records) do users[#users + 1] = record[4] end
  read_users(books, users)
  for _, id in ipairs(sold) do
    local record = books.records[id]
    if not record or record[2] == 'X' then misfits = misfits + 1
    elseif HOLDING[record[2]] then put(books, id, cut(record, 'S', ''), nil) end
  end
  for _, pair in ipairs(released) do
    local record = books.records[pair[1]]
    if not record then put(books, pair[1], {1, 'X', 0, '', pair[2]}, nil)
    elseif record[2] == 'S' then misfits = misfits + 1
    elseif HOLDING[record[2]] then put(books, pair[1], cut(record, 'X', pair[2]), nil) end
  end
  return close_books(books) or misfits
end

-- find: epoch, id. Returns the record as stored, or nil.
local function find(keys, args)
  if not armed_sale(keys, tonumber(args[1])) then return unarmed(keys) end
  return redis.call('HGET', keys[3], args[2])
end

-- records: epoch, cursor, count. Reads on in the sale's records as HSCAN does: {next cursor, {id, record}, ...}.
local function records(keys, args)
  if not armed_sale(keys, tonumber(args[1])) then return unarmed(keys) end
  local scanned = redis.call('HSCAN', keys[3], args[2], 'COUNT', args[3])
  local page, fields = {scanned[1]}, scanned[2]
  for i = 1, #fields, 2 do page[#page + 1] = {fields[i], cmsgpack.unpack(fields[i + 1])} end
  return cmsgpack.pack(page)
end

-- overdue: epoch, limit, due of R, due of O and Q. Returns an array of {id, record}, oldest first,
-- each pushed back: R by its due, O and Q by their age, which doubles it.
local function overdue(keys, args)
  if not armed_sale(keys, tonumber(args[1])) then return unarmed(keys) end
  local now = now_ms()
  local ids = redis.call('ZRANGEBYSCORE', keys[4], '-inf', now, 'LIMIT', 0, args[2])
  if #ids == 0 then return cmsgpack.pack({}) end
  local raw = redis.call('HMGET', keys[3], unpack(ids))
  local entries, dues = {}, {}
  for i, id in ipairs(ids) do
    if not raw[i] then return redis.error_reply('BROKEN ' .. keys[1] .. ' journal names an unknown purchase') end
    local record = cmsgpack.unpack(raw[i])
    local delay = tonumber(args[3])
    if record[2] ~= 'R' then delay = math.max(tonumber(args[4]), now - record[7]) end
    entries[i] = {id, record}
    dues[#dues + 1] = string.format('%.0f', now + delay)
    dues[#dues + 1] = id
  end
  call_in_pieces('ZADD', keys[4], dues)
  return cmsgpack.pack(entries)
end

-- When the oldest of the journal was accepted, of its ten entries due first and its ten due last; -1: none.
local function oldest_accepted(keys)
  local oldest = -1
  for _, place in ipairs({{0, 9}, {-10, -1}}) do
    local ids = redis.call('ZRANGE', keys[4], place[1], place[2])
    local raw = #ids > 0 and redis.call('HMGET', keys[3], unpack(ids)) or {}
    for _, record in ipairs(raw) do
      local accepted = record and tonumber(cmsgpack.unpack(record)[7])
      if accepted and accepted > 0 and (oldest < 0 or accepted < oldest) then oldest = accepted end
    end
  end
  return oldest
end

local function books_of(keys, ages)
  local h = redis.call('HMGET', keys[1], 'state', 'initial', 'available', 'R', 'O', 'Q', 'S')
  local oldest = redis.call('ZRANGE', keys[4], 0, 0, 'WITHSCORES')
  return {h[1], tonumber(h[2]), tonumber(h[3]), tonumber(h[4]), tonumber(h[5]), tonumber(h[6]), tonumber(h[7]),
    redis.call('HLEN', keys[3]), redis.call('HLEN', keys[2]), redis.call('ZCARD', keys[4]), tonumber(oldest[2] or -1),
    ages and oldest_accepted(keys) or -1}
end

-- books: epoch, 1 for ages too. Returns {state, initial, available, R, O, Q, S, records, users, journal,
--   oldest due or -1, oldest accepted or -1}.
local function books(keys, args)
  if not armed_sale(keys, tonumber(args[1])) then return unarmed(keys) end
  return cmsgpack.pack(books_of(keys, args[2] == '1'))
end

-- set_state: epoch, state. Returns 1.
local function set_state(keys, args)
  if not armed_sale(keys, tonumber(args[1])) then return unarmed(keys) end
  redis.call('HSET', keys[1], 'state', args[2])
  return 1
end

-- begin_load: epoch, token, state, units, limit, opens, closes ("" for none). Drops the books.
-- Returns 1, or 0 and drops nothing when this epoch is armed already.
local function begin_load(keys, args)
  local epoch = tonumber(args[1])
  if armed_sale(keys, epoch) then return 0 end
  local known = tonumber(redis.call('HGET', keys[1], 'epoch') or 0)
  if known > epoch then return unarmed(keys) end
  armed[keys[1]] = nil
  loading[keys[1]] = {epoch, args[2]}
  redis.call('UNLINK', keys[1], keys[2], keys[3], keys[4])
  redis.call('HSET', keys[1], 'epoch', args[1], 'state', args[3], 'initial', args[4], 'available', args[4],
    'R', 0, 'O', 0, 'Q', 0, 'S', 0)
  local names = {'limit', 'opens', 'closes'}
  for i, name in ipairs(names) do
    if args[4 + i] ~= '' then redis.call('HSET', keys[1], name, args[4 + i]) end
  end
  return 1
end

-- The sale under load, when `token` is that load's and Redis was not emptied meanwhile; else nil.
local function open_load(keys, token)
  local load = loading[keys[1]]
  if not load or load[2] ~= token then return nil end
  return sale_of(keys, load[1]), load[1]
end

-- load: token, due of R, due of O and Q, records: array of {id, state, quantity, user, requestedAt, acceptedAt,
-- source, eventId, paymentToken, traceparent, reason}. Returns 1.
local function load(keys, args)
  local sale, epoch = open_load(keys, args[1])
  if not sale then return unarmed(keys) end
  local ids, users = {}, {}
  local incoming = cmsgpack.unpack(args[4])
  for i, r in ipairs(incoming) do
    ids[i] = r[1]
    users[i] = r[4]
  end
  local books = open_books(keys, sale, ids)
  read_users(books, users)
  for _, r in ipairs(incoming) do
    local state = r[2]
    if HOLDING[state] then
      local accepted = r[6] > 0 and r[6] or books.now
      local due = tonumber(state == 'R' and args[2] or args[3])
      put(books, r[1], {1, state, r[3], r[4], epoch, r[5], accepted, r[7], r[8], r[9], r[10]}, books.now + due)
    else
      put(books, r[1], {1, state, r[3], r[4], state == 'X' and r[11] or ''}, nil)
    end
  end
  return close_books(books) or 1
end

-- arm: token, expected books as `books` returns them without the last. Returns "" and arms, or the books
-- that differ.
local function arm(keys, args)
  local sale, epoch = open_load(keys, args[1])
  if not sale then return unarmed(keys) end
  local expected, seen = cmsgpack.unpack(args[2]), books_of(keys)
  for i = 1, 10 do
    if expected[i] ~= seen[i] then return cmsgpack.pack(seen) end
  end
  loading[keys[1]] = nil
  armed[keys[1]] = epoch
  return ''
end

-- drop: forgets a settled sale. Returns 1.
local function drop(keys)
  armed[keys[1]] = nil
  loading[keys[1]] = nil
  redis.call('UNLINK', unpack(keys))
  return 1
end

-- disarm: epoch. Ends every life before it, also one that is being loaded, and here for good: the
-- key names the epoch from now on, so no earlier life is ever loaded, armed or adopted. Returns 1.
local function disarm(keys, args)
  local epoch = tonumber(args[1])
  if tonumber(redis.call('HGET', keys[1], 'epoch') or 0) < epoch then
    armed[keys[1]] = nil
    loading[keys[1]] = nil
    redis.call('HSET', keys[1], 'epoch', args[1])
  end
  return 1
end

-- survivors: skip, limit. Works unarmed. Returns how many journal entries were looked at, and those
-- in R: {n, {id, record}, ...}.
local function survivors(keys, args)
  local from = tonumber(args[1])
  local ids = redis.call('ZRANGE', keys[4], from, from + tonumber(args[2]) - 1)
  local found = {#ids}
  if #ids > 0 then
    local raw = redis.call('HMGET', keys[3], unpack(ids))
    for i, id in ipairs(ids) do
      local record = raw[i] and cmsgpack.unpack(raw[i])
      if record and record[2] == 'R' then found[#found + 1] = {id, record} end
    end
  end
  return cmsgpack.pack(found)
end

-- armed_epoch: returns the epoch that this version has armed, or 0.
local function armed_epoch(keys)
  return armed[keys[1]] or 0
end

-- adopt: epoch, which ANOTHER version of this library has armed in this very server. Returns 1 and
-- arms it here too, unless the sale has begun another life since.
local function adopt(keys, args)
  local epoch = tonumber(args[1])
  if not sale_of(keys, epoch) then return 0 end
  armed[keys[1]] = epoch
  return 1
end

-- rights: returns the names of those commands of this file that the caller may not use: a function runs
-- with its caller's rights. Touches nothing.
local function rights(keys)
  local key, lacking = keys[1], {}
  local commands = {
    {'TIME'}, {'HGET', key, 'f'}, {'HMGET', key, 'f'}, {'HSET', key, 'f', 'v'}, {'HDEL', key, 'f'}, {'HLEN', key},
    {'HSCAN', key, '0'}, {'ZADD', key, '0', 'm'}, {'ZREM', key, 'm'}, {'ZRANGE', key, '0', '0'},
    {'ZRANGEBYSCORE', key, '0', '0'}, {'ZCARD', key}, {'UNLINK', key}, {'PTTL', key}, {'PEXPIRE', key, '1'},
  }
  for _, command in ipairs(commands) do
    if not redis.acl_check_cmd(unpack(command)) then lacking[#lacking + 1] = command[1] end
  end
  return lacking
end

local function register(name, callback, flags)
  redis.register_function{function_name = name .. '_VERSION', callback = callback, flags = flags}
end

register('reserve', reserve, {})
register('mark', mark, {'allow-oom'})
register('follow', follow, {'allow-oom'})
register('find', find, {'no-writes'})
register('records', records, {'no-writes'})
register('overdue', overdue, {'allow-oom'})
register('books', books, {'no-writes'})
register('set_state', set_state, {'allow-oom'})
register('begin_load', begin_load, {})
register('load', load, {})
register('arm', arm, {})
register('drop', drop, {'allow-oom'})
register('disarm', disarm, {'allow-oom'})
register('survivors', survivors, {'no-writes'})
register('armed_epoch', armed_epoch, {'no-writes'})
register('adopt', adopt, {'allow-oom'})
register('rights', rights, {'no-writes'})
