-- The beginning of every script. KEYS[1..4] are the store's own records: the notes of each key (a
-- hash), the keys in order (a sorted set of equal scores), the last number given, and the keys
-- that end (a sorted set by the moment). ARGV[1] is the number of the database and, behind a
-- colon, the prefix of all names.
local meta, index, clock, ends = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local database, prefix = string.match(ARGV[1], '^(%d+):(.*)$')
local call, pcall_server = redis.call, redis.pcall
local own = prefix .. '.kv/'
-- Channels are shared by all databases, so that their names hold the number of the database.
local on = own .. 'on/' .. database .. '/'
local time = call('TIME')
local micros = tonumber(time[1]) * 1000000 + tonumber(time[2])
local millis = math.ceil(micros / 1000)
-- A write that changes nothing. A replica refuses it, and so does a master that was made a replica
-- a moment ago, whose data is no longer the newest. Any other reason for a refusal is no concern
-- of a read.
if redis.acl_check_cmd('ZADD', index, 'XX', '0', '') then
    local tried = pcall_server('ZADD', index, 'XX', '0', '')
    if type(tried) == 'table' and string.find(tried.err, '^READONLY') then error(tried) end
end
-- The greatest number: up to here Lua counts by ones.
local greatest = 9007199254740991
local kept = 2592000000
-- Up to here a number is believed to be one that we gave, under a clock that was set back since:
-- ten years ahead of the clock. A server may begin with a clock that stands at its first second;
-- there it is ten years ahead of 2026.
local believed = math.min(greatest, math.max(micros, 1767225600000000) + 315360000000000)

local function text(number) return string.format('%.0f', number) end

-- Refuses a record that is ours by its name and was not written by us.
local function damaged(name, why) error({ err = 'KVDAMAGED ' .. name .. ' ' .. why }) end

local function type_of(name) return call('TYPE', name)['ok'] end
local function is_string(name) return type_of(name) == 'string' end

-- Returns whether the record is there; if it is, it must be of this type.
local function has(name, kind)
    local found = type_of(name)
    if found ~= kind and found ~= 'none' then damaged(name, 'is a ' .. found .. ' where we keep a ' .. kind) end
    return found == kind
end

-- Checks the records that a write relies on, before anything is written.
local function look()
    has(meta, 'hash')
    has(index, 'zset')
    has(ends, 'zset')
end

-- Refuses unless the user may run this command.
local function may(command, ...)
    if redis.acl_check_cmd(command, ...) then return end
    local rights = '~' .. prefix .. '* &' .. prefix .. '* +@all -@dangerous'
    error({ err = 'NOPERM the user lacks the right to ' .. command .. '; give it ' .. rights })
end

-- Refuses unless the user has the rights for every command that a writing script runs from its
-- first change on: these, and those that the script itself asks for. For what a script has done is
-- not undone when it is stopped half-way.
local function may_write()
    may('SET', clock, '')
    may('PEXPIRE', clock, '1')
    may('HSET', meta, '', '')
    may('HDEL', meta, '')
    may('HEXISTS', meta, '')
    may('HGET', meta, '')
    may('ZADD', index, '0', '')
    may('ZREM', index, '')
    may('SADD', own, '')
    may('SREM', own, '')
    may('UNLINK', prefix)
    may('PUBSUB', 'SHARDNUMSUB', on)
    may('SPUBLISH', on, '')
end

-- A number above all before: of this server, and of another whose clock agrees.
local function next_number()
    local last = has(clock, 'string') and call('GET', clock) or '0'
    local number = #last <= 16 and string.find(last, '^%d+$') and tonumber(last)
    if not number or number >= believed then
        damaged(clock, 'is ' .. string.sub(last, 1, 40) .. ', a number that we never give')
    end
    return math.max(number + 1, micros)
end

-- A server over its `maxmemory` lets a script go on if its first write takes no memory, as this
-- one.
local function make_room() call('PEXPIRE', clock, kept, 'GT') end

local function tick(makes_room)
    local number = next_number()
    if makes_room then make_room() end
    -- Before the number is forgotten, a clock that was set back must have passed it.
    local passed = math.max(millis, math.ceil(number / 1000))
    call('SET', clock, text(number), 'PXAT', text(passed + kept))
    return text(number)
end

-- The record of the last number given, where it can be read; and whether there is one.
local function recorded()
    local last = pcall_server('GET', clock)
    local is_text = type(last) == 'string' and #last <= 16 and string.find(last, '^%d+$')
    return is_text and tonumber(last) < believed and last or nil, last ~= false
end

-- The last number given, for reads: everything that a read sees has this number at most. 0 where
-- it is not known: a watch that took a number that we never give would skip all that comes.
local function last_number() return recorded() or '0' end

-- The greatest number that a note may have: one that is more than a day ahead of the clocks was not
-- given by us, and all later writes of its key would look older. Where the last number cannot be
-- read, which is soon mended, all are believed.
local latest
local function latest_given()
    if not latest then
        local last, is_there = recorded()
        local is_known = last or not is_there
        latest = is_known and math.max(micros, tonumber(last or '0')) + 86400000000 or math.huge
    end
    return latest
end
local function is_given(number) return tonumber(number) <= latest_given() end

