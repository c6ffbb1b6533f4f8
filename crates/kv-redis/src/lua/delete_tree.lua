-- Deletes a batch of the keys below a directory. ARGV: prefix, the bounds, nonce, the most keys.
look()
may_write()
may('ZREMRANGEBYLEX', index, '-', '-')
local keys = call('ZRANGEBYLEX', index, ARGV[2], ARGV[3], 'LIMIT', 0, tonumber(ARGV[5]))
if #keys == 0 then return { 0, 0 } end
local names, lives, ended = {}, {}, {}
for at, note in ipairs(call('HMGET', meta, unpack(keys))) do
    local name = prefix .. keys[at]
    if is_string(name) then names[#names + 1] = name end
    lives[at] = select(4, read_note(note))
    if lives[at] ~= '-' then ended[#ended + 1] = keys[at] end
end
local number, nonce = tick(true), ARGV[4]
if #names > 0 then call('UNLINK', unpack(names)) end
call('HDEL', meta, unpack(keys))
if #ended > 0 then call('ZREM', ends, unpack(ended)) end
call('ZREMRANGEBYLEX', index, '[' .. keys[1], '[' .. keys[#keys])
for at, key in ipairs(keys) do leave_lease(lives[at], key) end
deleted(keys, number, nonce)
return { #names, #keys }
