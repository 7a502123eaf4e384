-- Attention sinks over windows of text: how much of the heads' attention each key gets, measured by the sink rate of Gu et al. 2024
-- (arXiv 2410.10781), beside where the massive tokens are, the entropy of attention, and the norms of the sinks' values.
local core = require "massact.core"
local detect = require "massact.detect"
local statistics = require "massact.statistics"
local token_text = require "massact.token_text"

local M = {}

-- ---- one pass ----

-- What a pass leaves of a point, by sequence: small tensors, nothing of T x T.
local kept = {
  received = function(x) return x:clone() end, -- [B, H, S]
  entropy = function(x) return x:mean(-1) end, -- [B, H]
  v = function(x) return x:norm(-1) end, -- [B, T, G]
}

local function mean_over(positions, f)
  local sum = 0
  for _, p in ipairs(positions) do sum = sum + f(p) end
  return sum / #positions
end

---@class massact.SinkWindow what one window shows; lists by layer, from 1
---@field first number[][] mean attention to key 0, by layer and head
---@field bias? number[] the KV bias's share of all attention
---@field entropy number[][] mean over the queries, in nats, by layer and head
---@field by_key {attention: number[], sink_rate: number[]} over all heads of all layers, by key from 1
---@field value_ratio number[] norm of value 0 over the others' mean, mean over heads
---@field massive integer[] positions that are massive in some layer
---@field massive_share? number[] their share of all attention; nil: there are none
---@field massive_value_ratio? number[]

-- What sequence `b` (from 0) of a pass over `t` tokens has shown.
local function window_of(seen, b, t, massive, epsilon)
  local w = { first = {}, entropy = {}, value_ratio = {}, massive = core.json.array(massive) }
  local attention = {}
  if #massive > 0 then w.massive_share, w.massive_value_ratio = {}, {} end
  for l, of_layer in ipairs(seen.received) do
    local received, norms = of_layer[b], seen.v[l][b]
    local n_bias = received:size(-1) - t
    if n_bias > 0 then
      w.bias = w.bias or {}
      w.bias[l] = received:select(-1, 0):mean():item() / t
      received = received:narrow(-1, n_bias, t)
    end
    attention[l] = statistics.mean_attention(received)
    w.first[l] = attention[l]:select(-1, 0):totable()
    w.entropy[l] = seen.entropy[l][b]:totable()
    w.value_ratio[l] = statistics.value_norm_ratio(norms, 0):mean():item()
    if #massive > 0 then
      w.massive_share[l] = #massive * mean_over(massive, function(p) return received:select(-1, p):mean():item() / t end)
      w.massive_value_ratio[l] = mean_over(massive, function(p) return statistics.value_norm_ratio(norms, p):mean():item() end)
    end
  end
  local heads = require("massact").cat(attention, 0) -- [L H, T]
  w.by_key = { attention = heads:mean(0):totable(), sink_rate = heads:gt(epsilon):float():mean(0):totable() }
  return w
end

---@class massact.SinkOptions: massact.Batches
---@field epsilon? number 0.3

