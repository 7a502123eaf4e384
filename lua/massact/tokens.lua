-- Token files: the ids of texts, written once and mapped by a loader (massact.loader).  The format is in core/text/token_file.h.
local core = require "massact.core"
local data = require "massact.data"
local settings = require "massact.settings"

local M = {}

---@class massact.TokenInfo
---@field n_tokens integer
---@field n_documents integer
---@field vocab_size integer every id is below it
---@field id_bytes integer 2 or 4
---@field bos? integer id before every document
---@field eos? integer id behind every document
---@field sha256 string of the vocabulary: tokenizer:sha256()

---Opens a token file: `file:info()`, `file:gather(starts, length, dtype, bos)`.
---@param path string
---@return massact.TokenFile
function M.open(path) return core.tokens.open(path) end

local declared = {
  bos = { "boolean" }, eos = { "boolean", default = false }, field = { "string" }, data_dir = { "string" }, seed = { "integer" },
}

-- The id that stands at the edge of every document, if one is wanted.
local function edge(tokenizer, name, is_wanted)
  if not is_wanted then return nil end
  return tokenizer[name] or error(("tokens.write: %s = true, but the tokenizer has no %s"):format(name, name:upper()), 0)
end

---Encodes the documents of texts into one token file, on all threads and with little memory.  It appears when it is complete.
---@param path string
---@param tokenizer massact.Tokenizer
---@param texts string|string[] as --data takes them: .txt (one document), .jsonl (a document a line), packed ones, the paper's names
---@param options? {bos?: boolean, eos?: boolean, field?: string, data_dir?: string, seed?: integer} bos, eos: before, behind every
---document; by default BOS where the tokenizer has one, and no EOS
---@return massact.TokenInfo
function M.write(path, tokenizer, texts, options)
  local o = settings.take("tokens.write", options, declared)
  if o.bos == nil then o.bos = tokenizer.bos ~= nil end
  local writer <close> = core.tokens.write(path, tokenizer, { bos = edge(tokenizer, "bos", o.bos), eos = edge(tokenizer, "eos", o.eos) })
  data.each(texts, { field = o.field, data_dir = o.data_dir, seed = o.seed, label = "tokens: MiB of text" }, function(part, ends, where)
    writer:add(part, ends, where)
  end)
  writer:commit()
  local file <close> = core.tokens.open(path)
  return file:info()
end

return M
