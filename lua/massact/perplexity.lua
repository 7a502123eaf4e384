-- Perplexity as the paper computes it, with and without interventions, in one pass a window: detection and the
-- original loss come out of it, each intervention resumes from the saved hidden state.
local detect = require "massact.detect"
local places = require "massact.place"

local M = {}

---exp of the mean over windows of each window's mean loss (all windows have the same length).
---@param losses number[]
---@return number
function M.of_losses(losses)
  local sum = 0
  for _, loss in ipairs(losses) do sum = sum + loss end
  return math.exp(sum / #losses)
end

-- Mean loss of sequence `b` (from 1).
local function window_loss(out, b) return out.token_losses[b - 1]:mean():item() end

-- The entries of several lists, one after the other.
local function join(into, list) return table.move(list or {}, 1, #(list or {}), #into + 1, into) end

---Perplexity of a model on windows; patches and hooks on its points count.
---@param model massact.Model
---@param windows integer[][]
---@return number perplexity, number[] losses one a window
function M.perplexity(model, windows)
  local losses = {}
  for _, batch in ipairs(detect.batches(windows, { label = "perplexity" }, function(batch)
    local out, seen = model:forward(batch, { token_losses = true }), {}
    for b = 1, #batch do seen[b] = window_loss(out, b) end
    return seen
  end)) do join(losses, batch) end
  return M.of_losses(losses), losses
end

---@class massact.Intervention
---@field name string
---@field value fun(position: integer, dim: integer): number? what an entry becomes; nil: it stays

-- The entries that an intervention writes in a batch: {b (from 0), position, dim, value}.
local function edits_of(intervention, sequences, dims)
  local edits = {}
  for b, s in ipairs(sequences) do
    for _, position in ipairs(s.first and s.layers[1].positions or {}) do
      for _, dim in ipairs(dims) do
        local value = intervention.value(position, dim)
        if value then edits[#edits + 1] = { b - 1, position, dim, value } end
      end
    end
  end
  return edits
end

-- Losses of a batch with the edits written at a point; a pass can resume from some points, where `saved` is what was there.
local function losses_with(model, batch, point, edits, saved)
  local handle <close> = model:point(point):hook(function(x)
    for _, e in ipairs(edits) do x:set(e[1], e[2], e[3], e[4]) end
  end)
  return model:forward(batch, { token_losses = true, start_at = saved and { point = point, value = saved } or nil })
end

---Perplexity under each intervention at one layer, at each window's own massive positions.
---@param model massact.Model
---@param windows integer[][]
---@param layer? integer where edits are made; nil: only the original perplexity
---@param dims integer[]
---@param interventions massact.Intervention[]
---@param how massact.Batches
---@return table result {losses = {name -> list}, sequences = massact.Sequence[], log = {name -> resets}}
function M.under(model, windows, layer, dims, interventions, how)
  local place = how.place or places.output
  local probe <close> = detect.probe(model, place)
  local point = layer and places.name(place, layer)
  local resumes = place.point == "in" or place.point == "mid" or place.point == "out"
  local function of_batch(batch, first)
    local out = model:forward(batch, { token_losses = true, capture = point and { point } or nil })
    local seen = { losses = { original = {} }, sequences = {}, log = {} }
    for b = 1, #batch do
      seen.sequences[b] = detect.read(model, probe, b, place)
      seen.losses.original[b] = window_loss(out, b)
    end
    for _, each in ipairs(interventions) do
      local edits, losses, log = edits_of(each, seen.sequences, dims), {}, {}
      local edited = #edits > 0 and losses_with(model, batch, point, edits, resumes and out[point] or nil)
      for b = 1, #batch do losses[b] = edited and window_loss(edited, b) or seen.losses.original[b] end
      for i, e in ipairs(edits) do
        log[i] = { window = first + e[1] - 1, position = e[2], dim = e[3], was = out[point]:get(e[1], e[2], e[3]) }
      end
      seen.losses[each.name], seen.log[each.name] = losses, log
    end
    return seen
  end
  local result = { losses = { original = {} }, sequences = {}, log = {} }
  for _, each in ipairs(interventions) do result.losses[each.name], result.log[each.name] = {}, {} end
  for _, seen in ipairs(detect.batches(windows, how, of_batch)) do
    join(result.sequences, seen.sequences)
    for name, losses in pairs(result.losses) do join(losses, seen.losses[name]) end
    for name, log in pairs(result.log) do join(log, seen.log[name]) end
  end
  return result
end

return M
