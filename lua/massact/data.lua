-- Texts to sequences, as the paper cuts them (official code: consecutive windows, a last short one dropped).
local core = require "massact.core"

local M = {}

---Reads a text file; what is not UTF-8, or empty, is an error.
---@param path string
---@return string
function M.read(path)
  local file, problem = io.open(path, "rb")
  if not file then error(("cannot read text: %s"):format(problem), 0) end
  local text = file:read "a"
  file:close()
  if not text then error(("cannot read text '%s': it is not a file"):format(path), 0) end
  if #text == 0 then error(("text '%s' is empty"):format(path), 0) end
  local fine, at = core.system.check_utf8(text)
  if not fine then
    error(("text '%s' is not UTF-8: byte 0x%02X at offset %d"):format(path, text:byte(at + 1), at), 0)
  end
  return text
end

---The token that stands for BOS: the tokenizer's, else its EOS; neither is an error.
---@param tokenizer massact.Tokenizer
---@return integer
function M.bos(tokenizer)
  return tokenizer.bos or tokenizer.eos
    or error("the tokenizer has neither BOS nor EOS; run with --add_bos_token false", 0)
end

---File name without folder and last extension.
---@param path string
---@return string
function M.stem(path)
  local name = path:match "([^/]+)$"
  return name:match "^(.+)%.[^.]*$" or name
end

---Consecutive windows of `length` tokens of a text.  With BOS a window is BOS and the next length - 1 tokens, so
---that one token a window is never seen; a last short window is dropped.
---@param tokenizer massact.Tokenizer
---@param text string
---@param options {length: integer, bos: boolean, limit?: integer, name?: string} limit 0 or nil: all
---@return integer[][] windows
function M.windows(tokenizer, text, options)
  local length, name = options.length, options.name or "text"
  local ids = tokenizer:encode(text)
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
    if bos then
      windows[i] = table.move(ids, from + 1, from + length - 1, 2, { bos })
    else
      windows[i] = table.move(ids, from + 1, from + length, 1, {})
    end
  end
  return windows
end

return M
