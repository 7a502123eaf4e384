-- What goes in and out of a layer's parts at the tokens of one sentence: which tokens and dims to look at, a pass that hands over a
-- layer's points together, and the few sizes that the experiments on components share (Sun et al. 2024, arXiv 2402.17762, section 4).
local core = require "massact.core"
local devices = require "massact.device"
local detect = require "massact.detect"
local keyed = require "massact.keyed"
local options = require "massact.options"
local paper = require "massact.paper"
local places = require "massact.place"

local M = {}

-- ---- what to look at ----

---@class massact.Focus the tokens and dims that an experiment shows; saved with its results
---@field sentence massact.Sentence
---@field is_massive boolean false: nothing meets the criterion, and the largest activation stands in
---@field layers integer[] massive layers, from 0
---@field massive massact.Massive[] what each of them has
---@field first_layer integer the lowest of them; without any, the layer of the largest activation
---@field positions integer[] massive tokens, over all massive layers
---@field dims integer[]
---@field ordinary integer[] the other tokens
---@field largest {value: number, layer: integer, position: integer, dim: integer, ratio: number} ratio: to the layer's median

-- The largest activation: of the massive ones, else of all.
local function largest(model, probe, place, massive)
  local most
  local function consider(layer, e, median)
    if most and math.abs(e.value) <= math.abs(most.value) then return end
    most = { value = e.value, layer = layer, position = e.position, dim = e.dim, ratio = math.abs(e.value) / median }
  end
  for layer = 0, model.n_layers - 1 do
    local seen = probe[places.name(place, layer)][1]
    for _, e in ipairs(#massive > 0 and seen.entries or seen.top) do consider(layer, e, seen.median) end
  end
  return most
end

local function array(list) return core.json.array(list) end

---Looks for what is massive in the sentence of the options, at the place that they name.
---@param run massact.Run
---@param of_stream? boolean the dims have to be those of the residual stream
---@return massact.Focus
function M.focus(run, of_stream)
  local model, place, sentence = run.model, run.place, run:sentence()
  if of_stream and not places.is_of_stream(place) then
    options.usage_error("--module_name %s: dims are followed along the residual stream, and these are others", run.options.module_name)
  end
  local probe <close> = model:point(place.pattern):probe({ "max", "median", "top1" }, { entries = detect.criterion })
  model:forward(sentence.ids, { stop_at = places.name(place, model.n_layers - 1) })
  local found = detect.read(model, probe, 1, place)
  local most = largest(model, probe, place, found.layers)
  local layers, positions, dims = array {}, {}, {}
  for i, massive in ipairs(found.layers) do
    layers[i] = massive.layer
    for _, p in ipairs(massive.positions) do positions[p] = true end
    for _, d in ipairs(massive.dims) do dims[d] = true end
  end
  if not found.first then positions[most.position], dims[most.dim] = true, true end
  local ordinary = array {}
  for p = 0, #sentence.ids - 1 do
    if not positions[p] then ordinary[#ordinary + 1] = p end
  end
  return { sentence = sentence, is_massive = found.first ~= nil, layers = layers, massive = array(found.layers),
    first_layer = found.first or most.layer, positions = array(keyed.keys(positions)), dims = array(keyed.keys(dims)),
    ordinary = ordinary, largest = most }
end

-- "1, 2, 5 to 9".
local function ranges(list)
  local parts, from = {}, 1
  for i, n in ipairs(list) do
    if list[i + 1] ~= n + 1 then
      if i - from >= 2 then parts[#parts + 1] = ("%d to %d"):format(list[from], n)
      else parts[#parts + 1] = table.concat(list, ", ", from, i) end
      from = i + 1
    end
  end
  return table.concat(parts, ", ")
end

---Tells the user which tokens and dims are shown, and whether they are massive.
---@param run massact.Run
---@param focus massact.Focus
function M.report(run, focus)
  local tokens, most = {}, focus.largest
  for i, p in ipairs(focus.positions) do tokens[i] = focus.sentence.tokens[p + 1] end
  if focus.is_massive then
    run:say("massive activations in layers %s, at positions %s %s, in dims %s; the largest is %.4g", ranges(focus.layers),
      paper.list(focus.positions), paper.quoted(tokens), table.concat(focus.dims, ", "), most.value)
  else
    run:say("no massive activations in this sentence; its largest activation stands in: %.4g at layer %d, position %d %s, dim %d, %.3g times the median",
      most.value, most.layer, most.position, paper.quoted(tokens), most.dim, most.ratio)
  end
end

---The option --layer, for what is shown of one layer.
M.layer_option = { "integer", help = "which layer the close-up shows; default: where massive activations appear" }

---The layer of the close-up: --layer, else `default`, which may lie one behind the last.
---@param run massact.Run
---@param default integer
---@return integer
function M.close_up(run, default)
  local layer, last = run.options.layer or default, run.model.n_layers - 1
  if run.options.layer and (layer < 0 or layer > last) then
    options.usage_error("--layer %d: %s has layers 0 to %d", layer, run.model.name, last)
  end
  return math.min(layer, last)
end

-- ---- a pass ----

---Runs the sentence and calls `measure(at, layer)` once a layer, with its points' tensors by name, without their batch dim.  Points
---that the model does not have (`mid` of parallel blocks, `mlp.act` of experts) are nil.
---@param model massact.Model
---@param ids integer[]
---@param points string[] inside a layer: "attn.norm"
---@param measure fun(at: table<string, massact.Tensor>, layer: integer): table
---@return table[] what `measure` gave, from layer 0 on
function M.each_layer(model, ids, points, measure)
  local seen, results = {}, array {}
  local hook <close> = model:point(("layers.*.{%s,out}"):format(table.concat(points, ","))):hook(function(x, at)
    local name = at.name:match "^layers%.%d+%.(.*)$"
    seen[name] = x[0]:clone()
    if name ~= "out" then return end
    results[at.layer + 1] = measure(seen, at.layer)
    seen = {}
  end)
  model:forward(ids, { stop_at = ("layers.%d.out"):format(model.n_layers - 1) })
  return results
end

---@class massact.Norm a norm of a layer
---@field name string
---@field into string[] points whose sum goes in
---@field out string the point that comes out

---The norms of a model's layers, in the order of the pass.
---@param model massact.Model
---@return massact.Norm[]
function M.norms(model)
  local s, norms = model.spec, {}
  local function add(name, into, out) norms[#norms + 1] = { name = name, into = into, out = out } end
  local stream = s.parallel and "in" or "mid"
  local before = s.norm_before ~= false
  if before then add(s.shared_norm and "shared norm" or "attention norm", { "in" }, "attn.norm") end
  if s.norm_after then add("norm of the attention's output", { "attn.proj" }, "attn.out") end
  if s.norm_sum then add("norm of the sum with attention", { "in", "attn.out" }, "mid") end
  if before and not s.shared_norm then add("MLP norm", { stream }, "mlp.norm") end
  if s.norm_after then add("norm of the MLP's output", { "mlp.proj" }, "mlp.out") end
  if s.norm_sum then add("norm of the sum with the MLP", { "mid", "mlp.out" }, "out") end
  return norms
end

-- ---- sizes ----

-- [T, all dims of a token]: heads side by side.
local function flat(x) return x:reshape(x:size(0), -1) end

---Some rows of a tensor; nil for none.
---@param x massact.Tensor [T ...]
---@param positions integer[]
---@return massact.Tensor? [n ...]
function M.rows(x, positions)
  if #positions > 0 then return x:gather(0, devices.index(positions, x)) end
end

---How large a point's entries are at some tokens: the largest and the median |x|, and the mean of the tokens' lengths; nil for none.
---@param x massact.Tensor [T ...]
---@param positions integer[]
---@return {max: number, median: number, norm: number}?
function M.size(x, positions)
  local rows = M.rows(x, positions)
  if not rows then return nil end
  rows = flat(rows)
  local magnitude = rows:abs()
  return { max = magnitude:max():item(), median = magnitude:median():item(), norm = rows:norm(1):mean():item() }
end

---The sizes of a point at the massive and at the ordinary tokens; nil where the model has no such point.
---@param x massact.Tensor? [T ...]
---@param focus massact.Focus
---@return {massive: table, ordinary: table?}?
function M.sizes(x, focus)
  return x and { massive = M.size(x, focus.positions), ordinary = M.size(x, focus.ordinary) }
end

---Tokens whose attention is looked at: the ordinary ones behind the first massive one, which can see it.
---@param focus massact.Focus
---@return integer[]
function M.queries(focus)
  local later = array {}
  for _, p in ipairs(focus.ordinary) do
    if p > focus.positions[1] then later[#later + 1] = p end
  end
  return later
end

---@class massact.Received shares of attention, means over heads
---@field tokens number[] by position: what the tokens behind it give it, mean over these; null for the last
---@field massive? {mean: number, low: number, high: number, by_head: number[]} what the queries give to massive tokens together; low and high:
---quartiles of the heads
---@field extra_kv? number what they give to a learned key in front
---@field others? number what they give to all other keys together

---How attention is shared out.
---@param probs massact.Tensor [H T S]
---@param focus massact.Focus
---@param has_extra? boolean the first key is a learned one
---@return massact.Received
function M.received(probs, focus, has_extra)
  local T, first = probs:size(1), has_extra and 1 or 0
  local keys, queries, results = probs:narrow(2, first, T), M.queries(focus), { tokens = array {} }
  for p = 0, T - 1 do
    results.tokens[p + 1] = p < T - 1 and keys:narrow(1, p + 1, T - p - 1):select(2, p):mean():item() or core.json.null
  end
  if #queries == 0 then return results end
  local at_queries = probs:gather(1, devices.index(queries, probs))
  local by_head = at_queries:narrow(2, first, T):gather(2, devices.index(focus.positions, probs)):sum(2):mean(1)
  results.massive = { mean = by_head:mean():item(), low = by_head:quantile(0.25):item(), high = by_head:quantile(0.75):item(),
    by_head = by_head:totable() }
  results.extra_kv = has_extra and at_queries:select(2, 0):mean():item() or nil
  results.others = 1 - results.massive.mean - (results.extra_kv or 0)
  return results
end

-- Mean of what is finite: hidden keys have scores of -inf; nil where nothing is.
local function visible_mean(x)
  local is_visible = x:isfinite():float()
  local n = is_visible:sum():item()
  return n > 0 and is_visible:where(x, 0):sum():item() / n or nil
end

---Mean scores (softmax inputs) that the queries give to massive tokens, to the other tokens and to a learned key in front; nil without queries.
---@param scores massact.Tensor [H T S]
---@param focus massact.Focus
---@param has_extra? boolean the first key is a learned one
---@return {massive: number?, ordinary: number?, extra_kv: number?}?
function M.scores(scores, focus, has_extra)
  local queries, first = M.queries(focus), has_extra and 1 or 0
  if #queries == 0 then return nil end
  local at_queries = scores:gather(1, devices.index(queries, scores))
  local keys = at_queries:narrow(2, first, scores:size(1))
  return { massive = visible_mean(keys:gather(2, devices.index(focus.positions, scores))),
    ordinary = visible_mean(keys:gather(2, devices.index(focus.ordinary, scores))),
    extra_kv = has_extra and visible_mean(at_queries:select(2, 0)) or nil }
end

---What the layer's parts add to each massive entry: in + attention + mlp = out where the residual stream is plain.
---@param at table<string, massact.Tensor> of the points in, attn.out, mlp.out, out
---@param focus massact.Focus
---@return table[] {position, dim, in, attention, mlp, out} each
function M.writes(at, focus)
  local writes = array {}
  for _, p in ipairs(focus.positions) do
    for _, d in ipairs(focus.dims) do
      writes[#writes + 1] = { position = p, dim = d, ["in"] = at["in"]:get(p, d), attention = at["attn.out"]:get(p, d),
        mlp = at["mlp.out"]:get(p, d), out = at.out:get(p, d) }
    end
  end
  return writes
end

-- ---- rows of CSV files ----

---Columns of sizes, behind columns of the caller's.
---@param ... string
---@return string[]
function M.columns(...)
  local columns = { ... }
  return table.move({ "point", "tokens", "max", "median", "mean_length" }, 1, 5, #columns + 1, columns)
end

---Adds a row a point and kind of token.
---@param rows any[][]
---@param head any[] the caller's columns
---@param sizes table<string, table> by point, of `sizes`
function M.add_rows(rows, head, sizes)
  for _, point in ipairs(keyed.keys(sizes)) do
    for _, kind in ipairs { "massive", "ordinary" } do
      local size = sizes[point][kind]
      if size and size ~= core.json.null then
        local row = table.move(head, 1, #head, 1, {})
        rows[#rows + 1] = table.move({ point, kind, size.max, size.median, size.norm }, 1, 5, #row + 1, row)
      end
    end
  end
end

-- ---- dims to show ----

---Dims that stand for all: those given, the largest of each tensor, then evenly spread ordinary ones, `n` together (or all that there are).
---@param tensors massact.Tensor[] [T ...] each, all of one width
---@param given integer[]
---@param n integer
---@return integer[] ascending; of heads side by side, head x d_head + dim
function M.dims(tensors, given, n)
  local width, chosen, count = flat(tensors[1]):size(1), {}, 0
  n = math.min(n, width)
  local function add(dim)
    if not chosen[dim] and count < n then chosen[dim], count = true, count + 1 end
  end
  for _, dim in ipairs(given) do add(dim) end
  for _, x in ipairs(tensors) do add(flat(x):abs():max(0):argmax():item()) end
  for i = 0, n - 1 do add((2 * i + 1) * width // (2 * n)) end
  for dim = 0, width - 1 do add(dim) end
  return array(keyed.keys(chosen))
end

---|x| at some dims.
---@param x massact.Tensor [T ...]
---@param dims integer[]
---@return number[][] by token and dim
function M.magnitudes(x, dims)
  return flat(x):abs():gather(1, devices.index(dims, x)):totable()
end

return M
