-- Perplexity as the paper computes it, with and without interventions, in one pass a window: detection and the
-- original loss come out of it, each intervention resumes from the saved hidden state.
local detect = require "massact.detect"
local places = require "massact.place"
local protocol = require "massact.protocol"

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

-- Mean loss of the predictions that count in sequence `b` (from 1), and how many they are.
local function scored_loss(model, out, b, window)
  local n = #window.ids - window.first
  local sum = n > 0 and out.token_losses[b - 1]:narrow(0, window.first - 1, n):mean():item() * n or 0
  if window.target then
    -- The prediction behind the window's last token: from what enters the head there.
    local last = out["final.norm"]:narrow(0, b - 1, 1):narrow(1, #window.ids - 1, 1)
    local logits = model:forward({ window.ids[#window.ids] }, { logits = true, start_at = { point = "final.norm", value = last } }).logits
    sum, n = sum - logits[0]:log_softmax():get(0, window.target), n + 1
  end
  return { loss = sum / n, n = n }
end

---@class massact.Perplexity
---@field perplexity number exp of the mean over predictions
---@field protocol string
---@field n_scored integer predictions
---@field n_windows integer
---@field context_length integer
---@field bos? integer the token at the front; nil: none
---@field losses number[] by window
---@field first_ids integer[] at most 16 of the first window
---@field word_perplexity? number of lm-eval, where a whole text was given
---@field byte_perplexity? number

---Perplexity of a text by a protocol (see massact.protocol); patches and hooks on the model's points count.
---@param model massact.Model
---@param text string|integer[] or its token ids
---@param options {protocol?: string, context_length?: integer, bos?: boolean|"force", windows?: integer, journal?: massact.Journal, label?: string}
---`paper` by default, the model's limit, what the protocol does, all
---@return massact.Perplexity
function M.of_text(model, text, options)
  local o = options or {}
  local name, length = o.protocol or "paper", o.context_length or math.min(4096, model.max_positions)
  local ids = type(text) == "table" and text or model.tokenizer:encode(text)
  local windows, bos = protocol.windows(model.tokenizer, ids, { protocol = name, length = length, bos = o.bos, limit = o.windows })
  local how = { label = o.label or "perplexity, " .. name, journal = o.journal }
  local sum, n, losses = 0, 0, {}
  for _, batch in ipairs(detect.batches(windows, how, function(batch)
    local inputs, seen = {}, {}
    for b, window in ipairs(batch) do inputs[b] = window.ids end
    local out = model:forward(inputs, { token_losses = true, capture = batch[1].target and { "final.norm" } or nil })
    for b, window in ipairs(batch) do seen[b] = scored_loss(model, out, b, window) end
    return seen
  end)) do
    for _, window in ipairs(batch) do
      sum, n, losses[#losses + 1] = sum + window.loss * window.n, n + window.n, window.loss
    end
  end
  local result = { perplexity = math.exp(sum / n), protocol = name, n_scored = n, n_windows = #windows, context_length = length,
    bos = bos, losses = losses, first_ids = table.move(windows[1].ids, 1, math.min(16, #windows[1].ids), 1, {}) }
  if name == "lm-eval" and type(text) == "string" and (o.windows or 0) == 0 then
    result.n_words, result.n_bytes = protocol.n_words(text), #text
    result.word_perplexity, result.byte_perplexity = math.exp(sum / result.n_words), math.exp(sum / result.n_bytes)
  end
  return result
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
