package redislimit

import "github.com/redis/go-redis/v9"

// A budget is two keys: when it is whole again, in microseconds since 1970, which each
// failure moves by one refill; and a sorted set of the guesses in flight by when their
// leases end. ARGV of both scripts ends with the budget and the refill of each unit.

const common = `
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

-- debt returns how long it takes until the budget is whole. Guesses whose lease has
-- ended have become failures.
local function debt(unit, budget, refill)
	local lapsed = redis.call('ZREMRANGEBYSCORE', KEYS[2 * unit], '-inf', now)
	local whole = tonumber(redis.call('GET', KEYS[2 * unit - 1]) or 0)
	return math.min(math.max(whole - now, 0) + lapsed * refill, budget), lapsed
end

local function owe(unit, debt)
	if debt > 0 then
		redis.call('SET', KEYS[2 * unit - 1], string.format('%.0f', now + debt), 'PX', math.ceil(debt / 1000))
	end
end
`

// charge returns 0 if the guess may be looked at, -1 if it has to wait for others, and
// else how long it takes until the client may guess once more.
var charge = redis.NewScript(common + `
local guess, lease, budget = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local spent, full = 0, false
for unit = 1, #KEYS / 2 do
	local refill = tonumber(ARGV[3 + unit])
	local owed, lapsed = debt(unit, budget, refill)
	if lapsed > 0 then
		owe(unit, owed)
	end
	spent = math.max(spent, owed + refill - budget)
	if owed + (redis.call('ZCARD', KEYS[2 * unit]) + 1) * refill > budget then
		full = true
	end
end
if spent > 0 then
	return spent
end
if full then
	return -1
end
for unit = 1, #KEYS / 2 do
	redis.call('ZADD', KEYS[2 * unit], string.format('%.0f', now + lease), guess)
	redis.call('PEXPIRE', KEYS[2 * unit], math.ceil(2 * lease / 1000))
end
return 0
`)

// settle ends a guess once.
var settle = redis.NewScript(common + `
local guess, failed, budget = ARGV[1], ARGV[2] == '1', tonumber(ARGV[3])
for unit = 1, #KEYS / 2 do
	local refill = tonumber(ARGV[3 + unit])
	if redis.call('ZREM', KEYS[2 * unit], guess) == 1 and failed then
		owe(unit, math.min(debt(unit, budget, refill) + refill, budget))
	end
end
return 0
`)
