-- Tokenizers: read from files, or trained on texts and written as Hugging Face's tokenizers have them.
local core = require "massact.core"
local data = require "massact.data"
local settings = require "massact.settings"

local M = { load = core.tokenizer.load }

---@class massact.TokenizerTraining
---@field vocab_size integer tokens in all: special ones, 256 bytes, merged ones
---@field special? string[] special tokens, ids from 0 on ({ "<s>", "</s>" })
---@field bos? string which of them begins a document; default: the first.  false: none
---@field eos? string which of them ends one; default: the second, else the first.  false: none
---@field min_frequency? integer pairs that occur less often are not merged (2)
---@field pattern? string how text is cut into words, inside which tokens stay: "gpt2" (default), "llama3", "qwen2", or a regular
---expression as tokenizer.json has them
---@field out? string folder for tokenizer.json and tokenizer_config.json
---@field field? string of a line of JSONL that holds the text ("text")
---@field data_dir? string where the paper's names are looked for

local declared = {
  vocab_size = { "integer", needed = true, least = 256 }, special = { "table", default = { "<s>", "</s>" } }, bos = { "any" }, eos = { "any" },
  min_frequency = { "integer", default = 2, least = 0 }, pattern = { "string", default = "gpt2" }, out = { "string" }, field = { "string" },
  data_dir = { "string" },
}

-- The special token that an option names.
local function named(special, name, value, default)
  if value == false then return nil end
  if value == nil then return default end
  for _, token in ipairs(special) do if token == value then return value end end
  error(("%s is '%s', which is not among the special tokens"):format(name, tostring(value)), 0)
end

local function checked(options)
  local how = settings.take("tokenizer.train", options, declared)
  local special = how.special
  if how.vocab_size < 256 + #special then
    error(("tokenizer.train: vocab_size is %d, but 256 bytes and %d special tokens are %d already"):format(how.vocab_size, #special,
      256 + #special), 0)
  end
  how.bos = named(special, "bos", how.bos, special[1])
  how.eos = named(special, "eos", how.eos, special[2] or special[1])
  return how
end

-- ---- the files, as Hugging Face's tokenizers and transformers read them ----

local null = core.json.null

local function added_tokens(special)
  local list = core.json.array()
  for i, token in ipairs(special) do
    list[i] = { id = i - 1, content = token, special = true, single_word = false, lstrip = false, rstrip = false, normalized = false }
  end
  return list
end

-- GPT-2's pattern is what ByteLevel does by itself.
local function pre_tokenizer(pattern)
  local bytes = { type = "ByteLevel", add_prefix_space = false, trim_offsets = true, use_regex = pattern == "gpt2" }
  if pattern == "gpt2" then return bytes end
  local split = { type = "Split", pattern = { Regex = core.tokenizer.regex(pattern) }, behavior = "Isolated", invert = false }
  return { type = "Sequence", pretokenizers = { split, bytes } }
end

-- BOS before every text.
local function template(bos, id)
  if not bos then return null end
  local function text(name) return { Sequence = { id = name, type_id = 0 } } end
  local first = { SpecialToken = { id = bos, type_id = 0 } }
  return { type = "TemplateProcessing", single = { first, text "A" }, pair = { first, text "A", first, text "B" },
    special_tokens = { [bos] = { id = bos, ids = { id }, tokens = { bos } } } }
end

local function tokenizer_json(how, tokens, merges)
  local vocabulary = {}
  for i, token in ipairs(tokens) do vocabulary[token] = i - 1 end
  return {
    version = "1.0", truncation = null, padding = null, added_tokens = added_tokens(how.special), normalizer = null,
    pre_tokenizer = pre_tokenizer(how.pattern), post_processor = template(how.bos, vocabulary[how.bos]),
    decoder = { type = "ByteLevel", add_prefix_space = true, trim_offsets = true, use_regex = true },
    model = { type = "BPE", dropout = null, unk_token = null, continuing_subword_prefix = null, end_of_word_suffix = null,
      fuse_unk = false, byte_fallback = false, ignore_merges = false, vocab = vocabulary,
      merges = core.json.array(merges) },
  }
end

local function tokenizer_config(how)
  return { tokenizer_class = "PreTrainedTokenizerFast", bos_token = how.bos, eos_token = how.eos, clean_up_tokenization_spaces = false,
    add_bos_token = how.bos ~= nil }
end

---Trains a byte-level BPE tokenizer on texts (Sennrich et al. 2016, GPT-2's bytes): the merges of Hugging Face's BpeTrainer, the same on
---any number of threads.  Interrupted, it leaves no files.
---@param files string|string[] texts, as --data takes them: .txt, .jsonl, packed ones, the paper's names
---@param options massact.TokenizerTraining
---@return massact.Tokenizer? tokenizer nil without `out`
---@return {tokens: string[], merges: string[]} trained by id + 1; by rank
function M.train(files, options)
  local how = checked(options)
  local trainer <close> = core.tokenizer.trainer(how.pattern)
  data.each(files, { field = how.field, data_dir = how.data_dir, label = "MiB of text" }, function(part, ends, where)
    trainer:add(part, ends, where)
  end)
  local tokens, merges = trainer:finish(how.vocab_size, how.min_frequency, how.special)
  local trained = { tokens = tokens, merges = merges }
  if not how.out then return nil, trained end
  core.system.make_folder(how.out)
  core.json.save(how.out .. "/tokenizer_config.json", tokenizer_config(how))
  core.json.save(how.out .. "/tokenizer.json", tokenizer_json(how, tokens, merges))
  return M.load(how.out), trained
end

return M
