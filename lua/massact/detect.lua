-- Which layers, tokens and dims are massive: the paper's per-sequence criterion (Owen et al. 2025, section 3:
-- |a| > 100 and |a| > 1000 x the median |a| of the layer's output) and what its tokens_analysis gathers.
local core = require "massact.core"
local keyed = require "massact.keyed"
local places = require "massact.place"

local M = {}

M.criterion = { above = 100, ratio = 1000 }
M.batch = 2 -- sequences a pass: enough for the matrix products, little memory

M.sorted = keyed.keys

---@class massact.Massive what one layer of one sequence has
---@field layer integer
---@field positions integer[]
---@field dims integer[]
---@field entries {value: number, position: integer, dim: integer}[]

---@class massact.Sequence what was found in one sequence
---@field first? integer lowest massive layer
---@field layers massact.Massive[] the massive ones, ascending
---@field max number[] by layer, from 1
---@field median number[] by layer, from 1
---@field overflow? integer lowest layer whose output is not finite (looked for in f16, which ends at 65504)

---Probes every layer, at its output or at another place.
---@param model massact.Model
---@param place? massact.Place
---@return massact.Handle
function M.probe(model, place)
  local wanted = { "max", "median", model.dtype == "f16" and "nonfinite" or nil }
  return model:point((place or places.output).pattern):probe(wanted, { entries = M.criterion })
end

