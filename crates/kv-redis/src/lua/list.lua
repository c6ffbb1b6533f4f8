-- Reads a page of what lies below a directory. ARGV: prefix, the directory's beginning, the
-- bounds, whether children alone, whether with values, whether with lives, the most items, the
-- most bytes. Answers the bound at which the next page begins, the items, and the last number
-- given.
local start, from, to = ARGV[2], ARGV[3], ARGV[4]
local children, values, lives = ARGV[5] == '1', ARGV[6] == '1', ARGV[7] == '1'
local most, most_bytes = tonumber(ARGV[8]), tonumber(ARGV[9])
has(meta, 'hash')
has(index, 'zset')
local items, count, bytes, looked, is_whole = {}, 0, 0, 0, false

local function slash_in(key)
    return children and string.find(key, '/', #start + 1, true)
end

while not is_whole and count < most and bytes < most_bytes and looked < 4096 do
    local batch = math.min(most - count, 256)
    local keys = call('ZRANGEBYLEX', index, from, to, 'LIMIT', 0, batch)
    is_whole = #keys < batch
    for _, key in ipairs(keys) do
        local name, slash = prefix .. key, slash_in(key)
        from, looked = '(' .. key, looked + 1
        local value
        if values and not slash then value = value_of(name) else value = is_string(name) and '' end
        if not value then
            missed(key)
        elseif slash then
            -- All that lies deeper is skipped, however much it is.
            count = count + 1
            items[count] = { string.sub(key, 1, slash) }
            from, is_whole = '[' .. string.sub(key, 1, slash - 1) .. '0', false
            break
        else
            count, bytes = count + 1, bytes + #key + #value + 64
            items[count] = { key, note_of(key), value, lives and call('PTTL', name) }
            if bytes >= most_bytes then
                is_whole = false
                break
            end
        end
    end
end
return { is_whole and '' or from, items, last_number() }
