-- Multiple choice by likelihood: which of several texts a model finds most likely, from files of JSON lines.  Each line is one of
--
--   {"context", "choices", "answer"}  as HellaSwag (Zellers et al. 2019; its own names ctx, endings, label do as well); answers count from 0
--   {"good", "bad"}                   as BLiMP (Warstadt et al. 2020; sentence_good, sentence_bad)
--   {"text"}                          as LAMBADA (Paperno et al. 2016): the last word is to be predicted ("last_word" gives it apart)
--
-- and may name a "group" (UID), by which results are told apart.  Scores are those of lm-evaluation-harness: the sum of the log-likelihoods
-- of a choice's tokens behind the context, and that over its characters; of a last word also whether every token is the likeliest.
local core = require "massact.core"
local data = require "massact.data"
local detect = require "massact.detect"
local settings = require "massact.settings"

local M = {}

---@class massact.ChoiceItem
---@field kind "choices"|"pair"|"last_word"
---@field context string
---@field choices string[] what may follow; of a last word the word alone
---@field answer integer from 0
---@field group? string

-- ---- files ----

local function first_of(line, names)
  for _, name in ipairs(names) do if line[name] ~= nil and line[name] ~= core.json.null then return line[name] end end
end

local function text_of(line, where, ...)
  local value = first_of(line, { ... })
  if value ~= nil and type(value) ~= "string" then error(("%s: '%s' is no text"):format(where, (...)), 0) end
  return value
end

