-- The paper's existence_validation: means over windows of each layer's largest and median magnitude, rounded to f16
-- whatever the model computes in, so that what is above 65504 becomes infinite; results keep the unrounded means too.
local core = require "massact.core"
local detect = require "massact.detect"

local M = {}

local function as_f16(value) return core.tensor.tensor({ value }, "f16"):to({ dtype = "f32" }):get(0) end

---@param run massact.Run
---@param windows integer[][]
---@return table results mean_max, mean_median by layer (from 1), massive_layers (from 0)
function M.measure(run, windows)
  local results = { mean_max = {}, mean_median = {}, mean_max_f16 = {}, mean_median_f16 = {}, massive_layers = core.json.array(),
    calibration_windows = #windows }
  local n_layers = run.model.n_layers
  for l = 1, n_layers do results.mean_max[l], results.mean_median[l] = 0, 0 end
  for _, s in ipairs(detect.sequences(run.model, windows, { label = "existence", place = run.place, journal = run.journal })) do
    for l = 1, n_layers do
      results.mean_max[l] = results.mean_max[l] + s.max[l] / #windows
      results.mean_median[l] = results.mean_median[l] + s.median[l] / #windows
    end
  end
  for l = 1, n_layers do
    local max, median = as_f16(results.mean_max[l]), as_f16(results.mean_median[l])
    results.mean_max_f16[l], results.mean_median_f16[l] = max, median
    if max > detect.criterion.above and max >= detect.criterion.ratio * median then
      table.insert(results.massive_layers, l - 1)
    end
  end
  return results
end

local function shown(f16, exact)
  return f16 == math.huge and ("inf in f16, %.1f"):format(exact) or ("%.4f"):format(f16)
end

---check_has_massive_activations.txt
---@param run massact.Run
---@param r table
function M.write(run, r)
  local lines = { #r.massive_layers > 0 and "Massive activations: yes" or "Massive activations: no" }
  for _, layer in ipairs(r.massive_layers) do
    local l = layer + 1
    lines[#lines + 1] = ("Layer %d: mean max %s, mean median %s"):format(layer, shown(r.mean_max_f16[l], r.mean_max[l]),
      shown(r.mean_median_f16[l], r.mean_median[l]))
  end
  lines[#lines + 1] = ""
  run:write("check_has_massive_activations.txt", table.concat(lines, "\n"))
end

---The largest ratio of a layer's mean maximum to its mean median, and that layer.
---@param r table
---@return number ratio, integer layer
function M.closest(r)
  local most, layer = -1, 0
  for l = 1, #r.mean_max do
    local ratio = r.mean_max[l] / r.mean_median[l]
    if ratio > most then most, layer = ratio, l - 1 end
  end
  return most, layer
end

return M
