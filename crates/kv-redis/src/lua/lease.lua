-- A lease is a set of keys with an end, which is the keys' own too. KEYS[5]: the lease; ARGV: prefix, what to do, the rest.
local lease, order = KEYS[5], ARGV[2]
if order == 'grant' then
    call('SADD', lease, '')
    call('PEXPIRE', lease, ARGV[3])
    return 1
end
local keys = call('SMEMBERS', lease)
if #keys == 0 then return 0 end
local id = string.sub(lease, #own + 7)

local function is_under_it(key)
    local _, _, _, life = noted(key)
    return life == id and is_string(prefix .. key)
end

if order == 'renew' then
    local till = text(millis + tonumber(ARGV[3]))
    call('PEXPIREAT', lease, till)
    for _, key in ipairs(keys) do
        if key ~= '' and is_under_it(key) then
            call('PEXPIREAT', prefix .. key, till)
            call('ZADD', ends, till, key)
        elseif key ~= '' then
            call('SREM', lease, key)
        end
    end
else
    local number = tick()
    for _, key in ipairs(keys) do
        if key ~= '' and is_under_it(key) then
            call('UNLINK', prefix .. key)
            forget(key)
            deleted(key, number, ARGV[3])
        end
    end
    call('UNLINK', lease)
end
return 1
