-- The table of tests/README.md: the largest relative errors of each golden model against transformers, in f32.
--   MASSACT_TESTS=tests MASSACT_SHARED=... massact tests/golden/table.lua
package.path = os.getenv "MASSACT_TESTS" .. "/golden/?.lua;" .. package.path
local massact = require "massact"
local golden = require "compare"

local kinds = { "logits", "hidden", "modules", "attention" }
print "| model | family | logits | hidden states | attention and MLP outputs | scores and probabilities |"
print "| --- | --- | --- | --- | --- | --- |"
for _, folder in ipairs(golden.folders()) do
  local model = massact.load(folder.path)
  local expected = massact.safetensors.load(folder.path .. "/expected.safetensors")
  local largest = {}
  for _, which in ipairs { "long", "short" } do
    for _, e in ipairs(expected[which .. ".input_ids"] and golden.errors(model, expected, which) or {}) do
      largest[e[1]] = golden.worse(largest[e[1]] or 0, e[3])
    end
  end
  local row = { folder.name, model.family }
  for _, kind in ipairs(kinds) do row[#row + 1] = ("%.1e"):format(largest[kind]) end
  print("| " .. table.concat(row, " | ") .. " |")
end
