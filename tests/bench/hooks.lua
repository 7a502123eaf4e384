-- What an empty Lua hook costs, where a pass costs almost nothing: massact run hooks.lua
local massact = require "massact"
local model = massact.load(massact.home .. "/tests/golden/models/gpt2")
local ids, passes = { 1 }, 5000

local function seconds_a_pass()
  local before = massact.system.clock()
  for _ = 1, passes do model:forward(ids) end
  return (massact.system.clock() - before) / passes
end

seconds_a_pass()
local with, without = {}, {}
for i = 1, 9 do
  without[i] = seconds_a_pass()
  local hook <close> = model:point("layers.*.out"):hook(function() end)
  with[i] = seconds_a_pass()
end
table.sort(with)
table.sort(without)
print(("an empty hook: %.2f microseconds a layer; a pass over one token of a tiny model: %.1f"):format(
  1e6 * (with[5] - without[5]) / model.n_layers, 1e6 * without[5]))
