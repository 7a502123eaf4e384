-- What is measured of a trained model on text that it has not seen: massive activations, perplexity, attention sinks, perplexity with 8-bit
-- weights and activations, and downstream items.
local core = require "massact.core"
local existence = require "massact.existence"
local growth = require "massact.recipe.growth"
local perplexity = require "massact.perplexity"
local quantisation = require "massact.quantisation"
local sinks = require "massact.sinks"
local statistics = require "massact.statistics"

local M = {}

local bits = 8

-- Massive activations by the paper's criterion, and the largest of all.
local function magnitudes(model, windows)
  local found = existence.measure({ model = model }, windows)
  local best = 1
  for l, value in ipairs(found.mean_max) do if value > found.mean_max[best] then best = l end end
  found.is_massive = #found.massive_layers > 0
  found.largest = { layer = best - 1, max = found.mean_max[best], median = found.mean_median[best],
    ratio = found.mean_max[best] / found.mean_median[best] }
  return found
end

-- Gu et al.'s sink rate, over windows of their length where the context has it.
local function sink_rate(model, windows, context)
  local length, cut = math.min(statistics.sink.context_length, context), {}
  for i, ids in ipairs(windows) do cut[i] = table.move(ids, 1, length, 1, {}) end
  local found = sinks.summarise(sinks.windows(model, cut, { label = "sinks", epsilon = statistics.sink.epsilon }), statistics.sink.epsilon)
  return { sink_rate = found.sink_rate, by_layer = found.by_layer, epsilon = statistics.sink.epsilon, context_length = length }
end

-- Perplexity in each case of quantisation.cases; an infinite one is null.
local function quantised(model, windows, calibration)
  local scales = quantisation.calibrate(model, calibration, { label = "calibration" })
  local losses, by_case = quantisation.losses(model, windows, scales, quantisation.levels(bits), { label = "W8A8" }), {}
  for case, of_windows in pairs(losses) do
    local value = perplexity.of_losses(of_windows)
    by_case[case] = value < math.huge and value or core.json.null
  end
  return { bits = bits, perplexity = by_case }
end

---Everything about a model.
---@param model massact.Model
---@param windows integer[][] that it was not trained on
---@param calibration integer[][] that it was
---@param sets massact.DownstreamSet[]
---@param opt table
---@return table {existence, perplexity, quantisation, sinks, accuracy, sets}
function M.of(model, windows, calibration, sets, opt)
  local out = { existence = magnitudes(model, windows), sinks = sink_rate(model, windows, opt.context),
    quantisation = quantised(model, windows, calibration) }
  out.perplexity = out.quantisation.perplexity.full
  if #sets > 0 then out.accuracy, out.sets = growth.score(model, sets) end
  return out
end

return M
