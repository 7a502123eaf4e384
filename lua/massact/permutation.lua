-- Orders of 0 .. n - 1 that need no table: a Feistel network over the next power of four, walked until it lands inside (Black and
-- Rogaway 2002, "Ciphers with arbitrary finite domains").  The order depends on n and the key alone.
local M = {}

---The finaliser of SplitMix64 (Steele et al. 2014): every bit of the result depends on every bit of the number.
---@param z integer
---@return integer
function M.mix(z)
  z = (z ~ (z >> 30)) * 0xBF58476D1CE4E5B9
  z = (z ~ (z >> 27)) * 0x94D049BB133111EB
  return z ~ (z >> 31)
end

local mix, n_rounds = M.mix, 8

---A key of two numbers, as of a seed and an epoch.
---@param a integer
---@param b integer
---@return integer
function M.key(a, b) return mix(mix(a + 0x9E3779B97F4A7C15) + b) end

---@param n integer at least 1
---@param key integer
---@return fun(i: integer): integer order takes 0 .. n - 1, each once, to 0 .. n - 1
function M.of(n, key)
  local half = 1
  while 1 << 2 * half < n do half = half + 1 end
  local mask, keys = (1 << half) - 1, {}
  for round = 1, n_rounds do keys[round] = mix(key + round * 0x9E3779B97F4A7C15) end
  return function(i)
    repeat
      local left, right = i >> half, i & mask
      for round = 1, n_rounds do left, right = right, left ~ (mix(right + keys[round]) & mask) end
      i = left << half | right
    until i < n
    return i
  end
end

return M
