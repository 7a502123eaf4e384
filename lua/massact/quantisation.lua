-- What 8-bit inference would do to a model, simulated: weights and the inputs of the layers' linear maps are rounded to whole
-- multiples of one scale per tensor, symmetric about 0, and computed with in f32.  The scale is the largest magnitude over
-- 127 (absmax), of weights their own, of inputs what calibration windows showed (static) or each sequence's own (dynamic).
-- Scores, norms, embedding and head stay as they are, as in SmoothQuant (Xiao et al. 2023, arXiv 2211.10438).  One activation of
-- thousands leaves the others of its tensor a few levels: Bondarenko et al. 2021, arXiv 2109.12948; Dettmers et al. 2022, arXiv
-- 2208.07339.
local core = require "massact.core"
local detect = require "massact.detect"
local perplexity = require "massact.perplexity"
local token_text = require "massact.token_text"

local M = {}

-- What enters the linear maps of a layer.  Experts see tokens of their own inside, which no point shows.
M.inputs = { "attn.norm", "attn.z", "mlp.norm", "mlp.act" }

---Whole numbers on each side of 0 that so many bits hold, but for the lowest: 127 of 8.
---@param bits integer
---@return integer
function M.levels(bits) return (1 << (bits - 1)) - 1 end

-- ---- weights ----

