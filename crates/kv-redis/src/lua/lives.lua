-- Answers what is left of the lives of keys that may have ended: milliseconds, or -1 for ever; -2
-- where the key is gone, which was published, and -3 where it could not be published. ARGV from
-- the second on: keys, each with the number that was told of it.
local left = {}
for at = 2, #ARGV, 2 do
    local name = prefix .. ARGV[at]
    local lives = is_string(name) and call('PTTL', name) or -2
    if lives == -2 and not missed(ARGV[at], ARGV[at + 1]) then lives = -3 end
    left[#left + 1] = lives
end
return left
