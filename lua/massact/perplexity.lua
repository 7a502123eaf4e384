-- Perplexity as the paper computes it, with and without interventions, in one pass a window: detection and the
-- original loss come out of it, each intervention resumes from the saved hidden state.
local detect = require "massact.detect"

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

---Perplexity of a model on windows; patches and hooks on its points count.
---@param model massact.Model
---@param windows integer[][]
---@return number perplexity, number[] losses one a window
function M.perplexity(model, windows)
  local losses = {}
  detect.batches(model, windows, "perplexity", { token_losses = true }, function(first, last, out)
    for i = first, last do losses[i] = window_loss(out, i - first + 1) end
  end)
  return M.of_losses(losses), losses
end

---@class massact.Intervention
---@field name string
---@field value fun(position: integer, dim: integer): number? what an entry becomes; nil: it stays

-- Writes the intervention into the saved hidden states of a batch; returns whether anything changed, and logs.
local function edit(hidden, sequences, intervention, dims, log)
  local edited
  for b, s in ipairs(sequences) do
    for _, position in ipairs(s.found.first and s.found.layers[1].positions or {}) do
      for _, dim in ipairs(dims) do
        local value = intervention.value(position, dim)
        if value then
          edited = edited or hidden:clone()
          log[#log + 1] = { window = s.window, position = position, dim = dim, was = hidden:get(b - 1, position, dim) }
          edited:set(b - 1, position, dim, value)
        end
      end
    end
  end
  return edited
end

---Perplexity under each intervention at the output of one layer, at each window's own massive positions.
---@param model massact.Model
---@param windows integer[][]
---@param layer? integer whose output is edited; nil: only the original perplexity
---@param dims integer[]
---@param interventions massact.Intervention[]
---@param label string for the progress line
---@return table result {losses = {name -> list}, sequences = massact.Sequence[], log = {name -> resets}}
function M.under(model, windows, layer, dims, interventions, label)
  local probe <close> = detect.probe(model)
  local point = layer and ("layers.%d.out"):format(layer)
  local result = { losses = { original = {} }, sequences = {}, log = {} }
  for _, each in ipairs(interventions) do result.losses[each.name], result.log[each.name] = {}, {} end
  detect.batches(model, windows, label, { token_losses = true, capture = point and { point } or nil },
    function(first, last, out)
      local batch, here = table.move(windows, first, last, 1, {}), {}
      for i = first, last do
        local b = i - first + 1
        result.sequences[i] = detect.read(model, probe, b)
        result.losses.original[i] = window_loss(out, b)
        here[b] = { window = i - 1, found = result.sequences[i] }
      end
      for _, each in ipairs(interventions) do
        local edited = edit(out[point], here, each, dims, result.log[each.name])
        local after = edited and model:forward(batch, { token_losses = true, start_at = { point = point, value = edited } })
        for i = first, last do
          result.losses[each.name][i] = after and window_loss(after, i - first + 1) or result.losses.original[i]
        end
      end
    end)
  return result
end

return M
