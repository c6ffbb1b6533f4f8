-- Reads values with their notes, up to 8 MiB. KEYS from the fifth on: names; ARGV from the second
-- on: their keys. Answers values and notes in turn, packed; and the greatest number that a note
-- may have.
has(meta, 'hash')
local items, bytes, from, group = {}, 0, 2, 4
while from <= #ARGV do
    local till = math.min(from + group - 1, #ARGV)
    local values = call('MGET', unpack(KEYS, from + 3, till + 3))
    local notes = call('HMGET', meta, unpack(ARGV, from, till))
    for n, value in ipairs(values) do
        if bytes > 8388608 then break end
        items[#items + 1] = value
        items[#items + 1] = notes[n]
        bytes = bytes + (value and #value or 0)
    end
    if bytes > 8388608 then break end
    from, group = till + 1, math.min(2 * group, lot)
end
return { cmsgpack.pack(items), latest_text() }
