-- Tokens as a reader sees them: the text of one token, leading space included, and bytes that are no character by their
-- numbers.
local M = {}

-- The characters by which byte-level vocabularies spell bytes (GPT-2): printable ones stand for themselves, the others
-- are U+0100 and up, in order.
local byte_of = {}
do
  local next_free = 0x100
  for byte = 0, 255 do
    local is_printable = (byte >= 0x21 and byte <= 0x7E) or (byte >= 0xA1 and byte <= 0xAC) or byte >= 0xAE
    byte_of[is_printable and byte or next_free] = byte
    if not is_printable then next_free = next_free + 1 end
  end
end

-- "<0xE4><0xBD>" for a byte-level spelling; nil where it is none.
local function bytes_of(spelled)
  local out = {}
  if not utf8.len(spelled) then return nil end
  for _, code in utf8.codes(spelled) do
    if not byte_of[code] then return nil end
    out[#out + 1] = ("<0x%02X>"):format(byte_of[code])
  end
  return table.concat(out)
end

-- What a terminal would obey and a picture cannot draw.
local escapes = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }
for code = 0, 0x7F do
  local char = string.char(code)
  if char:find "%c" then escapes[char] = escapes[char] or ("\\x%02x"):format(code) end
end

---A text whose control characters are spelled as Python spells them: "\\n", "\\x1b".
---@param text string
---@return string
function M.escaped(text) return (text:gsub("%c", escapes)) end

---The text of a token; always UTF-8.
---@param tokenizer massact.Tokenizer
---@param id integer
---@return string
function M.text(tokenizer, id)
  local spelled = tokenizer:token(id)
  if not spelled then return ("<%d>"):format(id) end
  if tokenizer:is_special(id) then return spelled end
  local byte = tonumber(spelled:match "^<(0x%x%x)>$")
  if byte then return byte < 0x80 and string.char(byte) or spelled end
  if spelled:find("▁", 1, true) then return (spelled:gsub("▁", " ")) end
  local text = tokenizer:decode({ id }, { skip_special = false })
  return text:find("\u{FFFD}", 1, true) and bytes_of(spelled) or text
end

---The texts of several.
---@param tokenizer massact.Tokenizer
---@param ids integer[]
---@return string[]
function M.list(tokenizer, ids)
  local texts = {}
  for i, id in ipairs(ids) do texts[i] = M.text(tokenizer, id) end
  return texts
end

---Tokens of a sequence as results keep them.
---@param tokenizer massact.Tokenizer
---@param ids integer[] the sequence
---@param positions integer[] from 0
---@return {position: integer, id: integer, token: string}[]
function M.at(tokenizer, ids, positions)
  local list = {}
  for i, p in ipairs(positions) do list[i] = { position = p, id = ids[p + 1], token = M.text(tokenizer, ids[p + 1]) } end
  return list
end

---Labels for the axis of a picture, massive tokens in red.
---@param tokens string[] texts
---@param massive integer[] positions, from 0
---@return table[]
function M.labels(tokens, massive)
  local plot, is_massive, labels = require "massact.plot", {}, {}
  for _, p in ipairs(massive) do is_massive[p] = true end
  for i, text in ipairs(tokens) do labels[i] = plot.token(text, { massive = is_massive[i - 1] }) end
  return labels
end

return M
