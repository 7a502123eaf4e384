-- The logit lens (nostalgebraist 2020, "interpreting GPT: the logit lens"): what the model would predict if it ended after a layer.
-- Each layer's output goes through the model's own final norm and head, so that the last row is what the model says.
local token_text = require "massact.token_text"

local M = {}

---@class massact.LensRow what one layer's output predicts, by position
---@field layer string "embed", or the layer's number
---@field top integer[] likeliest id
---@field token string[] its text
---@field probability number[] of the likeliest
---@field entropy number[] nats
---@field next_probability number[] of the token that follows; one fewer than positions
---@field next_rank integer[] 1: the likeliest
---@field loss? number mean of -log p(next), nats; nil for one token

-- Rank of an id among the logits [V] of one position; of ties the best.
local function rank_of(logits, id) return logits:gt(logits:get(id)):sum():item() + 1 end

-- Reads the predictions from logits [T, V].
local function read(layer, logits, ids, tokenizer)
  local log_p = logits:log_softmax()
  local best, top = log_p:max(-1)
  local row = { layer = layer, top = top:totable(), probability = best:exp():totable(),
    entropy = (log_p:exp() * log_p):sum(-1):neg():totable(), next_probability = {}, next_rank = {} }
  row.token = token_text.list(tokenizer, row.top)
  local sum, n = 0, #ids - 1
  for t = 1, n do
    local value = log_p:get(t - 1, ids[t + 1])
    sum = sum - value
    row.next_probability[t], row.next_rank[t] = math.exp(value), rank_of(logits[t - 1], ids[t + 1])
  end
  row.loss = n > 0 and sum / n or nil
  return row
end

---Logits of every layer's output, and of the embedding, through final norm and head.
---@param model massact.Model
---@param ids integer[]
---@return fun(): string?, massact.Tensor? layer "embed", "0" ...; logits [T, V]
function M.each(model, ids)
  local last, layer = ("layers.%d.out"):format(model.n_layers - 1), -2
  local out = model:forward(ids, { capture = { "embed", "layers.*.out" }, stop_at = last })
  return function()
    layer = layer + 1
    if layer == model.n_layers then return nil end
    local value = layer < 0 and out.embed or out[("layers.%d.out"):format(layer)]
    return layer < 0 and "embed" or tostring(layer), model:forward(ids, { logits = true, start_at = { point = last, value = value } }).logits[0]
  end
end

---The lens over a sentence.
---@param model massact.Model
---@param ids integer[]
---@return massact.LensRow[] from the embedding up
function M.measure(model, ids)
  local rows = {}
  for layer, logits in M.each(model, ids) do rows[#rows + 1] = read(layer, logits, ids, model.tokenizer) end
  return rows
end

-- ---- what is drawn and written ----

---A row a layer and position.
---@param results {sentence: massact.Sentence, rows: massact.LensRow[]}
---@return any[][]
function M.table(results)
  local tokens, list = results.sentence.tokens, {}
  for _, row in ipairs(results.rows) do
    for p, token in ipairs(row.token) do
      list[#list + 1] = { row.layer, p - 1, tokens[p], token, row.top[p], row.probability[p], row.entropy[p], tokens[p + 1] or "",
        row.next_probability[p] or "", row.next_rank[p] or "" }
    end
  end
  return list
end

M.columns = { "layer", "position", "token", "top_token", "top_id", "probability", "entropy", "next_token", "next_probability", "next_rank" }

-- A prediction as its cell shows it: long ones are cut.
local function cell_text(text)
  local shown, most = require("massact.plot").token(text).text, 10
  local cut = utf8.offset(shown, most + 1)
  return cut and cut <= #shown and shown:sub(1, utf8.offset(shown, most) - 1) .. "\u{2026}" or shown
end

-- Inches that a column of predictions needs.
local function column_width(rows, tokens)
  local longest = 1
  for _, text in ipairs(tokens) do longest = math.max(longest, utf8.len(cell_text(text)) or 1) end
  for _, row in ipairs(rows) do
    for _, text in ipairs(row.token) do longest = math.max(longest, utf8.len(cell_text(text)) or 1) end
  end
  return 0.2 + 0.085 * longest
end

---What each layer predicts at each position, over the probability of that prediction or the entropy; massive tokens in red.
---Sentences too long for a page of 24 inches show the colours alone.
---@param results {model: string, sentence: massact.Sentence, rows: massact.LensRow[]}
---@param show "probability"|"entropy"
---@return massact.Figure
function M.figure(results, show)
  local plot, sentence, rows, values, layers, most = require "massact.plot", results.sentence, {}, {}, {}, 1
  for i, row in ipairs(results.rows) do
    local at = #results.rows + 1 - i
    rows[at], values[at], layers[at] = row, row[show], row.layer
    if show == "entropy" then most = math.max(most, table.unpack(row.entropy)) end
  end
  local column = column_width(rows, sentence.tokens)
  local has_texts = column * #sentence.ids < 24
  local fig = plot.figure { title = results.model .. ", logit lens", x_label = "Token", y_label = "Layer Number", height = 2 + 0.27 * #rows,
    width = math.max(6, 2.5 + (has_texts and column * #sentence.ids or math.min(0.3 * #sentence.ids, 21))) }
  fig:heatmap { values = values, x_labels = token_text.labels(sentence.tokens, sentence.massive), y_labels = layers, range = { 0, most },
    square = false, colorbar = show == "probability" and "Probability of the likeliest token" or "Entropy, nats" }
  for i = 1, has_texts and #rows or 0 do
    for p, text in ipairs(rows[i].token) do
      local color = values[i][p] > 0.5 * most and "white" or "black"
      fig:note { x = p - 1, y = i - 1, text = cell_text(text), color = color, h = "center" }
    end
  end
  return fig
end

---Rank of the token that follows, by layer; the embedding is layer -1.
---@return massact.Figure
function M.rank_figure(results)
  local layers, mean, median = {}, {}, {}
  for i, row in ipairs(results.rows) do
    local logs, ranks = 0, table.move(row.next_rank, 1, #row.next_rank, 1, {})
    for _, rank in ipairs(ranks) do logs = logs + math.log(rank) end
    table.sort(ranks)
    layers[i], mean[i], median[i] = i - 2, math.exp(logs / #ranks), ranks[(#ranks + 1) // 2]
  end
  local fig = require("massact.plot").figure { title = results.model .. ", logit lens", x_label = "Layer Number (-1: embedding)",
    y_label = "Rank of the next token", y_scale = "log", integers = true }
  fig:line { x = layers, y = mean, label = "geometric mean over positions", color = "blue", marker = true }
  return fig:line { x = layers, y = median, label = "median", color = "gray", marker = true }
end

return M