---The slots of the layers' linear maps.
---@param model massact.Model
---@return string[]
function M.linears(model)
  local slots = {}
  for slot in pairs(model.weights) do
    local name = slot:match "^layers%.%d+%.(.*)%.weight$"
    if name and not name:find "norm" and not name:find "router" then slots[#slots + 1] = slot end
  end
  table.sort(slots)
  return slots
end

---Rounds the weights of the layers' linear maps, each by its own scale, until the edit is closed.
---@param model massact.Model
---@param levels integer
---@return massact.Edit
function M.weights(model, levels)
  return model:edit(M.linears(model), function(w)
    local largest = w:abs():max():item()
    if largest > 0 then w:quantize_(largest / levels, levels) end
  end)
end

-- ---- activations ----

-- Calls f(view, first position) for the runs of positions of x [T, ...] that are not in the ascending list `kept`.
local function each_run(x, kept, f)
  local from, t = 0, x:size(0)
  for i = 1, #kept + 1 do
    local to = kept[i] or t
    if to > from then f(x:narrow(0, from, to - from)) end
    from = to + 1
  end
end

-- The largest magnitude at the positions that are not kept out.
local function largest_of(x, kept)
  local largest = 0
  each_run(x, kept, function(run) largest = math.max(largest, run:max():item(), -run:min():item()) end)
  return largest
end

---@class massact.Quantised how activations are rounded
---@field levels integer
---@field scales? table<string, number> largest magnitude by point; nil: each sequence's own
---@field kept? integer[][] by sequence of the pass, from 1: positions that stay as they are and do not count in a scale

---Rounds what enters the layers' linear maps in every pass, until the handle is removed.
---@param model massact.Model
---@param how massact.Quantised may be changed between passes
---@return massact.Handle
function M.activations(model, how)
  return model:point(("layers.*.{%s}"):format(table.concat(M.inputs, ","))):hook(function(x, at)
    for b = 0, x:size(0) - 1 do
      local kept = how.kept and how.kept[b + 1] or {}
      local largest = how.scales and how.scales[at.name] or largest_of(x[b], kept)
      if largest > 0 then each_run(x[b], kept, function(run) run:quantize_(largest / how.levels, how.levels) end) end
    end
  end)
end

-- ---- calibration ----

---@class massact.Calibrated by point
---@field all table<string, number> largest magnitude
---@field kept_out table<string, number> the same without the massive positions

---The largest magnitude that calibration windows show at each point, with and without their massive positions.
---@param model massact.Model
---@param windows integer[][]
---@param how massact.Batches
---@return massact.Calibrated
function M.calibrate(model, windows, how)
  local probe <close>, by_position = detect.probe(model), nil
  local hook <close> = model:point(("layers.*.{%s}"):format(table.concat(M.inputs, ","))):hook(function(x, at)
    by_position[at.name] = x:reshape(x:size(0), x:size(1), -1):abs():max(-1)
  end)
  local found = { all = {}, kept_out = {} }
  for _, seen in ipairs(detect.batches(windows, how, function(batch)
    by_position = {}
    model:forward(batch, { stop_at = ("layers.%d.out"):format(model.n_layers - 1) })
    local largest = { all = {}, kept_out = {} }
    for b = 1, #batch do
      local kept = detect.positions(detect.read(model, probe, b))
      for name, x in pairs(by_position) do
        largest.all[name] = math.max(largest.all[name] or 0, x[b - 1]:max():item())
        largest.kept_out[name] = math.max(largest.kept_out[name] or 0, largest_of(x[b - 1], kept))
      end
    end
    return largest
  end)) do
    for which, of_point in pairs(seen) do
      for name, value in pairs(of_point) do found[which][name] = math.max(found[which][name] or 0, value) end
    end
  end
  return found
end

-- ---- the comparison ----

-- What is rounded in each case: weights, activations, and whether massive tokens are kept out of the latter.
M.cases = {
  { name = "full" }, { name = "activations", activations = true }, { name = "activations_kept_out", activations = true, keeps = true },
  { name = "weights", weights = true }, { name = "both", weights = true, activations = true },
  { name = "both_kept_out", weights = true, activations = true, keeps = true },
}

---Mean losses of windows in each case.  Massive positions are those of the plain pass.
---@param model massact.Model
---@param windows integer[][]
---@param scales? massact.Calibrated nil: dynamic
---@param levels integer
---@param how massact.Batches
---@return table<string, number[]> losses by case, table positions massive ones by window
function M.losses(model, windows, scales, levels, how)
  local losses, positions = {}, {}
  local function run(case)
    local where = { label = ("%s, %s"):format(how.label, case.name), journal = how.journal }
    local probe <close> = case.name == "full" and detect.probe(model) or nil
    local quantised = { levels = levels, scales = scales and scales[case.keeps and "kept_out" or "all"] }
    local hook <close> = case.activations and M.activations(model, quantised) or nil
    losses[case.name] = {}
    for _, seen in ipairs(detect.batches(windows, where, function(batch, first)
      quantised.kept = case.keeps and table.move(positions, first, first + #batch - 1, 1, {}) or nil
      local out, seen = model:forward(batch, { token_losses = true }), { losses = {}, positions = {} }
      for b = 1, #batch do
        seen.losses[b] = out.token_losses[b - 1]:mean():item()
        seen.positions[b] = probe and detect.positions(detect.read(model, probe, b))
      end
      return seen
    end)) do
      table.move(seen.losses, 1, #seen.losses, #losses[case.name] + 1, losses[case.name])
      if case.name == "full" then table.move(seen.positions, 1, #seen.positions, #positions + 1, positions) end
    end
  end
  for _, case in ipairs(M.cases) do if not case.weights then run(case) end end
  local edit <close> = M.weights(model, levels)
  for _, case in ipairs(M.cases) do if case.weights then run(case) end end
  return losses, positions
end

-- ---- results, and what is drawn from them ----

-- The massive tokens of each window.
local function tokens_of(tokenizer, windows, positions)
  local list = core.json.array()
  for w, of_window in ipairs(positions) do list[w] = core.json.array(token_text.at(tokenizer, windows[w], of_window)) end
  return list
end

---A text in every case.
---@param run massact.Run
---@param text massact.Text
---@param scales? massact.Calibrated
---@param levels integer
---@return table {name, windows, losses, perplexity by case, massive tokens by window}
function M.evaluate(run, text, scales, levels)
  local losses, positions = M.losses(run.model, text.windows, scales, levels, { label = text.name, journal = run.journal })
  local out = { name = text.name, windows = #text.windows, losses = losses, perplexity = {},
    massive = tokens_of(run.model.tokenizer, text.windows, positions) }
  for case, of_windows in pairs(losses) do out.perplexity[case] = perplexity.of_losses(of_windows) end
  return out
end

---Calibrated magnitudes as lists over the layers: {["mlp.act"] = {all, kept_out}}.
---@param model massact.Model
---@param scales massact.Calibrated
function M.by_layer(model, scales)
  local by_input = {}
  for _, input in ipairs(M.inputs) do
    local lists = { all = {}, kept_out = {} }
    for which, list in pairs(lists) do
      for l = 0, model.n_layers - 1 do list[l + 1] = scales[which][("layers.%d.%s"):format(l, input)] end
    end
    if #lists.all > 0 then by_input[input] = lists end
  end
  return by_input
end

---Perplexity of each text in each case.
---@return massact.Figure
function M.figure(results)
  local bits, groups, least, most = results.options.bits, {}, math.huge, 0
  local function group(text, label, names)
    local values = {}
    for i, name in ipairs(names) do
      local value = text.perplexity[name]
      values[i] = type(value) == "number" and value or 0 / 0
      if values[i] == values[i] then least, most = math.min(least, value), math.max(most, value) end
    end
    groups[#groups + 1] = { label = label, values = values }
  end
  for _, text in ipairs(results.texts) do
    group(text, text.name, { "full", "weights", "activations", "both" })
    group(text, text.name .. ", massive tokens kept out", { "", "", "activations_kept_out", "both_kept_out" })
  end
  local fig = require("massact.plot").figure { title = ("%s, int%d"):format(results.model, bits), y_label = "Perplexity",
    y_scale = most > 10 * least and "log" or "linear" }
  return fig:bars { labels = { "f32", "W" .. bits, "A" .. bits, ("W%dA%d"):format(bits, bits) }, groups = groups }
end

---Largest magnitudes that the scales are made of, by layer; dashed: massive tokens kept out.
---@return massact.Figure
function M.scales_figure(results)
  local fig = require("massact.plot").figure { title = results.model, x_label = "Layer Number", y_label = "Largest |input|",
    y_scale = "log", integers = true }
  local colors = { ["attn.norm"] = "green", ["attn.z"] = "gray", ["mlp.norm"] = "orange", ["mlp.act"] = "blue" }
  for _, input in ipairs(M.inputs) do
    local lists, layers = results.scales[input], {}
    for l = 1, lists and #lists.all or 0 do layers[l] = l - 1 end
    if lists then
      fig:line { x = layers, y = lists.all, label = input, color = colors[input], marker = true }
      local label = input == M.inputs[#M.inputs] and "massive kept out" or nil
      fig:line { x = layers, y = lists.kept_out, label = label, color = colors[input], style = "dashed" }
    end
  end
  return fig
end

return M
