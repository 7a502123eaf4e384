-- One training's results as lines for the user, tables and pictures.
local plot = require "massact.plot"
local tables = require "massact.tables"
local tokens_analysis = require "massact.tokens_analysis"

local M = {}

local function percent(share) return 100 * share end

-- ---- what is said ----

---What was measured, a line a measure.
---@param r table results
---@return string[]
function M.lines(r)
  local e, lines = r.existence, {}
  local function put(format, ...) lines[#lines + 1] = format:format(...) end
  put("%s: %d parameters, %d tokens in %d steps, %.0f tokens/s", r.model, r.n_parameters, r.tokens, r.steps, r.timings.tokens_per_second)
  if e.is_massive then
    put("massive activations in layers %s, up to %.4g", table.concat(e.massive_layers, ", "), e.largest.max)
  else
    put("no massive activations; the largest magnitude is %.4g, %.4g times the median, in layer %d", e.largest.max, e.largest.ratio, e.largest.layer)
  end
  local q, function_of = r.quantisation.perplexity, require("massact.paper").perplexity
  put("%s, with 8-bit weights and activations %s", function_of(r.perplexity), function_of(q.both))
  put("sink rate %.4f%s", r.sinks.sink_rate, r.sinks.by_layer.bias and (", the KV bias gets %.3f of all attention"):format(M.mean(r.sinks.by_layer.bias)) or "")
  for _, set in ipairs(r.sets or {}) do
    put("%-14s %5.1f %% of %d right (guessing %.1f %%)", set.name, percent(set.accuracy), set.n, percent(set.chance))
  end
  return lines
end

---@param list number[]
---@return number
function M.mean(list)
  local sum = 0
  for _, value in ipairs(list) do sum = sum + value / #list end
  return sum
end

-- ---- tables ----

---Largest and median magnitude, sink rate and the KV bias's share of attention, by layer.
---@param r table results
---@return string csv
function M.by_layer(r)
  local rows, of = {}, r.sinks.by_layer
  for l, max in ipairs(r.existence.mean_max) do
    local median = r.existence.mean_median[l]
    rows[l] = { l - 1, max, median, max / median, of.sink_rate[l], of.attention[l], of.bias and of.bias[l] }
  end
  return tables.csv({ "layer", "mean_max", "mean_median", "ratio", "sink_rate", "attention_to_key_0", "attention_to_kv_bias" }, rows)
end

---A row a step and layer.
---@param records table[]
---@return string csv
function M.by_step(records)
  local rows = {}
  for _, record in ipairs(records) do
    local m = record.magnitudes
    for l = 1, m and #m.top1 or 0 do
      rows[#rows + 1] = { record.step, record.tokens, l - 1, m.top1[l], m.top2[l], m.top3[l], m.median[l] }
    end
  end
  return tables.csv({ "step", "tokens", "layer", "top1", "top2", "top3", "median" }, rows)
end

---Loss on held-out text and downstream score, a row a step that has one of them.
---@param records table[]
---@return string csv
function M.scores(records)
  local rows = {}
  for _, record in ipairs(records) do
    if record.evaluation_loss or record.score then
      rows[#rows + 1] = { record.step, record.tokens, record.loss, record.evaluation_loss, record.score }
    end
  end
  return tables.csv({ "step", "tokens", "loss", "evaluation_loss", "accuracy" }, rows)
end

-- ---- pictures ----

-- The layers' largest magnitudes over the steps; a colour a layer.
local function growth_figure(r)
  local figure = plot.figure { title = "Over training", x_label = "Step", y_label = "Activation Magnitude", x_scale = "log", y_scale = "log" }
  for l = 1, r.n_layers do
    local x, y = {}, {}
    for _, record in ipairs(r.records) do
      if record.magnitudes then x[#x + 1], y[#y + 1] = record.step, record.magnitudes.top1[l] end
    end
    figure:line { x = x, y = y, label = "layer " .. l - 1 }
  end
  return figure
end

---Magnitudes by layer as the paper draws them, and how they grew.
---@param r table results
---@return massact.Grid
function M.figure(r)
  return plot.grid({ tokens_analysis.figure("Magnitude by layer", r.existence.mean_max, r.existence.mean_median), growth_figure(r) },
    { columns = 2, title = r.model })
end

return M
