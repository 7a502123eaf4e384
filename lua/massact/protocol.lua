-- Which predictions of a text a perplexity is over.  Numbers of different protocols do not compare, so results name theirs.
--
--   paper      Owen et al. 2025: consecutive windows of L tokens, BOS before each (data.windows), every prediction inside them
--   llama.cpp  llama-perplexity: the text with its BOS in chunks of L tokens, the first token of each replaced by BOS where the
--              tokenizer adds one; only the second half is scored, so that every token scored has at least L/2 before it
--   lm-eval    lm-evaluation-harness's rolling log-likelihood: every token scored once, given BOS (or EOS) or what precedes it;
--              windows share one token, the last one is filled up from the left
local data = require "massact.data"

local M = {}

---@class massact.ScoredWindow
---@field ids integer[] what the model reads
---@field first integer the first prediction that counts, from 1: that of ids[2] is 1
---@field target? integer what the last of the ids predicts, where that counts as well

-- A list of a text's windows from `from(i)`, at most `limit`.
local function windows_of(count, limit, make)
  local windows = {}
  for i = 1, math.min(count, limit) do windows[i] = make(i) end
  return windows
end

---Each: (tokenizer, ids, {length, bos, limit}) to windows, and the BOS in them.
---@type table<string, fun(tokenizer: massact.Tokenizer, ids: integer[], o: table): massact.ScoredWindow[], integer?>
M.protocols = {}

function M.protocols.paper(tokenizer, ids, o)
  if o.bos == nil then o.bos = true end
  local windows = data.windows(tokenizer, ids, { length = o.length, bos = o.bos, limit = o.limit < math.huge and o.limit or 0 })
  return windows_of(#windows, o.limit, function(i) return { ids = windows[i], first = 1 } end), o.bos and data.bos(tokenizer) or nil
end

-- Whether encoding with what the tokenizer's template adds begins with BOS.
local function adds_bos(tokenizer) return tokenizer.bos ~= nil and tokenizer:encode("", { special = true })[1] == tokenizer.bos end

M.protocols["llama.cpp"] = function(tokenizer, ids, o)
  local length, bos = o.length, nil
  if o.bos or (o.bos == nil and adds_bos(tokenizer)) then bos = data.bos(tokenizer) end
  if bos and (ids[1] ~= bos or o.bos == "force") then ids = table.move(ids, 1, #ids, 2, { bos }) end
  return windows_of(#ids // length, o.limit, function(i)
    local window = table.move(ids, (i - 1) * length + 1, i * length, 1, {})
    window[1] = bos or window[1]
    return { ids = window, first = length // 2 + 1 }
  end), bos
end

M.protocols["lm-eval"] = function(tokenizer, ids, o)
  local length, bos = o.length, data.bos(tokenizer)
  -- The prefix makes the text's first token a prediction; a text's own BOS is its prefix.
  local all = ids[1] == bos and o.bos ~= "force" and ids or table.move(ids, 1, #ids, 2, { bos })
  local n = #all - 1 -- predictions; the i-th is of all[i + 1]
  return windows_of((n + length - 1) // length, o.limit, function(i)
    local last = math.min(i * length, n)
    local from = math.max(1, last - length + 1)
    return { ids = table.move(all, from, last, 1, {}), first = (i - 1) * length + 2 - from, target = all[last + 1] }
  end), bos
end

---The windows that a protocol makes of a text's ids.
---@param tokenizer massact.Tokenizer
---@param ids integer[]
---@param o {protocol: string, length: integer, bos?: boolean|"force", limit?: integer}
---@return massact.ScoredWindow[], integer? bos
function M.windows(tokenizer, ids, o)
  local make = M.protocols[o.protocol]
  if not make then error(("no perplexity protocol '%s'; there are paper, llama.cpp and lm-eval"):format(tostring(o.protocol)), 0) end
  local windows, bos = make(tokenizer, ids, { length = o.length, bos = o.bos, limit = (o.limit or 0) > 0 and o.limit or math.huge })
  if #windows == 0 then
    error(("the text has %d tokens, fewer than one window of %d; use a longer text or a smaller context"):format(#ids, o.length), 0)
  end
  return windows, bos
end

-- What Python's \s means beyond Lua's, as UTF-8.
local spaces = { "[\x1C-\x1F]", "\xC2[\x85\xA0]", "\xE1\x9A\x80", "\xE2\x80[\x80-\x8A\xA8\xA9\xAF]", "\xE2\x81\x9F", "\xE3\x80\x80" }

---Words as lm-evaluation-harness counts them: what is between runs of white space, nothing at either end included.
---@param text string
---@return integer
function M.n_words(text)
  for _, space in ipairs(spaces) do text = text:gsub(space, " ") end
  return select(2, text:gsub("%s+", "")) + 1
end

return M
