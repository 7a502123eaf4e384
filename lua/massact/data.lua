-- Texts to sequences, as the paper cuts them (official code: consecutive windows, a last short one dropped).
-- Which files a name means is in data/sources.lua.
local core = require "massact.core"
local mix = require("massact.permutation").mix
local sources = require "massact.data.sources"

local M = { resolve = sources.resolve, stem = sources.stem }

M.max_bytes = 1 << 30 -- of all texts together: what is joined and tokenized has to fit into memory

-- ---- documents ----

local function check_text(text, where)
  local fine, at = core.system.check_utf8(text)
  if not fine then error(("text '%s' is not UTF-8: byte 0x%02X at offset %d"):format(where, text:byte(at + 1), at), 0) end
  return text
end

-- Whether a file has a document a line.
local function is_lines(path)
  local name = path:gsub("%.gz$", ""):gsub("%.zst$", "")
  return name:match "%.jsonl$" or name:match "%.ndjson$" or name:match "%.json$"
end

-- The text that a line of JSON holds.
local function field_of(line, field, path, n)
  local where = ("text '%s', line %d"):format(path, n)
  local fine, value = pcall(core.json.parse, line, where)
  if not fine then error((value:gsub(": line 1, column", ": column")), 0) end
  local text = type(value) == "table" and value[field]
  if type(text) == "string" then return text end
  local names = {}
  for name, held in pairs(type(value) == "table" and value or {}) do
    if type(name) == "string" and type(held) == "string" then names[#names + 1] = name end
  end
  table.sort(names)
  error(("%s has no text '%s'; %s"):format(where, field,
    #names > 0 and "--field may name one of: " .. table.concat(names, ", ") or "a line is an object with a field of text"), 0)
end

-- Numbers 0 .. bound - 1 that depend on the seed alone: SplitMix64 (Steele et al. 2014), its upper bits scaled.
local function draw_from(seed)
  local state = seed
  return function(bound)
    state = state + 0x9E3779B97F4A7C15
    return (mix(state) >> 33) * bound >> 31
  end
end

-- The lines to keep: the first ones, or as many drawn at random, each line as likely as any other (Vitter's reservoir).
local function chosen_lines(file, limit, draw)
  local kept, n, seen = {}, 0, 0
  while limit == nil or draw or #kept < limit do
    local place = #kept + 1
    if draw and seen >= limit then place = draw(seen + 1) + 1 end
    n = n + 1
    if place > (limit or math.huge) then
      if not file:skip() then break end
      seen = seen + 1
    else
      local line = file:line()
      if not line then break end
      if line:find "%S" then kept[place], seen = { line, n }, seen + 1 end
    end
  end
  if draw then table.sort(kept, function(a, b) return a[2] < b[2] end) end
  return kept
end

---@class massact.Documents
---@field field? string of a JSON line that holds the text ("text")
---@field limit? integer at most that many documents
---@field seed? integer draw them at random instead of taking the first

---The texts of a file: a line each of .jsonl, .ndjson and .json, else the whole; .gz and .zst are unpacked.  What is not UTF-8, or
---empty, is an error.
---@param path string
---@param options? massact.Documents
---@return string[]
function M.documents(path, options)
  local o = options or {}
  local file <close> = core.text.open(path)
  local texts, bytes = {}, 0
  if is_lines(path) then
    for i, kept in ipairs(chosen_lines(file, o.limit, o.seed and o.limit and draw_from(o.seed))) do
      texts[i] = field_of(kept[1], o.field or "text", path, kept[2])
      bytes = bytes + #texts[i]
      if bytes > M.max_bytes then error(("text '%s' has more than %d bytes of text in its first %d documents"):format(path, M.max_bytes, i), 0) end
    end
  else
    texts[1] = check_text(file:rest(), path)
    bytes = #texts[1]
  end
  if bytes == 0 then error(("text '%s' is empty"):format(path), 0) end
  return texts
end

-- ---- documents one after the other ----

local function each_line(file, path, field, take)
  local where, n = ("text '%s'"):format(path), 0
  for line in function() return file:line() end do
    n = n + 1
    if line:find "%S" then take(field_of(line, field, path, n), true, where) end
  end
end

local function each_block(file, path, take)
  local where = ("text '%s'"):format(path)
  for block in function() return file:block() end do take(block, false, where) end
  take("", true, where)
end

-- One file, and how far into it: `read` gets bytes of the file.
local function each_of(path, o, take, read)
  local file <close> = core.text.open(path)
  local bytes = 0
  local function counted(text, ends, where)
    bytes = bytes + #text
    take(text, ends, where)
    read(file:at())
  end
  if is_lines(path) then each_line(file, path, o.field or "text", counted)
  else each_block(file, path, counted) end
  if bytes == 0 then error(("text '%s' is empty"):format(path), 0) end
end

local megabyte = 1 << 20

---Hands over all documents of the files that `spec` means, part after part, however large they are: take(part, ends, where), where
---`ends` comes with a document's last part and `where` names the file for messages.  Parts are not checked to be UTF-8, and may end
---inside a character.
---@param spec string|string[] as text takes it
---@param options? {field?: string, data_dir?: string, seed?: integer, label?: string} label: of the progress line, in MiB of files
---@param take fun(part: string, ends: boolean, where: string)
function M.each(spec, options, take)
  local o, found, total = options or {}, {}, 0
  for i, each in ipairs(type(spec) == "table" and spec or { spec }) do
    found[i] = sources.resolve(each, o)
    for _, path in ipairs(found[i].files) do total = total + (core.system.stamp(path) or 0) end
  end
  local progress <close> = core.system.progress(o.label or "MiB of text", total // megabyte)
  local done = 0
  for _, source in ipairs(found) do
    local limit = source.max_documents
    for _, path in ipairs(source.files) do
      if limit then
        local how = { field = o.field, limit = limit, seed = source.draw and (o.seed or 42) or nil }
        for _, text in ipairs(M.documents(path, how)) do take(text, true, ("text '%s'"):format(path)) end
      else
        each_of(path, o, take, function(at) progress:update((done + at) // megabyte) end)
      end
      done = done + (core.system.stamp(path) or 0)
    end
  end
end

---One text of a file; see documents.
---@param path string
---@return string
function M.read(path) return table.concat(M.documents(path), "\n\n") end

---@class massact.TextOptions
---@field field? string
---@field data_dir? string where the paper's names are looked for
---@field seed? integer of what is drawn at random (42)
---@field join? string between documents; default: what the paper has for the name

---The text that a file or one of the paper's names means, or several of them (joined as the first one's documents are).
---@param spec string|string[]
---@param options? massact.TextOptions
---@return string text, massact.Source[] sources
function M.text(spec, options)
  local o, texts, found = options or {}, {}, {}
  for i, each in ipairs(type(spec) == "table" and spec or { spec }) do
    local source = sources.resolve(each, o)
    found[i] = source
    local how = { field = o.field, limit = source.max_documents, seed = source.draw and (o.seed or 42) or nil }
    for _, path in ipairs(source.files) do
      for _, text in ipairs(M.documents(path, how)) do texts[#texts + 1] = text end
    end
  end
  return table.concat(texts, o.join or found[1] and found[1].join or ""), found
end

-- ---- windows ----

---The token that stands for BOS: the tokenizer's, else its EOS; neither is an error.
---@param tokenizer massact.Tokenizer
---@return integer
function M.bos(tokenizer)
  return tokenizer.bos or tokenizer.eos
    or error("the tokenizer has neither BOS nor EOS; run with --add_bos_token false", 0)
end

---Consecutive windows of `length` tokens of a text.  With BOS a window is BOS and the next length - 1 tokens, so
---that one token a window is never seen; a last short window is dropped.  A window whose own tokens begin with BOS is taken as it is,
---unless `bos` is "force".
---@param tokenizer massact.Tokenizer
---@param text string|integer[] or its token ids
---@param options {length: integer, bos: boolean|"force", limit?: integer, name?: string} limit 0 or nil: all
---@return integer[][] windows
function M.windows(tokenizer, text, options)
  local length, name = options.length, options.name or "text"
  local ids = type(text) == "table" and text or tokenizer:encode(text)
  local limit = options.limit and options.limit > 0 and options.limit or math.huge
  local count = math.min(#ids // length, limit)
  if count == 0 then
    error(("%s has %d tokens, fewer than one window of %d; use a longer text or a smaller --context_length"):format(
      name, #ids, length), 0)
  end
  local bos = options.bos and M.bos(tokenizer)
  local windows = {}
  for i = 1, count do
    local from = (i - 1) * length
    if bos and (ids[from + 1] ~= bos or options.bos == "force") then
      windows[i] = table.move(ids, from + 1, from + length - 1, 2, { bos })
    else
      windows[i] = table.move(ids, from + 1, from + length, 1, {})
    end
  end
  return windows
end

return M
