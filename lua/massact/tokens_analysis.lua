-- The paper's tokens_analysis as a file and as results: which layers, tokens and dims are massive in each window, and how
-- large they are (Owen et al. 2025, section 3).
local core = require "massact.core"
local detect = require "massact.detect"
local keyed = require "massact.keyed"
local paper = require "massact.paper"
local token_text = require "massact.token_text"

local M = {}

---Looks at windows; finished batches are kept in the run's journal.
---@param run massact.Run
---@param windows integer[][]
---@return massact.Found, massact.Sequence[]
function M.find(run, windows)
  return detect.detect(run.model, windows, { label = "detection", place = run.place, journal = run.journal })
end

-- ---- the paper's file ----

local function put_magnitudes(put, magnitude)
  for _, position in ipairs(keyed.keys(magnitude)) do
    for _, dim in ipairs(keyed.keys(magnitude[position])) do
      local m = magnitude[position][dim]
      put("  position %d, dim %d: average %.4f, std %.4f, samples %d", position, dim, m.avg, m.std, m.n)
    end
  end
end

---verify_massive_activations_location_and_magnitude_and_tokens.txt
---@param run massact.Run
---@param found massact.Found
---@param sequences massact.Sequence[]
---@param windows integer[][]
function M.write(run, found, sequences, windows)
  local lines, tokenizer = {}, run.model.tokenizer
  local function put(format, ...) lines[#lines + 1] = format:format(...) end
  for i, s in ipairs(sequences) do
    put("Sample %d", i - 1)
    for _, massive in ipairs(s.layers) do
      local ids = {}
      for k, p in ipairs(massive.positions) do ids[k] = windows[i][p + 1] end
      put("  Layer %d: positions %s, tokens %s, dims %s", massive.layer, paper.list(massive.positions),
        paper.quoted(token_text.list(tokenizer, ids)), paper.list(massive.dims))
      for _, e in ipairs(massive.entries) do put("    position %d, dim %d: %.4f", e.position, e.dim, math.abs(e.value)) end
    end
    if #s.layers == 0 then put("  none") end
  end
  put("")
  put("Summary")
  put("First layer: %s", found.first_layer or "none")
  put("Dims: %s", paper.list(found.dims))
  put("Magnitude at the lowest first layer seen so far:")
  put_magnitudes(put, found.magnitude)
  put("Magnitude at the first layer:")
  put_magnitudes(put, found.magnitude_at_final)
  put("Tokens by position:")
  for _, position in ipairs(keyed.keys(found.tokens)) do
    put("  position %d: %s", position, paper.quoted(token_text.list(tokenizer, found.tokens[position])))
  end
  put("")
  run:write("verify_massive_activations_location_and_magnitude_and_tokens.txt", table.concat(lines, "\n"))
end

-- ---- results ----

---A table whose number keys are text, as JSON wants them.
function M.with_text_keys(t)
  if type(t) ~= "table" then return t end
  local out = {}
  for key, value in pairs(t) do out[type(key) == "number" and tostring(key) or key] = M.with_text_keys(value) end
  return out
end

---A list that JSON writes as one even where it is empty.
function M.array(values) return core.json.array(table.move(values, 1, #values, 1, {})) end

-- Means over sequences of each layer's largest and median magnitude.
local function by_layer(sequences)
  local max, median, n = core.json.array(), core.json.array(), #sequences
  for _, s in ipairs(sequences) do
    for l = 1, #s.max do
      max[l] = (max[l] or 0) + s.max[l] / n
      median[l] = (median[l] or 0) + s.median[l] / n
    end
  end
  return { max = max, median = median }
end

-- Each window's massive layers, with positions, dims and signed values.
local function by_window(sequences)
  local windows = core.json.array()
  for i, s in ipairs(sequences) do
    windows[i] = core.json.array()
    for l, at in ipairs(s.layers) do
      windows[i][l] = { layer = at.layer, positions = at.positions, dims = at.dims, entries = at.entries }
    end
  end
  return windows
end

---@param run massact.Run
---@param found massact.Found
---@param sequences massact.Sequence[]
---@return table results first_layer, dims, magnitudes and tokens by position, magnitude_by_layer, by_window
function M.results(run, found, sequences)
  local tokens, ids = {}, {}
  for position, list in pairs(found.tokens) do
    tokens[tostring(position)] = core.json.array()
    for i, id in ipairs(list) do tokens[tostring(position)][i] = run.model.tokenizer:decode { id } end
    ids[tostring(position)] = M.array(list)
  end
  return {
    first_layer = found.first_layer or core.json.null, dims = M.array(found.dims), calibration_windows = #sequences,
    magnitude_at_first_layer = M.with_text_keys(found.magnitude),
    magnitude_at_final_first_layer = M.with_text_keys(found.magnitude_at_final),
    tokens = tokens, token_ids = ids, magnitude_by_layer = by_layer(sequences), by_window = by_window(sequences),
  }
end

-- ---- the picture ----

---Largest and median magnitude by layer, as the paper draws them.
---@param title string
---@param max number[] by layer
---@param median number[]
---@return massact.Figure
function M.figure(title, max, median)
  local layers = {}
  for l = 1, #max do layers[l] = l - 1 end
  local fig = require("massact.plot").figure { title = title, x_label = "Layer Number", y_label = "Activation Magnitude", integers = true }
  fig:line { x = layers, y = max, label = "top-1 hidden states", color = "blue", marker = true }
  return fig:line { x = layers, y = median, label = "median hidden states", color = "gray", marker = true }
end

---What the user reads.
---@param run massact.Run
---@param results table
function M.report(run, results)
  if results.first_layer ~= core.json.null then
    run:say("massive activations from layer %d on, in dims %s", results.first_layer, table.concat(results.dims, ", "))
  else
    run:say("no massive activations in the %d calibration windows", results.calibration_windows)
  end
end

return M
