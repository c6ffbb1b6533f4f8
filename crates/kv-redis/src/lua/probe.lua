-- The first command that this user lacks the right for, of those that a write needs; false where it has all.
local queue, session = own .. 'lock/', own .. 'session/'
local needed = {
    { 'GET', prefix }, { 'SET', prefix, '' }, { 'TYPE', prefix }, { 'UNLINK', prefix }, { 'PTTL', prefix },
    { 'PEXPIREAT', prefix, '1' }, { 'GET', clock }, { 'SET', clock, '1', 'PX', '1' }, { 'HGET', meta, '' },
    { 'HMGET', meta, '' }, { 'HEXISTS', meta, '' }, { 'HSET', meta, '', '' }, { 'HDEL', meta, '' },
    { 'ZADD', index, '0', '' }, { 'ZREM', index, '' }, { 'ZCARD', index }, { 'ZRANGEBYLEX', index, '-', '+' },
    { 'ZLEXCOUNT', index, '-', '+' }, { 'ZADD', ends, '0', '' }, { 'ZREM', ends, '' },
    { 'ZRANGEBYSCORE', ends, '0', '1' }, { 'SADD', own, '' }, { 'SREM', own, '' }, { 'SCARD', own },
    { 'SSCAN', own, '0' }, { 'SPOP', own, '1' }, { 'RENAME', own, own }, { 'PEXPIRETIME', own },
    { 'PEXPIRE', session, '1' }, { 'EXISTS', session }, { 'HSCAN', session, '0' }, { 'ZRANGE', queue, '0', '0' },
    { 'ZSCORE', queue, '' }, { 'ZRANK', queue, '' }, { 'PUBSUB', 'SHARDNUMSUB', own }, { 'SPUBLISH', on, '' },
}
for _, command in ipairs(needed) do
    if not redis.acl_check_cmd(unpack(command)) then return command[1] end
end
return false
