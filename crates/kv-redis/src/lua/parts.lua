-- Answers over how many parts a store is spread, as its first part notes it from the first opening
-- on. KEYS[5]: the note; ARGV[2]: the number that is asked for.
local note, asked = KEYS[5], ARGV[2]
if has(note, 'string') then
    return tonumber(call('GET', note)) or damaged(note, 'is no number of parts')
end
-- A user that may not write finds the note, or a store without anything in it.
if redis.acl_check_cmd('SET', note, asked) then call('SET', note, asked) end
return tonumber(asked)
