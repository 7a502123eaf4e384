-- Activation patching between two prompts (Meng et al. 2022, arXiv 2202.05262; Zhang and Nanda 2023, arXiv 2309.16042): the corrupt
-- prompt runs with one activation taken from the clean prompt's pass, and what comes back of the clean answer says how much of it
-- goes through there.
local core = require "massact.core"
local detect = require "massact.detect"
local options = require "massact.options"
local paper = require "massact.paper"
local token_text = require "massact.token_text"

local M = {}

M.batch_tokens = 1024 -- tokens of the copies that one pass patches

-- ---- prompts and answers ----

---The two prompts as token ids, which have to be as many.
---@param run massact.Run
---@return massact.Sentence clean, massact.Sentence corrupt, integer[] differ positions of other tokens, from 0
function M.prompts(run)
  local clean, corrupt, differ = run:sentence(run.options.clean), run:sentence(run.options.corrupt), {}
  if #clean.ids ~= #corrupt.ids then
    options.usage_error("--clean has %d tokens %s, --corrupt has %d %s; patching wants as many in both", #clean.ids,
      paper.quoted(clean.tokens), #corrupt.ids, paper.quoted(corrupt.tokens))
  end
  for i, id in ipairs(clean.ids) do if corrupt.ids[i] ~= id then differ[#differ + 1] = i - 1 end end
  if #differ == 0 then options.usage_error("--clean and --corrupt are the same tokens") end
  return clean, corrupt, differ
end

-- The first token of a text.
local function first_token(model, text, option)
  return model.tokenizer:encode(text)[1] or options.usage_error("--%s holds no token", option)
end

local function likeliest(logits) return logits:argmax():item() end

-- What each prompt's pass predicts; where both predict the same, those of either's five likeliest tokens whose logits the
-- prompts change most.
local function predicted(clean, corrupt)
  local answer, wrong, change = likeliest(clean), likeliest(corrupt), clean - corrupt
  if answer ~= wrong then return answer, wrong end
  for _, logits in ipairs { clean, corrupt } do
    for _, id in ipairs(select(2, logits:topk(math.min(5, #logits))):totable()) do
      if change:get(id) > change:get(answer) then answer = id end
      if change:get(id) < change:get(wrong) then wrong = id end
    end
  end
  return answer, wrong
end

---@class massact.Answer
---@field id integer
---@field token string

---The tokens whose logits are compared: those of --answer and --wrong, else what the passes predict.
---@param model massact.Model
---@param opt {answer?: string, wrong?: string}
---@param clean massact.Tensor logits [V]
---@param corrupt massact.Tensor
---@return massact.Answer answer, massact.Answer wrong
function M.answers(model, opt, clean, corrupt)
  local answer, wrong = predicted(clean, corrupt)
  if opt.answer then answer = first_token(model, opt.answer, "answer") end
  if opt.wrong then wrong = first_token(model, opt.wrong, "wrong") end
  if answer == wrong then
    options.usage_error("the answer and the wrong one begin with the same token '%s'; name others by --answer and --wrong",
      token_text.text(model.tokenizer, answer))
  end
  local function of(id) return { id = id, token = token_text.text(model.tokenizer, id) } end
  return of(answer), of(wrong)
end

-- ---- metrics (Zhang and Nanda 2023, section 2) ----

M.metrics = {
  logit_difference = function(logits, answer, wrong) return logits:get(answer) - logits:get(wrong) end,
  probability = function(logits, answer) return math.exp(logits:log_softmax():get(answer)) end,
}

-- ---- passes ----

---Logits [B, V] behind the last token of each sequence; hooks on the model's points count.
---@param model massact.Model
---@param batch integer[][]
---@param start? {point: string, value: massact.Tensor}
---@return massact.Tensor
function M.last_logits(model, batch, start)
  local hidden = model:forward(batch, { capture = "final.norm", stop_at = "final.norm", start_at = start })["final.norm"]
  local last, ids = hidden:narrow(1, #batch[1] - 1, 1), {}
  for b, sequence in ipairs(batch) do ids[b] = { sequence[#sequence] } end
  return model:forward(ids, { logits = true, start_at = { point = "final.norm", value = last } }).logits:select(1, 0)
end

---Logits [#patches, V] behind the last token of the corrupt prompt, each with the clean activations of a point at some positions.
---@param model massact.Model
---@param corrupt integer[]
---@param input massact.Tensor [1, T, D] what entered the layer in the corrupt pass
---@param layer integer
---@param point string "out", "attn.out" ...
---@param clean massact.Tensor [1, T, ..] the clean pass's activation there
---@param patches integer[][] positions, from 0
---@return massact.Tensor
function M.patched(model, corrupt, input, layer, point, clean, patches)
  local batch, copies = {}, {}
  for b = 1, #patches do batch[b], copies[b] = corrupt, input end
  local hook <close> = model:point(("layers.%d.%s"):format(layer, point)):hook(function(x)
    for b, positions in ipairs(patches) do
      for _, p in ipairs(positions) do x[b - 1][p]:copy_(clean[0][p]) end
    end
  end)
  return M.last_logits(model, batch, { point = ("layers.%d.in"):format(layer), value = core.tensor.cat(copies, 0) })
end

---Patches each position of each layer's point alone.
---@param model massact.Model
---@param clean integer[]
---@param corrupt integer[]
---@param point string
---@param score fun(logits: massact.Tensor): number of logits [V]
---@return number[][] scores by layer and position
function M.sweep(model, clean, corrupt, point, score)
  local pattern, at_once = "layers.*." .. point, math.max(1, M.batch_tokens // #clean)
  local source = model:forward(clean, { capture = pattern })
  local target = model:forward(corrupt, { capture = "layers.*.in" })
  local progress <close> = core.system.progress("patching", model.n_layers)
  local scores = {}
  for l = 0, model.n_layers - 1 do
    scores[l + 1] = {}
    for first = 0, #clean - 1, at_once do
      local patches = {}
      for p = first, math.min(first + at_once, #clean) - 1 do patches[#patches + 1] = { p } end
      local logits = M.patched(model, corrupt, target[("layers.%d.in"):format(l)], l, point, source[("layers.%d.%s"):format(l, point)], patches)
      for b = 1, #patches do scores[l + 1][first + b] = score(logits[b - 1]) end
    end
    progress:update(l + 1)
  end
  return scores
end

---The whole experiment: both prompts, their answers, and the share of the clean score that each patch brings back (1: all).
---@param run massact.Run
---@return table results
function M.measure(run)
  local model, opt = run.model, run.options
  local clean, corrupt, differ = M.prompts(run)
  local logits = M.last_logits(model, { clean.ids, corrupt.ids })
  local answer, wrong = M.answers(model, opt, logits[0], logits[1])
  local function score(of) return M.metrics[opt.metric](of, answer.id, wrong.id) end
  local high, low = score(logits[0]), score(logits[1])
  if math.abs(high - low) < 1e-6 then
    options.usage_error("both prompts score %.4g: nothing to recover; name other tokens by --answer and --wrong", high)
  end
  local recovered = M.sweep(model, clean.ids, corrupt.ids, opt.point, score)
  for _, row in ipairs(recovered) do for p, value in ipairs(row) do row[p] = (value - low) / (high - low) end end
  clean.massive = core.json.array(detect.positions(detect.sequences(model, { clean.ids })[1]))
  return { clean = clean, corrupt = corrupt, differ = differ, answer = answer, wrong = wrong, clean_score = high, corrupt_score = low,
    recovered = recovered }
end

-- ---- what is drawn and written ----

-- Labels of the positions: the clean token, and behind a slash the corrupt one where it is another.
local function position_labels(results)
  local labels = token_text.labels(results.clean.tokens, results.clean.massive)
  for _, p in ipairs(results.differ) do
    local label = labels[p + 1]
    label.text = label.text .. "/" .. require("massact.plot").token(results.corrupt.tokens[p + 1]).text
  end
  return labels
end

---A row a layer and position.
---@return any[][]
function M.table(results)
  local rows = {}
  for l, by_position in ipairs(results.recovered) do
    for p, value in ipairs(by_position) do
      rows[#rows + 1] = { l - 1, p - 1, results.clean.tokens[p], results.corrupt.tokens[p], value }
    end
  end
  return rows
end

M.columns = { "layer", "position", "clean_token", "corrupt_token", "recovered" }

local function title(results)
  local plot = require "massact.plot"
  return ("%s, %s: %s, not %s"):format(results.model, results.options.point, plot.token(results.answer.token).text,
    plot.token(results.wrong.token).text)
end

---What comes back by layer and position; massive tokens in red.
---@return massact.Figure
function M.figure(results)
  local values, layers, labels, n = {}, {}, position_labels(results), #results.recovered
  for i = 1, n do values[i], layers[i] = results.recovered[n + 1 - i], tostring(n - i) end
  local fig = require("massact.plot").figure { title = title(results), x_label = "Token", y_label = "Layer Number",
    width = math.min(24, math.max(7, 3 + 0.35 * #labels)), height = 3 + 0.2 * n }
  return fig:heatmap { values = values, x_labels = labels, y_labels = layers, map = "coolwarm", square = false,
    colorbar = "Recovered " .. results.options.metric:gsub("_", " ") }
end

---What comes back by layer, at the positions where the prompts differ and at the last.
---@return massact.Figure
function M.layers_figure(results)
  local fig = require("massact.plot").figure { title = title(results), x_label = "Layer Number",
    y_label = "Recovered " .. results.options.metric:gsub("_", " "), integers = true }
  local positions, last, layers = table.move(results.differ, 1, math.min(4, #results.differ), 1, {}), #results.clean.tokens - 1, {}
  local labels = position_labels(results)
  if positions[#positions] ~= last then positions[#positions + 1] = last end
  for l = 1, #results.recovered do layers[l] = l - 1 end
  for _, p in ipairs(positions) do
    local values = {}
    for l, by_position in ipairs(results.recovered) do values[l] = by_position[p + 1] end
    fig:line { x = layers, y = values, label = ("position %d, %s"):format(p, labels[p + 1].text), marker = true }
  end
  return fig
end

return M
