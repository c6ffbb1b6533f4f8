-- Reads values with their notes, up to 8 MiB. KEYS from the fifth on: names; ARGV from the second
-- on: their keys. Answers values and notes in turn, packed; and the greatest number that a note
-- may have.
has(meta, 'hash')
local items, bytes = {}, 0
for from = 2, #ARGV, lot do
    local till = math.min(from + lot - 1, #ARGV)
    local values = call('MGET', unpack(KEYS, from + 3, till + 3))
    local notes = call('HMGET', meta, unpack(ARGV, from, till))
    for n, value in ipairs(values) do
        if bytes > 8388608 then break end
        items[#items + 1] = value
        items[#items + 1] = notes[n]
        bytes = bytes + (value and #value or 0)
    end
    if bytes > 8388608 then break end
end
return { cmsgpack.pack(items), latest_text() }
