-- The three kurtoses of statistics.lua and its outlier dims, layer by layer over many windows: only sums are kept.  The first token
-- counts apart from the rest as well, since it alone may make a layer's kurtosis (Kaul et al. 2024, arXiv 2410.17174).
local core = require "massact.core"
local devices = require "massact.device"
local detect = require "massact.detect"
local places = require "massact.place"
local statistics = require "massact.statistics"

local M = {}

M.rows = 4096 -- positions that the median of each dim is taken over

-- ---- sums of one place ----

---@class massact.KurtosisSums
---@field n_first integer positions 0
---@field n_rest integer other positions
---@field token_first number sum of token kurtoses
---@field token_rest number
---@field sequence number sum over windows of the kurtosis of all that a window holds
---@field inf_norm number sum over windows of the largest magnitude
---@field first massact.Tensor[] sums over positions 0 of x and x^2, [d] each
---@field rest massact.Tensor[]
local Sums = {}
Sums.__index = Sums

local function new_sums(width, device)
  local function zeros() return core.tensor.full({ width }, "f32", device, 0) end
  local function two() return { zeros(), zeros() } end
  return setmetatable({ n_first = 0, n_rest = 0, token_first = 0, token_rest = 0, sequence = 0, inf_norm = 0, first = two(), rest = two() }, Sums)
end

local function add_moments(sums, x)
  local rows = x:reshape(-1, x:size(-1))
  sums[1]:add_(rows:sum(0))
  sums[2]:add_(rows:square():sum(0))
end

---Adds a pass's tensor [B, T, d].
function Sums:add(x)
  local n, t = x:size(0), x:size(1)
  local first, rest, whole = x:narrow(1, 0, 1), x:narrow(1, 1, t - 1), x:reshape(n, -1)
  self.n_first, self.n_rest = self.n_first + n, self.n_rest + n * (t - 1)
  self.token_first = self.token_first + statistics.token_kurtosis(first):sum():item()
  self.token_rest = self.token_rest + statistics.token_kurtosis(rest):sum():item()
  self.sequence = self.sequence + statistics.token_kurtosis(whole):sum():item()
  self.inf_norm = self.inf_norm + whole:abs():max(-1):sum():item()
  add_moments(self.first, first)
  add_moments(self.rest, rest)
end

---@return table<string, number> by the names of M.columns
function Sums:results()
  local n = self.n_first + self.n_rest
  return {
    token = (self.token_first + self.token_rest) / n, token_first = self.token_first / self.n_first, token_rest = self.token_rest / self.n_rest,
    sequence = self.sequence / self.n_first, inf_norm = self.inf_norm / self.n_first,
    neuron_rms = statistics.neuron_rms_kurtosis((self.first[2] + self.rest[2]) / n),
    neuron_rms_rest = statistics.neuron_rms_kurtosis(self.rest[2] / self.n_rest),
    mean_activation = statistics.mean_activation_kurtosis((self.first[1] + self.rest[1]) / n),
    mean_activation_rest = statistics.mean_activation_kurtosis(self.rest[1] / self.n_rest),
  }
end

-- What is said of a layer, in the order of the table; "rest" is without the first token.
M.columns = { "token", "token_first", "token_rest", "sequence", "neuron_rms", "neuron_rms_rest", "mean_activation", "mean_activation_rest",
  "inf_norm" }

-- ---- all windows ----