local function choices_of(line, where)
  local given, answer = first_of(line, { "choices", "endings" }), first_of(line, { "answer", "label" })
  local context = text_of(line, where, "context", "ctx")
  if not context then error(where .. ": choices without a 'context'", 0) end
  if type(given) ~= "table" or #given < 2 then error(where .. ": 'choices' are at least two texts", 0) end
  for _, choice in ipairs(given) do
    if type(choice) ~= "string" or not choice:find "%S" then error(where .. ": a choice is empty or no text", 0) end
  end
  answer = math.tointeger(tonumber(answer))
  if not answer or answer < 0 or answer >= #given then
    error(("%s: 'answer' is one of 0 to %d"):format(where, #given - 1), 0)
  end
  return { kind = "choices", context = context, choices = given, answer = answer }
end

local function pair_of(good, bad, where)
  if not good or not bad or not good:find "%S" or not bad:find "%S" then error(where .. ": a pair is 'good' and 'bad', two texts", 0) end
  return { kind = "pair", context = "", choices = { good, bad }, answer = 0 }
end

local function last_word_of(text, word, where)
  local context = text
  if not word then context, word = text:match "^(.*%S)%s+(%S+)%s*$" end
  if not context or not word:find "%S" then error(where .. ": 'text' holds fewer than two words", 0) end
  return { kind = "last_word", context = context, choices = { word }, answer = 0 }
end

local function item_of(line, where)
  local good, bad = text_of(line, where, "good", "sentence_good"), text_of(line, where, "bad", "sentence_bad")
  local text, item = text_of(line, where, "text"), nil
  if good or bad then item = pair_of(good, bad, where)
  elseif first_of(line, { "choices", "endings" }) then item = choices_of(line, where)
  elseif text then item = last_word_of(text, text_of(line, where, "last_word"), where)
  else error(where .. " is no item: it has neither 'choices' nor 'good' and 'bad' nor 'text'", 0) end
  item.group = text_of(line, where, "group", "UID")
  return item
end

---The items of a file of JSON lines, plain or packed.
---@param path string
---@param limit? integer at most the first so many; 0 or nil: all
---@return massact.ChoiceItem[]
function M.load(path, limit)
  local file <close> = core.text.open(path)
  local items, n = {}, 0
  for line in function() return file:line() end do
    n = n + 1
    if line:find "%S" then
      local where = ("choices '%s', line %d"):format(path, n)
      local fine, value = pcall(core.json.parse, line, where)
      if not fine then error((value:gsub(": line 1, column", ": column")), 0) end
      if type(value) ~= "table" then error(where .. " is no JSON object", 0) end
      items[#items + 1] = item_of(value, where)
      if items[2] and items[1].kind ~= items[#items].kind then
        error(("%s is of another kind (%s) than the first one (%s)"):format(where, items[#items].kind, items[1].kind), 0)
      end
    end
    if limit and limit > 0 and #items == limit then break end
  end
  if #items == 0 then error(("choices '%s' holds no items"):format(path), 0) end
  return items
end

-- ---- what the model reads ----

---@class massact.ChoiceRequest
---@field ids integer[]
---@field first integer the first prediction that counts, from 1: that of ids[2] is 1
---@field n integer tokens of the choice
---@field number integer of its item

local function adds_bos(tokenizer) return tokenizer.bos ~= nil and tokenizer:encode("", { special = true })[1] == tokenizer.bos end

-- BOS before a text.  Where nothing is said: what the tokenizer's template adds; before a text without a context always (or EOS,
-- if there is one), so that its first token is a prediction.
local function bos_before(tokenizer, context, bos)
  if bos == false then return nil end
  if bos or adds_bos(tokenizer) then return data.bos(tokenizer) end
  return context == "" and (tokenizer.bos or tokenizer.eos) or nil
end

-- A choice behind its context.  Blanks between the two belong to the choice.
local function request(model, item, choice, bos, number)
  local tokenizer = model.tokenizer
  local context, blanks = item.context:match "^(.-)(%s*)$"
  if blanks == "" and context ~= "" and not choice:find "^%s" then blanks = " " end
  local n_before, ids = #tokenizer:encode(context), tokenizer:encode(context .. blanks .. choice)
  local n = #ids - n_before
  local first = bos_before(tokenizer, context, bos)
  if first and ids[1] ~= first then table.insert(ids, 1, first) end
  -- What no context and no BOS precede is no prediction.
  n = math.min(n, #ids - 1)
  if n < 1 then error(("item %d: '%s' adds no token that could be predicted"):format(number, choice), 0) end
  local excess = #ids - model.max_positions
  if excess > 0 then
    if n >= model.max_positions then
      error(("item %d: a choice of %d tokens is longer than the model's %d positions"):format(number, n, model.max_positions), 0)
    end
    local kept = first and 1 or 0
    ids = table.move(ids, kept + excess + 1, #ids, kept + 1, table.move(ids, 1, kept, 1, {}))
  end
  return { ids = ids, first = #ids - n, n = n, number = number }
end

-- Requests in groups of about `n_tokens`, alike in length, so that little is filled up.
local function grouped(requests, n_tokens)
  local sorted, groups = table.move(requests, 1, #requests, 1, {}), {}
  table.sort(sorted, function(a, b)
    if #a.ids ~= #b.ids then return #a.ids > #b.ids end
    return a.index < b.index
  end)
  local group, longest
  for _, r in ipairs(sorted) do
    if not group or (#group + 1) * longest > n_tokens then
      group, longest = {}, #r.ids
      groups[#groups + 1] = group
    end
    group[#group + 1] = r
  end
  return groups
end

-- ---- scores ----

-- Whether every token of a request is the likeliest one where it stands.
local function is_likeliest(model, hidden, b, r)
  local rows = hidden:narrow(0, b - 1, 1):narrow(1, r.first - 1, r.n)
  local targets = table.move(r.ids, r.first + 1, r.first + r.n, 1, {})
  local best = model:forward(targets, { logits = true, start_at = { point = "final.norm", value = rows } }).logits[0]:argmax(1):totable()
  for i, target in ipairs(targets) do if best[i] ~= target then return false end end
  return true
end

-- {log-likelihood, likeliest?} of each request of a group.  Causal models never see what fills the shorter ones up.
local function score_group(model, group, wants_likeliest)
  local longest, inputs, seen = #group[1].ids, {}, {}
  for b, r in ipairs(group) do
    inputs[b] = table.move(r.ids, 1, #r.ids, 1, {})
    for i = #r.ids + 1, longest do inputs[b][i] = r.ids[#r.ids] end
  end
  local out = model:forward(inputs, { token_losses = true, capture = wants_likeliest and { "final.norm" } or nil })
  for b, r in ipairs(group) do
    local sum = 0
    for _, loss in ipairs(out.token_losses[b - 1]:narrow(0, r.first - 1, r.n):totable()) do sum = sum - loss end
    seen[b] = { sum }
    if wants_likeliest then seen[b][2] = is_likeliest(model, out["final.norm"], b, r) end
  end
  return seen
end

---@class massact.ChoiceScore
---@field scores number[] log-likelihood of each choice
---@field n_tokens integer[] of each choice
---@field chosen integer from 0: of the largest score
---@field chosen_norm integer from 0: of the largest score over characters
---@field is_right boolean of a last word: whether each of its tokens is the likeliest
---@field is_right_norm boolean

local function chosen(scores, choices)
  local best, best_norm, norms = 1, 1, {}
  for i, score in ipairs(scores) do
    norms[i] = score / (utf8.len(choices[i]) or #choices[i])
    if score > scores[best] then best = i end
    if norms[i] > norms[best_norm] then best_norm = i end
  end
  return best - 1, best_norm - 1
end

local declared = {
  bos = { "boolean" }, batch_tokens = { "integer", default = 1024, least = 1 }, label = { "string", default = "choices" }, journal = { "table" },
}

---Scores of every item; hooks and patches on the model's points count.
---@param model massact.Model
---@param items massact.ChoiceItem[]
---@param how? {bos?: boolean, batch_tokens?: integer, label?: string, journal?: massact.Journal} bos: before every text, or never; by
---default where the tokenizer's template adds it, and before pairs
---@return massact.ChoiceScore[]
function M.score(model, items, how)
  local o, requests = settings.take("choices.score", how, declared), {}
  for number, item in ipairs(items) do
    for _, choice in ipairs(item.choices) do
      local r = request(model, item, choice, o.bos, number)
      r.index = #requests + 1
      requests[r.index] = r
    end
  end
  local groups = grouped(requests, o.batch_tokens)
  local wants_likeliest = items[1].kind == "last_word"
  local seen = detect.batches(groups, { label = o.label, journal = o.journal, batch = 1 }, function(batch)
    return score_group(model, batch[1], wants_likeliest)
  end)
  local results = {}
  for number = 1, #items do results[number] = { scores = {}, n_tokens = {} } end
  for g, group in ipairs(groups) do for b, r in ipairs(group) do r.score, r.likeliest = seen[g][b][1], seen[g][b][2] end end
  for _, r in ipairs(requests) do
    local result = results[r.number]
    table.insert(result.scores, r.score)
    table.insert(result.n_tokens, r.n)
    result.ids = result.ids or r.ids
    result.likeliest = r.likeliest
  end
  for number, item in ipairs(items) do
    local result = results[number]
    result.chosen, result.chosen_norm = chosen(result.scores, item.choices)
    result.is_right, result.is_right_norm = result.chosen == item.answer, result.chosen_norm == item.answer
    if item.kind == "last_word" then result.is_right, result.is_right_norm = result.likeliest, result.likeliest end
    result.likeliest = nil
  end
  return results
end

-- ---- summaries ----

local function share(results, key)
  local n = 0
  for _, result in ipairs(results) do if result[key] then n = n + 1 end end
  return n / #results
end

-- Standard error of a share of n, as lm-evaluation-harness has it.
local function error_of(p, n) return n > 1 and math.sqrt(p * (1 - p) / (n - 1)) or core.json.null end

local function summary(items, results)
  local chance, sum = 0, 0
  for i, item in ipairs(items) do
    chance = chance + (item.kind == "last_word" and 0 or 1 / #item.choices)
    sum = sum + results[i].scores[item.answer + 1]
  end
  local accuracy, norm, n = share(results, "is_right"), share(results, "is_right_norm"), #items
  return { n = n, accuracy = accuracy, accuracy_error = error_of(accuracy, n), accuracy_norm = norm, accuracy_norm_error = error_of(norm, n),
    chance = chance / n, mean_log_likelihood = sum / n, perplexity = items[1].kind == "last_word" and math.exp(-sum / n) or nil }
end

---@class massact.ChoiceResult
---@field n integer
---@field accuracy number share of right answers by log-likelihood (of last words: of those predicted exactly)
---@field accuracy_error? number its standard error
---@field accuracy_norm number by log-likelihood over characters
---@field chance number share that guessing gets right
---@field mean_log_likelihood number of the right choices
---@field perplexity? number of last words: exp of minus that
---@field kind string
---@field groups? table<string, massact.ChoiceResult>
---@field items table[] every item with its texts and scores

---Accuracy on items, in all and by group.
---@param model massact.Model
---@param items massact.ChoiceItem[]
---@param how? table as M.score takes it
---@return massact.ChoiceResult
function M.evaluate(model, items, how)
  local results, by_group = M.score(model, items, how), {}
  local out = summary(items, results)
  out.kind, out.items = items[1].kind, results
  for i, item in ipairs(items) do
    local result = results[i]
    result.context, result.choices, result.answer, result.group = item.context, item.choices, item.answer, item.group
    if item.group then
      local group = by_group[item.group] or { items = {}, results = {} }
      by_group[item.group] = group
      table.insert(group.items, item)
      table.insert(group.results, result)
    end
  end
  for name, group in pairs(by_group) do
    out.groups = out.groups or {}
    out.groups[name] = summary(group.items, group.results)
  end
  return out
end

return M
