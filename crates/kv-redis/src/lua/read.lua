-- Values with what is noted of them. KEYS from the fifth on: names; ARGV from the second on: their keys.
local found = {}
for at = 2, #ARGV do
    local value = value_of(KEYS[at + 3])
    found[at - 1] = value and { value, call('HGET', meta, ARGV[at]) } or false
end
return found
