-- Tokens per second of a forward pass with loss, and what looking costs: massact run forward.lua MODEL [TOKENS]
local massact = require "massact"
local path, length = arg[1], tonumber(arg[2] or 512)
local model = massact.load(path)
local ids = {}
for i = 1, length do ids[i] = i * 7919 % model.vocab_size end

-- Median seconds of a pass; interleaved, since machines drift.
local kinds = {
  { "plain" },
  { "probe of every layer", function(p) return p:probe { "top3", "median" } end },
  { "empty hook on every layer", function(p) return p:hook(function() end) end },
}
for _ = 1, 2 do model:forward(ids, { loss = true }) end
local times = {}
for _ = 1, 7 do
  for i, kind in ipairs(kinds) do
    local handle = kind[2] and kind[2](model:point "layers.*.out")
    local before = massact.system.clock()
    model:forward(ids, { loss = true })
    times[i] = times[i] or {}
    table.insert(times[i], massact.system.clock() - before)
    if handle then handle:remove() end
  end
end
for i, kind in ipairs(kinds) do
  table.sort(times[i])
  local seconds = times[i][(#times[i] + 1) // 2]
  print(("massact, %s: %.0f tokens/s (%+.1f %%)"):format(kind[1], length / seconds, 100 * (seconds / times[1][(#times[1] + 1) // 2] - 1)))
end
print(massact.system.machine().blas)
