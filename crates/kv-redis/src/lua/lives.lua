-- Answers what is left of the lives of keys that may have ended: milliseconds, or -1 for ever; -2
-- where the key is gone, which is published, and -3 where it could not be published. ARGV from the
-- second on: keys, each with the number that was told of it, and whether its end was found before,
-- and no message came. Of a key that is not noted any more the message is on its way: many watches
-- ask for one end, and it is published once.
local left = {}
for at = 2, #ARGV, 3 do
    local key, number, is_missing = ARGV[at], ARGV[at + 1], ARGV[at + 2] == '1'
    local name = prefix .. key
    local lives = is_string(name) and call('PTTL', name) or -2
    local is_told = not is_missing and pcall_server('HEXISTS', meta, key) == 0
    if lives == -2 and not is_told and not missed(key, number) then lives = -3 end
    left[#left + 1] = lives
end
return left
