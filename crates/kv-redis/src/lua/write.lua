-- Checks conditions and does writes, all or none. ARGV: prefix, nonce, the number of conditions,
-- the conditions, the writes; KEYS from the fifth on: the names that they are about, in their
-- order.
local nonce, conditions = ARGV[2], tonumber(ARGV[3])
local at, name_at = 3, 4
-- The most keys of a lease: a renewal goes through all of them, and has a quarter of the TTL for
-- that. So there are five keys for each millisecond of the TTL, which the lease's id ends in.
local most_leased = 200000
local function most_under(id)
    local ttl = string.match(id, '%-(%d+)$')
    return ttl and math.min(5 * tonumber(ttl), most_leased) or most_leased
end
local function argument() at = at + 1; return ARGV[at] end
local function name() name_at = name_at + 1; return KEYS[name_at] end
look()
may_write()

for n = 1, conditions do
    local kind = argument()
    if kind == 'held' then
        local queue, session, contender, token = name(), name(), argument(), argument()
        local rank = has(queue, 'zset') and call('ZRANK', queue, contender)
        local holds = rank and text(call('ZSCORE', queue, contender)) == token and has(session, 'hash')
        -- Dead contenders before it do not count.
        for _, other in ipairs(holds and rank > 0 and call('ZRANGE', queue, 0, rank - 1) or {}) do
            if has(own .. 'session/' .. string.match(other, '^[^:]*'), 'hash') then holds = false end
        end
        if not holds then return { 'refused', n - 1, false } end
    else
        local there, key = name(), argument()
        if kind == 'version' then
            local expected, found = argument(), version_of(there, key)
            if found ~= expected then return { 'refused', n - 1, found or false } end
        elseif is_string(there) ~= (kind == 'exists') then
            return { 'refused', n - 1, version_of(there, key) or false }
        end
    end
end

-- Everything that could fail is checked before anything is written. `leased` has the sizes of
-- leases, with what the writes looked at so far put under them.
local writes, makes_room, leased = {}, true, {}
while at < #ARGV do
    local write = { kind = argument(), name = name(), key = argument() }
    write.type = type_of(write.name)
    if write.kind == 'put' then
        makes_room = false
        write.value, write.digest, write.ttl, write.lease = argument(), argument(), argument(), argument()
        if write.type ~= 'string' and write.type ~= 'none' then return { 'type', write.type, write.key } end
        if write.lease ~= '' then
            local lease = name()
            write.lease_name, write.ends = lease, has(lease, 'set') and call('PEXPIRETIME', lease)
            if not write.ends or write.ends < 0 then return { 'lease' } end
            local is_new = 1 - call('SISMEMBER', lease, write.key)
            leased[lease] = (leased[lease] or call('SCARD', lease)) + is_new
            -- A lease has an empty name besides its keys.
            local most = most_under(write.lease)
            if leased[lease] > most + 1 then return { 'many', most } end
        elseif write.ttl ~= '' then
            write.ends = millis + tonumber(write.ttl)
        end
    end
    writes[#writes + 1] = write
end

local number, was_there = tick(makes_room), {}
sweep()
for n, write in ipairs(writes) do
    local key = write.key
    if write.kind == 'put' then
        local _, _, _, before = noted(key)
        local life, left = '-', ''
        if write.ends then
            life, left = 't', text(write.ends - millis)
            call('SET', write.name, write.value, 'PXAT', text(write.ends))
            call('ZADD', ends, text(write.ends), key)
            if write.lease_name then
                life = write.lease
                call('SADD', write.lease_name, key)
            end
        else
            call('SET', write.name, write.value)
            if before and before ~= '-' then call('ZREM', ends, key) end
        end
        if before ~= life then leave_lease(before, key) end
        call('HSET', meta, key, number .. ' ' .. nonce .. ' ' .. write.digest .. ' ' .. life)
        call('ZADD', index, 0, key)
        told_put(key, number, nonce, left, write.value)
        was_there[n] = 1
    else
        was_there[n] = write.type == 'string' and 1 or 0
        if was_there[n] == 1 then call('UNLINK', write.name) end
        if was_there[n] == 1 or call('HEXISTS', meta, key) == 1 then
            forget(key)
            deleted({ key }, number, nonce)
        end
    end
end
return { 'done', number, unpack(was_there) }
