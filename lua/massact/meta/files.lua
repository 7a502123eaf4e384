---@meta

-- Checkpoints and tokenizers, as editors see them.

---@class massact.Checkpoint
local Checkpoint = {}

---@return string[] names of the tensors, in the file's order
function Checkpoint:names() end

---@param name string
---@return boolean
function Checkpoint:has(name) end

---A view of the mapped file; writing to it changes memory, never the file.
---@param name string
---@return massact.Tensor
function Checkpoint:tensor(name) end

---@param name string
---@return integer[]
function Checkpoint:shape(name) end

---@param name string
---@return string
function Checkpoint:dtype(name) end

---@param name string
---@return integer
function Checkpoint:bytes(name) end

---@return "gguf"|"safetensors"
function Checkpoint:format() end

---GGUF's metadata, without arrays of more than 64.
---@return table<string, any>
function Checkpoint:metadata() end

---The keys of GGUF's metadata, in the file's order.
---@return string[]
function Checkpoint:keys() end

---The value of a key of GGUF's metadata, arrays of any length too, and the name of its type (of an array's elements);
---nothing where there is no such key.
---@param key string
---@return any value, string? type "u32", "f32", "string" ...
function Checkpoint:value(key) end

---Tensors made from it stay valid.
function Checkpoint:close() end

---A checkpoint that is being written: core.checkpoint.write_gguf(path, {{key, type, value}, ...}, {{name, dtype, shape}, ...})
---or core.checkpoint.write_safetensors(path, {{name, dtype, shape}, ...}).  Closed without commit, nothing is left behind.
---@class massact.Writer
local Writer = {}

---The next of the tensors that were announced.
---@param name string
---@param tensor massact.Tensor
function Writer:add(name, tensor) end

---After the last: the file appears.
function Writer:commit() end

function Writer:close() end

---@class massact.Tokenizer
---@field bos? integer
---@field eos? integer
local Tokenizer = {}

---Ids as Hugging Face's tokenizers gives them.  Fails for text that is not UTF-8, and for a character that is no token where
---the vocabulary has no unknown token.
---@param text string UTF-8
---@param options? {special?: boolean} add what the tokenizer's template adds
---@return integer[]
function Tokenizer:encode(text, options) end

---Fails for an id outside the vocabulary; bytes that make no character become U+FFFD.
---@param ids integer[]
---@param options? {skip_special?: boolean}
---@return string
function Tokenizer:decode(ids, options) end

---The token as the vocabulary spells it.
---@param id integer
---@return string?
function Tokenizer:token(id) end

---@param token string
---@return integer?
function Tokenizer:id(token) end

---@return integer ids are 0 to size - 1
function Tokenizer:size() end

---@param id integer
---@return boolean
function Tokenizer:is_special(id) end

---SHA-256 of the vocabulary, in hexadecimal: of every id's length and spelling.  Equal ones give ids the same meaning.
---@return string
function Tokenizer:sha256() end

function Tokenizer:close() end

---A token file, mapped: massact.tokens.open(path).  Its format is in core/text/token_file.h.
---@class massact.TokenFile
local TokenFile = {}

---@return massact.TokenInfo
function TokenFile:info() end

---Rows of ids that begin at each of `starts`, behind `bos` where it is given and they do not begin with it.  Fails past the
---file's end, and for an id beyond its vocabulary.
---@param starts integer[] from 0
---@param length integer ids a row, BOS included
---@param dtype "i64"|"i32"
---@param bos? integer
---@return massact.Tensor ids [#starts x length]
function TokenFile:gather(starts, length, dtype, bos) end

function TokenFile:close() end

---A token file that is being written (for lua/massact/tokens.lua): core.tokens.write(path, tokenizer, {bos =, eos =}).
---Closed without commit, nothing is left behind.
---@class massact.TokenWriter
local TokenWriter = {}

---The next part of a document.
---@param text string
---@param ends? boolean the document ends with it
---@param where? string names the text in messages
function TokenWriter:add(text, ends, where) end

---The file appears.
function TokenWriter:commit() end

function TokenWriter:close() end

---Text becoming a tokenizer (for lua/massact/tokenizer.lua): core.tokenizer.trainer(pattern).
---@class massact.TokenizerTrainer
local TokenizerTrainer = {}

---The next part of a document.  Fails for what is not UTF-8.
---@param text string
---@param ends? boolean the document ends with it
---@param where? string names the text in messages
function TokenizerTrainer:add(text, ends, where) end

---Merges until there are vocab_size tokens or no pair occurs min_frequency times; once.
---@param vocab_size integer
---@param min_frequency integer
---@param special string[]
---@return string[] tokens by id + 1
---@return string[] merges "left right", by rank
function TokenizerTrainer:finish(vocab_size, min_frequency, special) end

function TokenizerTrainer:close() end

---A text file, plain, gzip or zstandard, read front to back (for lua/massact/data.lua).
---@class massact.TextFile
local TextFile = {}

---The next line without its newline; nil behind the last.
---@return string?
function TextFile:line() end

---Passes over a line.
---@return boolean there_was_one
function TextFile:skip() end

---The next part of the text, which may end anywhere; nil behind the last.
---@return string?
function TextFile:block() end

---Bytes of the file that have been read, for progress.
---@return integer
function TextFile:at() end

---All that is left.
---@return string
function TextFile:rest() end

function TextFile:close() end
