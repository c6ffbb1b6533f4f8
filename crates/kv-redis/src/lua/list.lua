-- Reads a page of what lies below a directory. ARGV: prefix, the directory's beginning, the
-- bounds, whether children alone, whether with values, whether with lives, the most items, the
-- most bytes. Answers the bound at which the next page begins; the items, packed: of each its key,
-- its note, its value and what is left of its life, of a directory its name with a slash; the last
-- number given; and the greatest number that a note may have.
local start, from, to = ARGV[2], ARGV[3], ARGV[4]
local children, values, lives = ARGV[5] == '1', ARGV[6] == '1', ARGV[7] == '1'
local most, most_bytes = tonumber(ARGV[8]), tonumber(ARGV[9])
has(meta, 'hash')
has(index, 'zset')
local items, count, bytes, looked, is_whole = {}, 0, 0, 0, false

local function add(key, note, value, left)
    local at = 4 * count
    count = count + 1
    items[at + 1], items[at + 2], items[at + 3], items[at + 4] = key, note, value, left
end

local batch, group = 256, 4
while not is_whole and count < most and bytes < most_bytes and looked < 4096 do
    local asked = math.min(most - count, batch)
    local keys = call('ZRANGEBYLEX', index, from, to, 'LIMIT', 0, asked)
    is_whole, batch = #keys < asked, 256
    -- The keys up to the first one that lies deeper, where children alone are listed.
    local plain, slash = #keys, nil
    for at = 1, children and #keys or 0 do
        slash = string.find(keys[at], '/', #start + 1, true)
        if slash then
            plain = at - 1
            break
        end
    end
    local names, notes = {}, plain > 0 and call('HMGET', meta, unpack(keys, 1, plain))
    local found, first, last = nil, 1, 0
    for at = 1, plain do names[at] = prefix .. keys[at] end
    for at = 1, plain do
        local key, value = keys[at], nil
        if values then
            if at > last then
                first, last, group = at, math.min(at + group - 1, plain), math.min(2 * group, lot)
                found = call('MGET', unpack(names, first, last))
            end
            value = found[at - first + 1]
        else
            value = is_string(names[at]) and ''
        end
        from, looked = '(' .. key, looked + 1
        if value then
            bytes = bytes + #key + #value + 64
            add(key, notes[at], value, lives and call('PTTL', names[at]))
            if bytes >= most_bytes then
                is_whole, slash = false, nil
                break
            end
        else
            missed(key)
        end
    end
    if slash then
        local key = keys[plain + 1]
        from, looked, is_whole = '(' .. key, looked + 1, false
        if is_string(prefix .. key) then
            -- All that lies deeper is skipped, however much it is. More directories are likely to
            -- follow.
            add(string.sub(key, 1, slash), false, '', false)
            from, batch = '[' .. string.sub(key, 1, slash - 1) .. '0', 16
        else
            missed(key)
        end
    end
end
return { is_whole and '' or from, cmsgpack.pack(items), last_number(), latest_text() }