-- Positions of the last layer's output, evenly spread over all windows, at most M.rows; never position 0.
local function keep_rows(kept, x, n_windows)
  local t = x:size(1)
  local stride = math.max(1, math.ceil(n_windows * (t - 1) / M.rows))
  local index = {}
  for b = 0, x:size(0) - 1 do for p = 1 + b % stride, t - 1, stride do index[#index + 1] = b * t + p end end
  if #index > 0 then kept[#kept + 1] = x:reshape(-1, x:size(-1)):gather(0, devices.index(index, x)) end
end

---Kurtoses by layer, and outlier dims.
---@param model massact.Model
---@param windows integer[][] of equal length, 2 tokens or more
---@param how massact.Batches
---@return table {by_layer = {{token, token_first, ...}, ...}, int8_outliers, median_outliers = {dims, threshold, positions}}
function M.measure(model, windows, how)
  local sums, counts, kept = {}, {}, {}
  local last = places.name(places.output, model.n_layers - 1)
  local hook <close> = model:point((how.place or places.output).pattern):hook(function(x, at)
    local l = at.layer + 1
    sums[l] = sums[l] or new_sums(x:size(-1), x:device())
    sums[l]:add(x)
  end)
  local handle <close> = model:point("layers.*.{attn.norm,mlp.norm}"):hook(function(x, at)
    local l, large = at.layer + 1, statistics.count_large(x)
    counts[l] = counts[l] and counts[l] + large or large
  end)
  detect.batches(windows, { label = how.label, batch = how.batch or detect.batch_of(windows) }, function(batch)
    keep_rows(kept, model:forward(batch, { capture = last, stop_at = last })[last], #windows)
    return {}
  end)
  local by_layer, rows = {}, require("massact").cat(kept, 0)
  for l, of_layer in ipairs(sums) do by_layer[l] = of_layer:results() end
  local dims, threshold = statistics.median_outliers(rows)
  return { by_layer = by_layer, windows = #windows,
    int8_outliers = core.json.array(statistics.int8_outliers(counts, 2 * #windows * #windows[1])),
    median_outliers = { dims = core.json.array(dims), threshold = threshold, positions = rows:size(0) } }
end

-- ---- what is said and drawn ----

local function dims_of(list)
  local dims = {}
  for i, found in ipairs(list) do dims[i] = found.dim end
  return #dims > 0 and table.concat(dims, ", ") or "none"
end

---What the user reads.
---@param run massact.Run
---@param results table
function M.report(run, results)
  local function most(name)
    local best = 1
    for l, layer in ipairs(results.by_layer) do if layer[name] > results.by_layer[best][name] then best = l end end
    return ("%.4g at layer %d"):format(results.by_layer[best][name], best - 1)
  end
  run:say("largest over the layers, %d windows of %d tokens:", results.windows, results.options.context_length)
  run:say("  token kurtosis                        first token %s; the rest %s", most "token_first", most "token_rest")
  run:say("  neuron-RMS kurtosis                   all tokens %s; without the first %s", most "neuron_rms", most "neuron_rms_rest")
  run:say("  excess kurtosis of mean activation    all tokens %s; without the first %s", most "mean_activation", most "mean_activation_rest")
  run:say("outlier dims by LLM.int8's rule: %s", dims_of(results.int8_outliers))
  run:say("outlier dims of the last layer, median in the top 1 %%: %s", dims_of(results.median_outliers.dims))
end

---The tables behind the pictures.
---@param run massact.Run
---@param results table
function M.write(run, results)
  local rows = {}
  for l, layer in ipairs(results.by_layer) do
    rows[l] = { l - 1 }
    for i, name in ipairs(M.columns) do rows[l][i + 1] = layer[name] end
  end
  run:csv("kurtosis.csv", { "layer", table.unpack(M.columns) }, rows)
  rows = {}
  for _, d in ipairs(results.int8_outliers) do rows[#rows + 1] = { "llm.int8", d.dim, d.layers, d.positions } end
  for _, d in ipairs(results.median_outliers.dims) do rows[#rows + 1] = { "median in top 1 %", d.dim, nil, nil, d.median } end
  run:csv("outlier_dims.csv", { "rule", "dim", "layers", "positions", "median" }, rows)
end

-- One panel; what is not above 0 has no place on a log scale.
local function panel(title, layers, lines)
  local fig = require("massact.plot").figure { title = title, y_scale = "log", integers = true }
  for _, line in ipairs(lines) do
    local x, y = {}, {}
    for l, layer in ipairs(layers) do
      local value = layer[line[1]]
      x[l], y[l] = l - 1, value > 0 and value or 0 / 0
    end
    fig:line { x = x, y = y, label = line[2], color = line[3], marker = true }
  end
  return fig:hline { y = 3, color = "gray", style = "dashed" } -- of normal numbers
end

---The kurtoses by layer, with the first token and without it.
---@return massact.Grid
function M.figure(results)
  local neuron, mean = "neuron-RMS kurtosis", "excess kurtosis of mean activation"
  return require("massact.plot").grid({
    panel("All tokens", results.by_layer, { { "token_first", "token kurtosis, first token", "red" }, { "token_rest", "token kurtosis, the rest", "blue" },
      { "neuron_rms", neuron, "green" }, { "mean_activation", mean, "orange" } }),
    panel("Without the first", results.by_layer, { { "token_rest", "token kurtosis, the rest", "blue" }, { "neuron_rms_rest", neuron, "green" },
      { "mean_activation_rest", mean, "orange" } }),
  }, { columns = 2, title = results.model, x_label = "Layer Number", y_label = "Kurtosis", share_y = true, legend = "shared" })
end

return M