---What the probe saw of sequence `b` (from 1) of the last pass.
---@return massact.Sequence
function M.read(model, probe, b, place)
  local found = { layers = {}, max = {}, median = {} }
  for layer = 0, model.n_layers - 1 do
    local seen = probe[places.name(place or places.output, layer)][b]
    found.max[layer + 1], found.median[layer + 1] = seen.max, seen.median
    if (seen.nonfinite or 0) > 0 then found.overflow = found.overflow or layer end
    if #seen.entries > 0 then
      local positions, dims = {}, {}
      for _, e in ipairs(seen.entries) do positions[e.position], dims[e.dim] = true, true end
      found.layers[#found.layers + 1] =
        { layer = layer, positions = keyed.keys(positions), dims = keyed.keys(dims), entries = seen.entries }
    end
  end
  found.first = found.layers[1] and found.layers[1].layer
  return found
end

---Positions that are massive in some layer of a sequence, ascending.
---@param sequence massact.Sequence
---@return integer[]
function M.positions(sequence)
  local set = {}
  for _, massive in ipairs(sequence.layers) do for _, p in ipairs(massive.positions) do set[p] = true end end
  return keyed.keys(set)
end

---Sequences a pass that make about 1024 tokens: with short windows, weights are widened for many tokens at once.
---@param windows integer[][] of equal length
---@return integer
function M.batch_of(windows) return math.max(M.batch, 1024 // #windows[1]) end

---@class massact.Batches
---@field label string of the progress line, and in the journal
---@field journal? massact.Journal where finished batches are kept, and taken from
---@field place? massact.Place where to look; nil: the layers' outputs
---@field batch? integer sequences a pass (2)

---Gathers what `compute(batch, first)` gives for batches of windows, with progress.
---@param windows integer[][]
---@param how massact.Batches
---@param compute fun(batch: integer[][], first: integer): table
---@return table[] one a batch
function M.batches(windows, how, compute)
  local progress <close> = core.system.progress(how.label, #windows)
  local results, size = {}, how.batch or M.batch
  for first = 1, #windows, size do
    local last = math.min(first + size - 1, #windows)
    local function work() return compute(table.move(windows, first, last, 1, {}), first) end
    results[#results + 1] = how.journal and how.journal:step(how.label .. " " .. first, work) or work()
    progress:update(last)
  end
  return results
end

---What is massive in each of the windows.
---@param model massact.Model
---@param windows integer[][]
---@param how? massact.Batches
---@return massact.Sequence[]
function M.sequences(model, windows, how)
  how = how or { label = "detection" }
  local place = how.place or places.output
  local probe <close> = M.probe(model, place)
  local stop_at, found = places.name(place, model.n_layers - 1), {}
  for _, batch in ipairs(M.batches(windows, how, function(batch)
    local seen = {}
    model:forward(batch, { stop_at = stop_at })
    for b = 1, #batch do seen[b] = M.read(model, probe, b, place) end
    return seen
  end)) do table.move(batch, 1, #batch, #found + 1, found) end
  return found
end

-- ---- tokens_analysis ----

local function add(sums, position, dim, value)
  local by_dim = sums[position] or {}
  sums[position] = by_dim
  local s = by_dim[dim] or { n = 0, sum = 0, squares = 0 }
  by_dim[dim] = s
  s.n, s.sum, s.squares = s.n + 1, s.sum + value, s.squares + value * value
end

-- Sums into mean and population standard deviation.
local function averages(sums)
  local out = {}
  for position, by_dim in pairs(sums) do
    out[position] = {}
    for dim, s in pairs(by_dim) do
      local mean = s.sum / s.n
      out[position][dim] = { avg = mean, std = math.sqrt(math.max(0, s.squares / s.n - mean * mean)), n = s.n }
    end
  end
  return out
end

local function layer_of(sequence, layer)
  for _, massive in ipairs(sequence.layers) do
    if massive.layer == layer then return massive end
  end
end

---@class massact.Found
---@field first_layer? integer lowest massive layer over the sequences; nil: there are none
---@field dims integer[]
---@field magnitude table position -> dim -> {avg, std, n} of |a| at the lowest first layer seen so far
---@field magnitude_at_final table the same, every sequence at `first_layer`
---@field tokens table position -> list of token ids

---The paper's tokens_analysis over sequences: the first layer, the dims (those of the first massive sequence's
---first layer, then of all massive layers of the later ones), magnitudes and tokens by position.
---@param sequences massact.Sequence[]
---@param windows integer[][]
---@return massact.Found
function M.summarise(sequences, windows)
  local first, dims, sums, final_sums, tokens = nil, {}, {}, {}, {}
  for i, s in ipairs(sequences) do
    if s.first then
      local was_first = first == nil
      first = math.min(first or s.first, s.first)
      for _, massive in ipairs(s.layers) do
        if not was_first or massive.layer == s.first then
          for _, d in ipairs(massive.dims) do dims[d] = true end
        end
      end
      local here = layer_of(s, first)
      for _, e in ipairs(here and here.entries or {}) do add(sums, e.position, e.dim, math.abs(e.value)) end
      for _, p in ipairs(s.layers[1].positions) do
        tokens[p] = tokens[p] or {}
        tokens[p][windows[i][p + 1]] = true
      end
    end
  end
  for _, s in ipairs(sequences) do
    local here = first and layer_of(s, first)
    for _, e in ipairs(here and here.entries or {}) do add(final_sums, e.position, e.dim, math.abs(e.value)) end
  end
  for position, set in pairs(tokens) do tokens[position] = keyed.keys(set) end
  return { first_layer = first, dims = keyed.keys(dims), magnitude = averages(sums),
    magnitude_at_final = averages(final_sums), tokens = tokens }
end

---What is massive in a model: tokens_analysis over windows.
---@param model massact.Model
---@param windows integer[][]
---@param how? massact.Batches
---@return massact.Found, massact.Sequence[]
function M.detect(model, windows, how)
  local sequences = M.sequences(model, windows, how)
  return M.summarise(sequences, windows), sequences
end

---Signed means of the found dims over massive positions, by the sequences' own first layer and apart for the
---starting token (position 0) and the others.
---@param sequences massact.Sequence[]
---@param dims integer[]
---@return table means layer -> {starting = {dim -> mean}, nonstarting = {dim -> mean}}
function M.means(sequences, dims)
  local wanted, sums = {}, {}
  for _, d in ipairs(dims) do wanted[d] = true end
  for _, s in ipairs(sequences) do
    if s.first then
      local of_layer = sums[s.first] or { starting = {}, nonstarting = {} }
      sums[s.first] = of_layer
      for _, e in ipairs(s.layers[1].entries) do
        if wanted[e.dim] then add(of_layer, e.position == 0 and "starting" or "nonstarting", e.dim, e.value) end
      end
    end
  end
  local means = {}
  for layer, kinds in pairs(sums) do
    means[layer] = {}
    for kind, by_dim in pairs(kinds) do
      means[layer][kind] = {}
      for dim, s in pairs(by_dim) do means[layer][kind][dim] = s.sum / s.n end
    end
  end
  return means
end

return M
