-- Deletes a batch of the keys below a directory. ARGV: prefix, the bounds, nonce, the most keys.
look()
may_write()
local keys = call('ZRANGEBYLEX', index, ARGV[2], ARGV[3], 'LIMIT', 0, tonumber(ARGV[5]))
local count = 0
if #keys > 0 then
    local number, nonce = tick(true), ARGV[4]
    for _, key in ipairs(keys) do
        if is_string(prefix .. key) then
            call('UNLINK', prefix .. key)
            count = count + 1
        end
        forget(key)
        deleted(key, number, nonce)
    end
end
return { count, #keys }
