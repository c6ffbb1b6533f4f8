-- Tells those who watch how many keys they should know by now. ARGV from the second on: channels.
has(index, 'zset')
for at = 2, #ARGV do
    local kind, name = string.match(string.sub(ARGV[at], #on + 1), '^(%a+)/(.*)$')
    local count
    if kind == 'key' then
        count = call('ZSCORE', index, name) and 1 or 0
    elseif kind == 'tree' and name == '' then
        count = call('ZCARD', index)
    elseif kind == 'tree' then
        count = call('ZLEXCOUNT', index, '[' .. name .. '/', '(' .. name .. '0')
    end
    if count then call('SPUBLISH', ARGV[at], 'C\n' .. name .. '\n' .. count) end
end
return 1