---What each window shows.
---@param model massact.Model
---@param windows integer[][] of equal length
---@param how massact.SinkOptions
---@return massact.SinkWindow[]
function M.windows(model, windows, how)
  local epsilon, found, seen = how.epsilon or statistics.sink.epsilon, {}, { received = {}, entropy = {}, v = {} }
  local probe <close> = detect.probe(model)
  local hook <close> = model:point "layers.*.attn.{received,entropy,v}":hook(function(x, at)
    local name = at.name:match "[^.]+$"
    seen[name][at.layer + 1] = kept[name](x)
  end)
  local each = { label = how.label, journal = how.journal, batch = how.batch or detect.batch_of(windows) }
  for _, batch in ipairs(detect.batches(windows, each, function(batch)
    local out = {}
    model:forward(batch, { stop_at = ("layers.%d.out"):format(model.n_layers - 1) })
    for b = 1, #batch do out[b] = window_of(seen, b - 1, #batch[b], detect.positions(detect.read(model, probe, b)), epsilon) end
    return out
  end)) do table.move(batch, 1, #batch, #found + 1, found) end
  return found
end

-- ---- all windows ----

-- Adds what is in `from`, numbers in lists of any depth, divided by n.
local function add(sum, from, n)
  for i, v in ipairs(from) do
    if type(v) == "table" then
      sum[i] = sum[i] or {}
      add(sum[i], v, n)
    else
      sum[i] = (sum[i] or 0) + v / n
    end
  end
end

-- Means over the windows that have the field.
local function mean_of(windows, field)
  local having, sum = {}, {}
  for _, w in ipairs(windows) do if field(w) then having[#having + 1] = field(w) end end
  for _, v in ipairs(having) do add(sum, v, #having) end
  return #having > 0 and sum or nil
end

local function above(heads, epsilon)
  local n = 0
  for _, value in ipairs(heads) do n = n + (value > epsilon and 1 or 0) end
  return n / #heads
end

local function mean(list)
  local sum = 0
  for _, v in ipairs(list) do sum = sum + v end
  return sum / #list
end

---The measure over all windows; a head is a sink's where it gives key 0 more than epsilon on average over a window's queries.
---@param windows massact.SinkWindow[]
---@param epsilon number
---@return table {sink_rate, by_layer = {sink_rate, attention, entropy, value_ratio, massive_share?, massive_value_ratio?, bias?}, by_head = {attention, entropy}, by_key}
function M.summarise(windows, epsilon)
  local function field(name) return mean_of(windows, function(w) return w[name] end) end
  local by_head = { attention = field "first", entropy = field "entropy" }
  local by_layer = { sink_rate = {}, attention = {}, entropy = {}, value_ratio = field "value_ratio", massive_share = field "massive_share",
    massive_value_ratio = field "massive_value_ratio", bias = field "bias" }
  for l = 1, #by_head.attention do
    local rates = {}
    for i, w in ipairs(windows) do rates[i] = above(w.first[l], epsilon) end
    by_layer.sink_rate[l], by_layer.attention[l], by_layer.entropy[l] = mean(rates), mean(by_head.attention[l]), mean(by_head.entropy[l])
  end
  return { sink_rate = mean(by_layer.sink_rate), by_layer = by_layer, by_head = by_head,
    by_key = { attention = mean_of(windows, function(w) return w.by_key.attention end),
      sink_rate = mean_of(windows, function(w) return w.by_key.sink_rate end) } }
end

---The experiment's results: the summary, and each window's first and massive tokens.
---@param run massact.Run
---@param windows integer[][]
---@param epsilon number
---@return table
function M.measure(run, windows, epsilon)
  local found = M.windows(run.model, windows, { label = "sinks", journal = run.journal, epsilon = epsilon })
  local results, tokenizer = M.summarise(found, epsilon), run.model.tokenizer
  results.epsilon, results.windows = epsilon, {}
  for i, w in ipairs(found) do
    local rates = {}
    for l, heads in ipairs(w.first) do rates[l] = above(heads, epsilon) end
    results.windows[i] = { sink_rate = mean(rates), first = token_text.at(tokenizer, windows[i], { 0 })[1],
      massive = core.json.array(token_text.at(tokenizer, windows[i], w.massive)) }
  end
  return results
end

-- ---- what is said and drawn ----

-- The positions that most often are massive, with their tokens.
local function massive_tokens(results)
  local seen, list = {}, {}
  for _, w in ipairs(results.windows) do
    for _, m in ipairs(w.massive) do
      local key = ("%d %d"):format(m.position, m.id)
      if not seen[key] then
        seen[key] = { position = m.position, token = m.token, n = 0 }
        list[#list + 1] = seen[key]
      end
      seen[key].n = seen[key].n + 1
    end
  end
  table.sort(list, function(a, b) return a.n > b.n or (a.n == b.n and a.position < b.position) end)
  return list
end

---What the user reads.
---@param run massact.Run
---@param results table
function M.report(run, results)
  local paper, n_heads = require "massact.paper", #results.by_head.attention[1]
  run:say("sink rate %.4f: share of %d heads in %d layers that give key 0 more than %g on average, over %d windows of %d tokens",
    results.sink_rate, n_heads, results.n_layers, results.epsilon, #results.windows, results.options.context_length)
  local rates, best = results.by_key.sink_rate, 1
  for k = 2, #rates // 2 do if rates[k] > rates[best] then best = k end end -- the last keys have hardly any queries
  if best > 1 then run:say("  key %d has more: %.4f", best - 1, rates[best]) end
  local massive = massive_tokens(results)
  if #massive == 0 then run:say("  no massive tokens") end
  for i = 1, math.min(3, #massive) do
    run:say("  massive: %s at position %d, in %d windows", paper.quoted({ massive[i].token }):sub(2, -2), massive[i].position, massive[i].n)
  end
  if results.by_layer.bias then run:say("  the KV bias gets %.4f of all attention", mean(results.by_layer.bias)) end
end

---The tables behind the pictures.
---@param run massact.Run
---@param results table
function M.write(run, results)
  local of, rows = results.by_layer, {}
  for l = 1, results.n_layers do
    for h, value in ipairs(results.by_head.attention[l]) do rows[#rows + 1] = { l - 1, h - 1, value, results.by_head.entropy[l][h] } end
  end
  run:csv("sink_rate_by_head.csv", { "layer", "head", "attention_to_key_0", "entropy" }, rows)
  rows = {}
  for l = 1, results.n_layers do
    local function at(name) return of[name] and of[name][l] end
    rows[l] = { l - 1, of.sink_rate[l], of.attention[l], at "massive_share", of.entropy[l], of.value_ratio[l], at "massive_value_ratio", at "bias" }
  end
  run:csv("sink_rate.csv", { "layer", "sink_rate", "attention_to_key_0", "attention_to_massive_tokens", "entropy", "value_norm_ratio_of_0",
    "value_norm_ratio_of_massive_tokens", "attention_to_kv_bias" }, rows)
  rows = {}
  for k, value in ipairs(results.by_key.attention) do rows[k] = { k - 1, value, results.by_key.sink_rate[k] } end
  run:csv("sink_rate_by_key.csv", { "key", "attention", "sink_rate" }, rows)
end

local function counted(n)
  local list = {}
  for i = 1, n do list[i] = i - 1 end
  return list
end

---Mean attention to key 0, head by head.
---@return massact.Figure
function M.heads_figure(results)
  local heads = results.by_head.attention
  local fig = require("massact.plot").figure { title = ("%s: sink rate %.1f %%"):format(results.model, 100 * results.sink_rate), x_label = "Head",
    y_label = "Layer Number" }
  return fig:heatmap { values = heads, x_labels = counted(#heads[1]), y_labels = counted(#heads), range = { 0, 1 }, colorbar = "Mean attention to key 0" }
end

local massive = "massive tokens" -- a dashed line, since it often lies on that of key 0

---By layer: the sink rate and the shares of attention that go to key 0, massive tokens and a KV bias; entropy; norms of values.  By key:
---mean attention and sink rate.
---@return massact.Grid
function M.figure(results)
  local plot, of, by_key = require "massact.plot", results.by_layer, results.by_key
  local function panel(title, x_label, x, lines)
    local fig = plot.figure { title = title, x_label = x_label, integers = true }
    for _, line in ipairs(lines) do
      local dashed = line[2] == massive
      if line[1] then
        fig:line { x = x, y = line[1], label = line[2], color = line[3], marker = not dashed and #x < 50, style = dashed and "dashed" or "solid" }
      end
    end
    return fig
  end
  local layers, keys = counted(results.n_layers), counted(#by_key.attention)
  return plot.grid({
    panel("Attention", "Layer Number", layers, { { of.sink_rate, "sink rate", "black" }, { of.attention, "key 0", "blue" },
      { of.massive_share, massive, "red" }, { of.bias, "KV bias", "green" } }),
    panel("Entropy of attention (nats)", "Layer Number", layers, { { of.entropy, "mean of heads", "blue" } }),
    panel("Norm of value over the others'", "Layer Number", layers, { { of.value_ratio, "key 0", "blue" }, { of.massive_value_ratio, massive, "red" } }),
    panel("Attention by key", "Key", keys, { { by_key.sink_rate, "sink rate", "black" }, { by_key.attention, "mean attention", "blue" } }),
  }, { columns = 2, title = results.model })
end

return M