-- The same for the client, which reads the notes itself; nothing where all are believed.
local function latest_text() return latest_given() < math.huge and text(latest) or '' end

-- The most keys whose values are read by one command: a value may be large, and how large is not
-- known before.
local lot = 16

-- The value; false if the name is missing or of another type.
local function value_of(name)
    local value = pcall_server('GET', name)
    if type(value) ~= 'table' then return value end
    if string.find(value.err, 'WRONGTYPE', 1, true) then return false end
    error(value)
end

-- The parts of a note: number, nonce, digest and life of the last write through the library;
-- nothing where it cannot be read.
local function read_note(note)
    if not note then return nil end
    local number, nonce, digest, life = string.match(note, '^(%d+) (%d+) (%x+) (.*)$')
    if number and #number <= 16 and #nonce <= 19 and is_given(number) then
        return number, nonce, digest, life
    end
end

local function noted(key) return read_note(call('HGET', meta, key)) end

-- The version of a key; nil where it is missing. A value that another tool wrote has a version
-- made of its bytes.
local function version_of(name, key)
    local value = value_of(name)
    if not value then return nil end
    local sum = string.sub(redis.sha1hex(value), 1, 15)
    local number, nonce, seen = noted(key)
    if number and seen == sum then return number .. ' ' .. nonce end
    return (number or '0') .. ' x' .. sum
end

-- Returns those of the channels that have a listener, as a set.
local function listened(channels)
    local heard = {}
    for from = 1, #channels, 500 do
        local listening = call('PUBSUB', 'SHARDNUMSUB', unpack(channels, from, math.min(from + 499, #channels)))
        for at = 2, #listening, 2 do
            if listening[at] > 0 then heard[listening[at - 1]] = true end
        end
    end
    return heard
end

-- Publishes to those of the channels that have a listener.
local function publish(channels, message)
    local heard = listened(channels)
    for _, channel in ipairs(channels) do
        if heard[channel] then
            if type(message) == 'function' then message = message() end
            call('SPUBLISH', channel, message)
        end
    end
end

-- The channels of the watches of the key, and of each directory above it.
local function channels_of(key)
    local channels = { on .. 'key/' .. key, on .. 'tree/' }
    for slash in string.gmatch(key, '()/') do
        channels[#channels + 1] = on .. 'tree/' .. string.sub(key, 1, slash - 1)
    end
    return channels
end

local function tell(key, message) publish(channels_of(key), message) end

-- Takes a key out of a lease, which may have ended, or may be no record of ours any more.
local function leave_lease(life, key)
    if life and life ~= '-' and life ~= 't' then pcall_server('SREM', own .. 'lease/' .. life, key) end
end

-- Removes what is noted of a key.
local function forget(key)
    local _, _, _, life = noted(key)
    call('HDEL', meta, key)
    if life ~= '-' then call('ZREM', ends, key) end
    leave_lease(life, key)
    call('ZREM', index, key)
end

-- Publishes and forgets a key that is missing although it is noted, or was told with this number:
-- it ended, or another tool deleted it. A watch that was told a later number ignores this. Returns
-- false, and leaves it to others, where the user may not write.
local function missed(key, at_least)
    return (pcall(function()
        local number = tonumber(noted(key) or last_number())
        tell(key, 'G\n' .. key .. '\n' .. text(math.max(number, tonumber(at_least or '0'))))
        forget(key)
    end))
end

-- Looks at a few keys that should have ended, so that their notes do not pile up.
local function sweep()
    for _, key in ipairs(call('ZRANGEBYSCORE', ends, '-inf', text(millis - 2), 'LIMIT', 0, 4)) do
        local name = prefix .. key
        local till = is_string(name) and call('PEXPIRETIME', name)
        if not till then
            missed(key)
        elseif till < 0 then
            call('ZREM', ends, key)
        else
            -- Another tool, or another store, gave it this end: it is under no lease any more.
            local number, nonce, digest, life = noted(key)
            if life and life ~= 't' then
                leave_lease(life, key)
                call('HSET', meta, key, number .. ' ' .. nonce .. ' ' .. digest .. ' t')
            end
            call('ZADD', ends, text(till), key)
        end
    end
end

-- Publishes that these keys were deleted. The channels of all are looked at together.
local function deleted(keys, number, nonce)
    local of, all, is_known = {}, {}, {}
    for at, key in ipairs(keys) do
        of[at] = channels_of(key)
        for _, channel in ipairs(of[at]) do
            if not is_known[channel] then is_known[channel], all[#all + 1] = true, channel end
        end
    end
    local heard = listened(all)
    if not next(heard) then return end
    for at, key in ipairs(keys) do
        local message = 'D\n' .. key .. '\n' .. number .. '\n' .. nonce
        for _, channel in ipairs(of[at]) do
            if heard[channel] then call('SPUBLISH', channel, message) end
        end
    end
end

-- Publishes a value, with what is left of its life. Of a large value only the version is
-- published, and the watch reads it.
local function told_put(key, number, nonce, left, value)
    tell(key, function()
        local head = 'P\n' .. key .. '\n' .. number .. '\n' .. nonce .. '\n' .. left .. '\n'
        if #value > 16384 then return 'R' .. string.sub(head, 2) end
        return head .. value
    end)
end
