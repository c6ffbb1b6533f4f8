-- Reads values with their notes, up to 8 MiB. KEYS from the fifth on: names; ARGV from the second
-- on: their keys.
has(meta, 'hash')
local found, bytes = {}, 0
for at = 2, #ARGV do
    local value = value_of(KEYS[at + 3])
    found[at - 1] = value and { value, note_of(ARGV[at]) } or false
    bytes = bytes + (value and #value or 0)
    if bytes > 8388608 then break end
end
return found
