-- The paper's Table 1 (and 6): perplexity with massive activations as they are, set to zero, and to their mean, of every
-- checkpoint in a folder, with and without BOS, measured beside published.
--
--   massact sweep experiments/sweeps/table1.lua --set models=FOLDER [--set data=wikitext,c4,pg19] [--set calibration=redpajama]
--     [--set dtype=bf16] [--set windows=32]
--
-- Without a folder it shows what it does on the embedded model and text.
local massact = require "massact"
local set = ...

-- Hugging Face folders and .gguf files, by name.
local function checkpoints(folder)
  local found = {}
  for _, name in ipairs(massact.system.list(folder)) do
    local path = folder .. "/" .. name
    if name:match "%.gguf$" or massact.system.exists(path .. "/config.json") then found[#found + 1] = path end
  end
  table.sort(found)
  if #found == 0 then error(("models=%s: there is no checkpoint in it"):format(folder), 0) end
  return found
end

local fixed = { dtype = set.dtype or "bf16", windows = set.windows }
if set.models then
  fixed.data, fixed.calibration_data = set.data or "wikitext,c4,pg19", set.calibration or "redpajama"
end

return {
  experiment = "intervention",
  fixed = fixed,
  cross = {
    pretrained = set.models and checkpoints(set.models) or { massact.home .. "/experiments/default/model" },
    add_bos_token = { true, false },
  },
  report = function(cases)
    local published = require "massact.published"
    return { ["table1.md"] = published.table1(cases, massact.json.load(massact.home .. "/experiments/published.json")) }
  end,
}
