-- Has the watches of these channels read again. ARGV from the second on: channels.
for at = 2, #ARGV do call('SPUBLISH', ARGV[at], 'L') end
return 1
