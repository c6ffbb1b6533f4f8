-- Notes values that other tools wrote. ARGV: prefix, nonce, keys; KEYS from the fifth on: their
-- names. Answers the number of keys that were noted, by this request or by an earlier one of the
-- same nonce, and the number of keys that were looked at: fewer than asked for where values are
-- large, for they take time.
look()
may_write()
may('ZSCORE', index, '')
may('PTTL', prefix)
local count, looked, bytes, number = 0, 0, 0, nil
for at = 3, #ARGV do
    local name, key = KEYS[at + 2], ARGV[at]
    local value = value_of(name)
    looked = looked + 1
    if value then
        bytes = bytes + #value
        local sum = string.sub(redis.sha1hex(value), 1, 15)
        local known, nonce, seen, before = noted(key)
        if not known or seen ~= sum or not call('ZSCORE', index, key) then
            number = number or tick()
            local left, life = call('PTTL', name), nil
            if left < 0 then
                left, life = '', '-'
                call('ZREM', ends, key)
            else
                left, life = text(left), 't'
                call('ZADD', ends, text(millis + tonumber(left)), key)
            end
            leave_lease(before, key)
            call('HSET', meta, key, number .. ' ' .. ARGV[2] .. ' ' .. sum .. ' ' .. life)
            call('ZADD', index, 0, key)
            told_put(key, number, ARGV[2], left, value)
            count = count + 1
        elseif nonce == ARGV[2] then
            count = count + 1
        end
    end
    if bytes > 4194304 then break end
end
return { count, looked }
