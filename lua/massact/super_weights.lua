-- Super weights (Yu et al. 2024, arXiv 2411.07191): single weights of a down projection whose product with one huge input makes
-- the massive activation.  Section 3.1's detector needs one pass: where a layer's down projection has its largest |input| and
-- its largest |output|, the weight is at row = dim of the output, column = dim of the input.
local core = require "massact.core"
local perplexity = require "massact.perplexity"

local M = {}

---@class massact.SuperWeight a candidate: of each layer there is one
---@field layer integer
---@field row integer dim of the largest output
---@field column integer dim of the largest input
---@field input number the largest input, with its sign
---@field output number the largest output
---@field position integer where in the sequence the output is largest
---@field input_position integer where the input is
---@field weight number
---@field share number weight x input over output: the part of the spike that this one weight makes; 0 where they are not at one position

---The slot of the weight.
---@param candidate {layer: integer}
---@return string
function M.slot(candidate) return ("layers.%d.mlp.proj.weight"):format(candidate.layer) end

---Every layer's candidate, those first whose single weight contributes most (|weight x input| at the position of the output).
---Fails for models with experts, whose tokens part inside.
---@param model massact.Model
---@param ids integer[] a sentence
---@return massact.SuperWeight[] sorted
---@return massact.SuperWeight[] by_layer
function M.find(model, ids)
  local probe <close> = model:point("layers.*.{mlp.act,mlp.proj}"):probe { "top1" }
  model:forward(ids, { stop_at = ("layers.%d.out"):format(model.n_layers - 1) })
  local by_layer, sorted = {}, {}
  for l = 0, model.n_layers - 1 do
    local seen = probe[("layers.%d.mlp.act"):format(l)]
    if not seen then error("experts have no single down projection: " .. model.name .. " cannot be searched for super weights", 0) end
    local input, output = seen[1].top[1], probe[("layers.%d.mlp.proj"):format(l)][1].top[1]
    local found = { layer = l, row = output.dim, column = input.dim, input = input.value, output = output.value,
      position = output.position, input_position = input.position }
    found.weight = model:weight(M.slot(found)):float():get(found.row, found.column)
    local meets = input.position == output.position and output.value ~= 0
    found.share = meets and found.weight * input.value / output.value or 0
    by_layer[l + 1], sorted[l + 1] = found, found
  end
  table.sort(sorted, function(a, b) return math.abs(a.share * a.output) > math.abs(b.share * b.output) end)
  return sorted, by_layer
end

-- ---- the controls ----

---A random one of the weights elsewhere in the matrix, in no row or column of the candidate, that come nearest to its magnitude.
---@param w massact.Tensor [out, in]
---@param candidate massact.SuperWeight
---@param seed integer
---@param among? integer 16
---@return {row: integer, column: integer, weight: number}
function M.control(w, candidate, seed, among)
  local nearness = (w:abs() - math.abs(candidate.weight)):abs():neg()
  nearness[candidate.row]:fill_(-math.huge)
  nearness:select(1, candidate.column):fill_(-math.huge)
  local n = math.min(among or 16, (w:size(0) - 1) * (w:size(1) - 1))
  local _, nearest = nearness:reshape(-1):topk(n)
  local drawn = math.floor(core.tensor.random({ 1 }, "f32", "cpu", "uniform", seed + candidate.layer):item() * n)
  local at = nearest:get(math.min(drawn, n - 1))
  local row, column = at // w:size(1), at % w:size(1)
  return { row = row, column = column, weight = w:get(row, column) }
end

---What a candidate is tested by, each an edit of one weight: zero, the mean of its row, and zero for a control elsewhere.
---@param model massact.Model
---@param candidate massact.SuperWeight
---@param seed integer
---@return {name: string, row: integer, column: integer, was: number, to: number}[]
function M.triple(model, candidate, seed)
  local w = model:weight(M.slot(candidate)):float()
  local control = M.control(w, candidate, seed)
  return {
    { name = "zero", row = candidate.row, column = candidate.column, was = candidate.weight, to = 0 },
    { name = "row_mean", row = candidate.row, column = candidate.column, was = candidate.weight, to = w[candidate.row]:mean():item() },
    { name = "control", row = control.row, column = control.column, was = control.weight, to = 0 },
  }
end

---Perplexity of texts under each edit of each candidate.
---@param run massact.Run
---@param candidates massact.SuperWeight[] each gets `edits`, with `perplexity` by text
---@param texts massact.Text[]
---@return table<string, number> original by text
function M.test(run, candidates, texts)
  local model = run.model
  local function score(label)
    local by_text = {}
    for _, text in ipairs(texts) do
      by_text[text.name] = run.journal:step(("%s, %s"):format(text.name, label), function()
        return { (perplexity.perplexity(model, text.windows)) }
      end)[1]
    end
    return by_text
  end
  local original = score "original"
  for _, candidate in ipairs(candidates) do
    candidate.edits = M.triple(model, candidate, run.options.seed)
    for _, e in ipairs(candidate.edits) do
      local edit <close> = model:edit(M.slot(candidate), function(w) w:set(e.row, e.column, e.to) end)
      e.perplexity = score(("layer %d, %s"):format(candidate.layer, e.name))
    end
  end
  return original
end

-- ---- what is drawn ----

---Largest input and output of each layer's down projection (Yu et al., figure 3).
---@return massact.Figure
function M.spikes_figure(results)
  local layers, input, output = {}, {}, {}
  for i, found in ipairs(results.by_layer) do
    layers[i], input[i], output[i] = found.layer, math.abs(found.input), math.abs(found.output)
  end
  local fig = require("massact.plot").figure { title = results.model, x_label = "Layer Number", y_label = "Largest |activation|", y_scale = "log",
    integers = true }
  fig:line { x = layers, y = input, label = "input of the down projection", color = "orange", marker = true }
  return fig:line { x = layers, y = output, label = "output of the down projection", color = "blue", marker = true }
end

---Perplexity of the first text as it is and under each candidate's edits.
---@return massact.Figure
function M.figure(results)
  local name, labels, least, most = results.text_names[1], { "original" }, math.huge, 0
  local groups = {}
  local function add(at, label, values)
    groups[at] = { label = label, values = values }
    for _, value in pairs(values) do if value == value then least, most = math.min(least, value), math.max(most, value) end end
  end
  for k, edit in ipairs { "set to zero", "set to the mean of its row", "control set to zero" } do
    local values = { k == 1 and results.original[name] or 0 / 0 }
    for i, candidate in ipairs(results.candidates) do
      labels[i + 1] = ("layer %d [%d, %d]"):format(candidate.layer, candidate.row, candidate.column)
      local value = candidate.edits[k].perplexity[name]
      values[i + 1] = type(value) == "number" and value or 0 / 0
    end
    add(k, edit, values)
  end
  local fig = require("massact.plot").figure { title = results.model .. ", " .. name, y_label = "Perplexity",
    width = math.max(8, 2 * #labels), y_scale = most > 10 * least and "log" or "linear" }
  return fig:bars { labels = labels, groups = groups }
end

return M
