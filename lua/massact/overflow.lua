-- What a pass in f16 could not hold: the largest magnitude at each layer and point beside 65504, and how many elements would become
-- infinite.  Measured in f32, where they are what they are.
local core = require "massact.core"
local detect = require "massact.detect"
local options = require "massact.options"
local statistics = require "massact.statistics"
local token_text = require "massact.token_text"

local M = {}

-- Where f16 models store something; a model has those that its layers have.
M.points = { "mid", "out", "attn.q_rot", "attn.k_rot", "attn.scores", "attn.proj", "mlp.up", "mlp.act", "mlp.proj" }

-- ---- one pass ----

---@class massact.Largest at one layer and point
---@field value? number the largest magnitude, with its sign (of scores: the largest that no mask hides); nil where it is not finite
---@field position integer of the token (of scores: of the query)
---@field dim integer the last index (of scores: the key's column)
---@field over_f16 integer elements that are finite and would be infinite in f16
---@field nonfinite integer elements that are infinite or NaN as it is

-- A magnitude to compare: what is not finite is the largest.
local function magnitude(value) return value and value == value and math.abs(value) or math.huge end

local function finite(value) return magnitude(value) < math.huge and value or nil end

-- Scores of one sequence [H, T, S], a head at a time: hidden ones are -inf and count as nothing.
local function of_scores(x)
  local found, most = { position = 0, dim = 0, over_f16 = 0, nonfinite = 0 }, -1
  for h = 0, x:size(0) - 1 do
    local shown = x[h]:eq(-math.huge):where(0, x[h])
    local magnitudes = shown:abs()
    local largest = magnitude(magnitudes:max():item())
    if largest > most then
      local flat = magnitudes:argmax():item()
      most, found.position, found.dim = largest, flat // x:size(-1), flat % x:size(-1)
      found.value = finite(shown:get(found.position, found.dim))
    end
    if largest >= statistics.f16.overflows then
      found.over_f16 = found.over_f16 + statistics.overflows_f16(shown)
      found.nonfinite = found.nonfinite + shown:isfinite():eq(0):sum():item()
    end
  end
  return found
end

local function of_probe(seen)
  local top = seen.top[1] or { position = 0, dim = 0 } -- nothing but NaN has no top
  return { value = finite(top.value), position = top.position, dim = top.dim, over_f16 = math.tointeger(seen.over_f16),
    nonfinite = math.tointeger(seen.nonfinite) }
end

-- Which of the points the layers have; one that was asked for by name has to be there.
local function points_of(model, wanted)
  local points = {}
  for _, point in ipairs(wanted or M.points) do
    local found, names = pcall(function() return model:point("layers.*." .. point):names() end)
    if found and #names == model.n_layers then
      points[#points + 1] = point
    elseif wanted then
      options.usage_error("--points %s: the layers of %s have no such point; massact info lists them", point, model.name)
    end
  end
  return points
end

---What each window shows: by name ("layers.3.mlp.act").
---@param model massact.Model
---@param windows integer[][]
---@param points string[]
---@param how massact.Batches
---@return table<string, massact.Largest>[]
function M.windows(model, windows, points, how)
  local names, scores, plain = {}, {}, {}
  for _, point in ipairs(points) do if point ~= "attn.scores" then plain[#plain + 1] = point end end
  for l = 0, model.n_layers - 1 do
    for _, point in ipairs(points) do names[#names + 1] = ("layers.%d.%s"):format(l, point) end
  end
  local probe <close> = #plain > 0 and model:point(("layers.*.{%s}"):format(table.concat(plain, ","))):probe { "top1", "over_f16", "nonfinite" } or nil
  local hook <close> = #plain < #points and model:point "layers.*.attn.scores":hook(function(x, at)
    scores[at.name] = {}
    for b = 0, x:size(0) - 1 do scores[at.name][b + 1] = of_scores(x[b]) end
  end) or nil
  local found = {}
  for _, batch in ipairs(detect.batches(windows, how, function(batch)
    local seen = {}
    model:forward(batch, { stop_at = ("layers.%d.out"):format(model.n_layers - 1) })
    for b = 1, #batch do
      seen[b] = {}
      for _, name in ipairs(names) do seen[b][name] = scores[name] and scores[name][b] or of_probe(probe[name][b]) end
    end
    return seen
  end)) do table.move(batch, 1, #batch, #found + 1, found) end
  return found
end

-- ---- all windows ----

-- The largest of a place over the windows, and the counts of all.
local function over_windows(found, name, token_at)
  local most, over_f16, nonfinite = nil, 0, 0
  for w, seen in ipairs(found) do
    local here = seen[name]
    over_f16, nonfinite = over_f16 + here.over_f16, nonfinite + here.nonfinite
    if not most or magnitude(here.value) > magnitude(most.value) then
      most = { value = here.value, position = here.position, dim = here.dim, window = w - 1 }
    end
  end
  most.over_f16, most.nonfinite = over_f16, nonfinite
  most.share = most.value and math.abs(most.value) / statistics.f16.largest
  most.id, most.token = token_at(most.window + 1, most.position)
  return most
end

---The largest over all windows, with its token; elements counted over all.
---@param run massact.Run
---@param windows integer[][]
---@param wanted? string[] points by name; nil: M.points, those that there are
---@return table {points, windows, by_point = {[point] = Largest[] by layer from 1}}
function M.measure(run, windows, wanted)
  local model, by_point = run.model, {}
  local points = points_of(model, wanted)
  local found = M.windows(model, windows, points, { label = "f16", journal = run.journal })
  for _, point in ipairs(points) do
    by_point[point] = {}
    for l = 1, model.n_layers do
      local name = ("layers.%d.%s"):format(l - 1, point)
      by_point[point][l] = over_windows(found, name, function(w, position)
        local id = windows[w][position + 1]
        return id, token_text.text(model.tokenizer, id)
      end)
    end
  end
  return { points = core.json.array(points), windows = #windows, by_point = by_point }
end

-- ---- what is said and drawn ----

-- The layer (from 0) where a point's share is largest; NaN and infinities first.
local function worst(of_layers)
  local best = 1
  for l, here in ipairs(of_layers) do
    if of_layers[best].share and (not here.share or here.share > of_layers[best].share) then best = l end
  end
  return of_layers[best], best - 1
end

---What the user reads.
---@param run massact.Run
---@param results table
function M.report(run, results)
  run:say("largest magnitudes over %d windows of %d tokens, and their share of f16's range (%d):", results.windows,
    results.options.context_length, statistics.f16.largest)
  local over = 0
  for _, point in ipairs(results.points) do
    local here, layer = worst(results.by_point[point])
    local value = here.share and ("%.5g, %.3g %%"):format(here.value, 100 * here.share) or "not finite"
    run:say("  %-12s %s at layer %d, position %d (%s), dim %d", point, value, layer, here.position,
      require("massact.paper").quoted({ here.token }):sub(2, -2), here.dim)
    for l, of_layer in ipairs(results.by_point[point]) do
      if of_layer.over_f16 + of_layer.nonfinite > 0 then
        over = over + 1
        run:say("    layer %d: %d elements would overflow%s", l - 1, of_layer.over_f16,
          of_layer.nonfinite > 0 and (", %d are not finite as it is"):format(of_layer.nonfinite) or "")
      end
    end
  end
  if over == 0 then run:say("nothing would overflow") end
end

---The table behind the picture.
---@param run massact.Run
---@param results table
function M.write(run, results)
  local rows = {}
  for _, point in ipairs(results.points) do
    for l, here in ipairs(results.by_point[point]) do
      rows[#rows + 1] = { l - 1, point, here.value, here.share, here.over_f16, here.nonfinite, here.window, here.position, here.id, here.token, here.dim }
    end
  end
  run:csv("overflow.csv", { "layer", "point", "largest", "share_of_f16", "over_f16", "nonfinite", "window", "position", "id", "token", "dim" }, rows)
end

---Share of f16's range, point by point and layer by layer; masked where nothing is finite.
---@return massact.Figure
function M.shares_figure(results)
  local values, layers = {}, {}
  for l = 1, results.n_layers do layers[l] = l - 1 end
  for i, point in ipairs(results.points) do
    values[i] = {}
    for l, here in ipairs(results.by_point[point]) do values[i][l] = here.share and here.share > 0 and here.share or 0 / 0 end
  end
  local fig = require("massact.plot").figure { title = results.model, x_label = "Layer Number" }
  return fig:heatmap { values = values, x_labels = layers, y_labels = results.points, scale = "log", square = false,
    colorbar = ("Largest magnitude / %d"):format(statistics.f16.largest) }
end

---Largest magnitude by layer, a line a point, under f16's limit.
---@return massact.Figure
function M.figure(results)
  local fig = require("massact.plot").figure { title = results.model, x_label = "Layer Number", y_label = "Largest magnitude", y_scale = "log", integers = true }
  for _, point in ipairs(results.points) do
    local x, y = {}, {}
    for l, here in ipairs(results.by_point[point]) do
      x[l], y[l] = l - 1, here.share and here.share > 0 and math.abs(here.value) or 0 / 0
    end
    fig:line { x = x, y = y, label = point, marker = true }
  end
  return fig:hline { y = statistics.f16.largest, label = "f16", color = "red", style = "dashed" }
end

return M
