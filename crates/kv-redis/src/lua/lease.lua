-- Grants, renews or revokes a lease: a set of keys, whose end is the end of its keys too. KEYS[5],
-- KEYS[6]: the lease, and its name while it is revoked; ARGV: prefix, what to do, the rest.
-- Renewals and revocations go step by step, so that others wait for one step alone.
local lease, ending, order = KEYS[5], KEYS[6], ARGV[2]
-- The most keys that a step renews, that it deletes, and that one command names.
local renewed, revoked, named = 1500, 1000, 500
local id = string.sub(lease, #own + 7)

-- Whether a key still has the end that we gave it. A value that another tool or another store has
-- put there since has another end, or none. Where the given end is not known any more, any end
-- will do.
local function ends_as_given(name, given)
    local found = call('PEXPIRETIME', name)
    if given then return found == tonumber(given) end
    return found >= 0 and is_string(name)
end

-- Parts the keys into those that are still under this lease, and those that are not.
local function sorted(keys)
    local under, others, mark = {}, {}, ' ' .. id
    for from = 1, #keys, named do
        local till = math.min(from + named - 1, #keys)
        local notes = call('HMGET', meta, unpack(keys, from, till))
        local given = call('ZMSCORE', ends, unpack(keys, from, till))
        for at = from, till do
            -- A note ends in the life.
            local n, key = at - from + 1, keys[at]
            local is_noted = notes[n] and string.sub(notes[n], -#mark) == mark
            table.insert(is_noted and ends_as_given(prefix .. key, given[n]) and under or others, key)
        end
    end
    return under, others
end

if order == 'grant' then
    may_write()
    has(lease, 'set')
    call('SADD', lease, '')
    call('PEXPIRE', lease, ARGV[3])
    return 1
end

look()
if order == 'renew' then
    -- ARGV: the TTL, the moment that the first step of this renewal answered, where to go on.
    if not has(lease, 'set') then return false end
    may('PEXPIREAT', own, '1')
    may('ZADD', ends, '0', '')
    local till, cursor = ARGV[4], ARGV[5]
    if till == '' then
        till = text(millis + tonumber(ARGV[3]))
        call('PEXPIREAT', lease, till)
    else
        -- A copy of this step may come late, when a later renewal has given a later end.
        till = text(math.max(tonumber(till), call('PEXPIRETIME', lease)))
    end
    local found = call('SSCAN', lease, cursor, 'COUNT', renewed)
    local under, others = sorted(found[2])
    for _, key in ipairs(under) do call('PEXPIREAT', prefix .. key, till) end
    for from = 1, #under, named do
        local scores = {}
        for at = from, math.min(from + named - 1, #under) do
            scores[#scores + 1] = till
            scores[#scores + 1] = under[at]
        end
        call('ZADD', ends, unpack(scores))
    end
    for _, key in ipairs(others) do
        if key ~= '' then call('SREM', lease, key) end
    end
    return { found[1], till }
end

-- ARGV: nonce. Answers whether the lease was there, and whether there is more to do.
if not has(lease, 'set') and not has(ending, 'set') then return { 0, 0 } end
may_write()
may('RENAME', own, own)
may('SPOP', own, '1')
may('EXISTS', own)
may('HMGET', meta, '')
may('ZMSCORE', ends, '')
may('PEXPIRETIME', prefix)
may('TYPE', prefix)
local number = tick(true)
-- From here on no key can be put under the lease.
if call('EXISTS', lease) == 1 then call('RENAME', lease, ending) end
local keys, names = sorted(call('SPOP', ending, revoked)), {}
for at, key in ipairs(keys) do names[at] = prefix .. key end
for from = 1, #keys, named do
    local till = math.min(from + named - 1, #keys)
    call('UNLINK', unpack(names, from, till))
    call('HDEL', meta, unpack(keys, from, till))
    call('ZREM', ends, unpack(keys, from, till))
    call('ZREM', index, unpack(keys, from, till))
end
deleted(keys, number, ARGV[3])
return { 1, call('EXISTS', ending) }
