-- What every script begins with. KEYS[1..4] are the store's own: what is known of each key (a hash), their order (a sorted
-- set of equal scores), the last number given, and the keys that end (a sorted set by the moment). ARGV[1] is what the names
-- of keys begin with.
local meta, index, clock, ends, prefix = KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[1]
local call, pcall_server = redis.call, redis.pcall
local own = prefix .. '.kv/'
local time = call('TIME')
local micros = tonumber(time[1]) * 1000000 + tonumber(time[2])
local millis = math.ceil(micros / 1000)

local function text(number) return string.format('%.0f', number) end

-- A number above all before: of this server, and of another whose clock agrees.
local function tick()
    local number = text(math.max((tonumber(call('GET', clock) or '') or 0) + 1, micros))
    call('SET', clock, number, 'PX', 2592000000)
    return number
end

local function is_string(name) return call('TYPE', name)['ok'] == 'string' end

-- The value; false for what is missing or of another type.
local function value_of(name)
    local value = pcall_server('GET', name)
    if type(value) ~= 'table' then return value end
    if string.find(value.err, 'WRONGTYPE', 1, true) then return false end
    error(value)
end

-- What was noted of a key: number, nonce, digest and life of its last write here.
local function noted(key)
    local note = call('HGET', meta, key)
    if not note then return nil end
    return string.match(note, '^(%d+) (%d+) (%x+) (.*)$')
end

-- The version of what is there, nil where nothing is. What another tool wrote has one made of its bytes.
local function version_of(name, key)
    local value = value_of(name)
    if not value then return nil end
    local sum = string.sub(redis.sha1hex(value), 1, 15)
    local number, nonce, seen = noted(key)
    if number and seen == sum then return number .. ' ' .. nonce end
    return (number or '0') .. ' x' .. sum
end

-- Publishes to those of the channels that somebody listens to.
local function publish(channels, message)
    local listening = call('PUBSUB', 'SHARDNUMSUB', unpack(channels))
    for at = 2, #listening, 2 do
        if listening[at] > 0 then
            if type(message) == 'function' then message = message() end
            call('SPUBLISH', listening[at - 1], message)
        end
    end
end

-- Tells those who watch the key, or a directory above it.
local function tell(key, message)
    local channels = { own .. 'on/key/' .. key, own .. 'on/tree/' }
    for slash in string.gmatch(key, '()/') do
        channels[#channels + 1] = own .. 'on/tree/' .. string.sub(key, 1, slash - 1)
    end
    publish(channels, message)
end

-- Notes the end of a key.
local function forget(key)
    local _, _, _, life = noted(key)
    if life then
        call('HDEL', meta, key)
        if life ~= '-' then call('ZREM', ends, key) end
        if life ~= '-' and life ~= 't' then call('SREM', own .. 'lease/' .. life, key) end
    end
    call('ZREM', index, key)
end

-- A key that is not there any more although it is noted: it ended, or another tool deleted it. Left to others where we may
-- not write.
local function missed(key)
    pcall(function()
        forget(key)
        tell(key, 'G\n' .. key)
    end)
end

-- Looks after a few keys that have ended, so that what is noted of them does not pile up.
local function sweep()
    for _, key in ipairs(call('ZRANGEBYSCORE', ends, '-inf', text(millis - 2), 'LIMIT', 0, 4)) do
        local name = prefix .. key
        local till = is_string(name) and call('PEXPIRETIME', name)
        if not till then
            missed(key)
        elseif till < 0 then
            call('ZREM', ends, key)
        else
            call('ZADD', ends, text(till), key)
        end
    end
end

local function deleted(key, number, nonce)
    tell(key, 'D\n' .. key .. '\n' .. number .. '\n' .. nonce)
end

-- Tells of a value, with what is left of its life; a large one is to be read.
local function told_put(key, number, nonce, left, value)
    tell(key, function()
        local head = 'P\n' .. key .. '\n' .. number .. '\n' .. nonce .. '\n' .. left .. '\n'
        if #value > 16384 then return 'R' .. string.sub(head, 2) end
        return head .. value
    end)
end
