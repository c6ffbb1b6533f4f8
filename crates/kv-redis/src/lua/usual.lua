-- The short way of the usual write, before the way of all others: one put of a key under no lease,
-- on whatever is there, on nothing, or on one version; where no record is damaged, no end is
-- overdue, the clock was not set back and no right is missing. Anything else is left, before the
-- first change, to what stands below.
do
    local meta, index, clock, ends = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
    local call, try, may = redis.call, redis.pcall, redis.acl_check_cmd
    local count, kind = ARGV[3], ARGV[4]
    local at = count == '0' and 4 or count == '1' and (kind == 'missing' and 6 or kind == 'version' and 7)

    -- Whether what is there is what the write wants; and the life that its note ends in.
    local function is_usual(name, key, micros)
        -- A transaction may ask for one key and write another.
        if at > 4 and ARGV[5] ~= key then return false end
        local note = try('HGET', meta, key)
        local life
        if note then
            if type(note) == 'table' then return false end
            life = string.match(note, ' ([-t])$')
            if not life then return false end
        end
        if at < 7 then
            local kept = call('TYPE', name).ok
            return kept == 'none' or (at == 4 and kept == 'string'), life
        end
        local number, nonce, digest = string.match(note or '', '^(%d+) (%d+) (%x+) ')
        if not number or number .. ' ' .. nonce ~= ARGV[6] then return false end
        if #number > 16 or tonumber(number) > micros then return false end
        local value = try('GET', name)
        return type(value) == 'string' and string.sub(redis.sha1hex(value), 1, 15) == digest, life
    end

    if at and #ARGV == at + 5 and ARGV[at] == 'put' and ARGV[at + 5] == '' then
        local name, key, value, digest, ttl = KEYS[#KEYS], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
        local database, prefix = string.match(ARGV[1], '^(%d+):(.*)$')
        local on = prefix .. '.kv/on/' .. database .. '/'
        local time = call('TIME')
        local number = time[1] .. string.sub('000000' .. time[2], -6)
        local micros = tonumber(number)
        local millis = math.ceil(micros / 1000)
        local last = try('GET', clock)
        local is_later = not last
            or (type(last) == 'string' and #last <= 16 and string.find(last, '^%d+$') and tonumber(last) < micros)
        local due = try('ZRANGEBYSCORE', ends, '-inf', string.format('%.0f', millis - 2), 'LIMIT', 0, 1)
        local is_wanted, life = is_usual(name, key, micros)
        if is_later and #due == 0 and not due.err and is_wanted
            and may('SET', clock, '') and may('SET', name, '') and may('HSET', meta, '', '')
            and may('ZADD', index, '0', '') and may('PUBSUB', 'SHARDNUMSUB', on) and may('SPUBLISH', on, '')
            and (ttl == '' or may('ZADD', ends, '0', '')) and (life ~= 't' or may('ZREM', ends, ''))
        then
            -- The first change: a damaged index refuses it, and all is left to what stands below.
            if type(try('ZADD', index, 0, key)) == 'number' then
                -- The number is forgotten a month after the last write.
                call('SET', clock, number, 'PXAT', string.format('%.0f', millis + 2592000000))
                local lives = '-'
                if ttl ~= '' then
                    local till = string.format('%.0f', millis + tonumber(ttl))
                    call('SET', name, value, 'PXAT', till)
                    call('ZADD', ends, till, key)
                    lives = 't'
                else
                    call('SET', name, value)
                    if life == 't' then call('ZREM', ends, key) end
                end
                call('HSET', meta, key, number .. ' ' .. ARGV[2] .. ' ' .. digest .. ' ' .. lives)
                -- The channels of the watches of the key, and of each directory above it.
                local channels = { on .. 'key/' .. key, on .. 'tree/' }
                for slash in string.gmatch(key, '()/') do
                    channels[#channels + 1] = on .. 'tree/' .. string.sub(key, 1, slash - 1)
                end
                local message
                local listening = call('PUBSUB', 'SHARDNUMSUB', unpack(channels))
                for n = 2, #listening, 2 do
                    if listening[n] > 0 then
                        if not message then
                            local head = key .. '\n' .. number .. '\n' .. ARGV[2] .. '\n' .. ttl .. '\n'
                            message = #value > 16384 and 'R\n' .. head or 'P\n' .. head .. value
                        end
                        call('SPUBLISH', listening[n - 1], message)
                    end
                end
                return { 'done', number, 1 }
            end
        end
    end
end
