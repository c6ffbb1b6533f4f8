-- Notes what other tools wrote. ARGV: prefix, nonce, keys; KEYS from the fifth on: their names.
local count, number = 0, nil
for at = 3, #ARGV do
    local name, key = KEYS[at + 2], ARGV[at]
    local value = value_of(name)
    if value then
        local sum = string.sub(redis.sha1hex(value), 1, 15)
        local known, _, seen, life = noted(key)
        if not known or seen ~= sum then
            number = number or tick()
            local left, before = call('PTTL', name), life
            if left < 0 then
                left, life = '', '-'
                call('ZREM', ends, key)
            else
                left, life = text(left), 't'
                call('ZADD', ends, text(millis + tonumber(left)), key)
            end
            if before and before ~= '-' and before ~= 't' then call('SREM', own .. 'lease/' .. before, key) end
            call('HSET', meta, key, number .. ' ' .. ARGV[2] .. ' ' .. sum .. ' ' .. life)
            call('ZADD', index, 0, key)
            told_put(key, number, ARGV[2], left, value)
            count = count + 1
        end
    end
end
return count
