-- Tokenizers between Hugging Face's tokenizer.json and GGUF's tokenizer.ggml.* keys (gguf.md, "Tokenizer"): byte-level
-- BPE ("gpt2": tokens and merges, the pre-tokenizer by name) and SentencePiece's BPE ("llama": tokens and scores).
local core = require "massact.core"

local M = {}

local types = { normal = 1, unknown = 2, control = 3, user = 4, unused = 5, byte = 6 }
local mark = "\u{2581}" -- SentencePiece's blank

-- ---- pre-tokenizers: llama.cpp's name, and what tokenizer.json says ----

local split = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|%s| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
local pre_tokenizers = {
  { name = "gpt-2" },
  { name = "smollm", has_digits = true },
  { name = "llama-bpe", regex = split:format "\\p{N}{1,3}", ignores_merges = true },
  { name = "qwen2", regex = split:format "\\p{N}", normalizer = "NFC" },
}
local synonyms = { ["gpt2"] = "gpt-2", ["phi-2"] = "gpt-2", olmo = "gpt-2", llama3 = "llama-bpe", ["llama-v3"] = "llama-bpe" }

-- The steps of a Sequence, or the one step that stands alone.
local function steps(step, field)
  if type(step) ~= "table" then return {} end
  return step.type == "Sequence" and step[field] or { step }
end

-- What a tokenizer.json's pre-tokenizer does, in the words of the list above; nil: something else.
local function pre_tokenizer_of(json)
  local seen = {}
  for _, step in ipairs(steps(json.pre_tokenizer, "pretokenizers")) do
    if step.type == "Split" and step.behavior == "Isolated" and not step.invert and step.pattern then seen.regex = step.pattern.Regex
    elseif step.type == "Digits" and step.individual_digits then seen.has_digits = true
    elseif step.type ~= "ByteLevel" or step.add_prefix_space then return nil
    elseif (step.use_regex == false) ~= (seen.regex ~= nil) then return nil end
  end
  local normalizer = type(json.normalizer) == "table" and json.normalizer.type or nil
  for _, known in ipairs(pre_tokenizers) do
    if known.regex == seen.regex and known.has_digits == seen.has_digits and known.normalizer == normalizer
      and (known.ignores_merges or false) == (json.model.ignore_merges == true) then
      return known.name
    end
  end
end

-- Whether blanks become SentencePiece's mark, and whether one is put in front; nil: the text is rewritten otherwise.
local function sentencepiece_prefix(json)
  local replaces, prefix = false, false
  for _, step in ipairs(steps(json.normalizer, "normalizers")) do
    if step.type == "Prepend" and step.prepend == mark then prefix = true
    elseif step.type == "Replace" and step.pattern.String == " " and step.content == mark then replaces = true
    else return nil end
  end
  for _, step in ipairs(steps(json.pre_tokenizer, "pretokenizers")) do
    if step.type == "Metaspace" and step.replacement == mark and step.split == false then
      replaces, prefix = true, step.prepend_scheme ~= "never"
    elseif not (step.type == "Split" and step.pattern.String == " " and replaces) then return nil end -- there are none left
  end
  if replaces then return prefix end
end

-- ---- from tokenizer.json ----

local function pair_of(merge)
  if type(merge) == "table" then return merge[1], merge[2] end
  return merge:match "^(.-) (.*)$"
end

-- Tokens and their types by id (from 1), padded to the rows of the embedding.
local function tokens_of(json, n_rows)
  local tokens, kinds = {}, {}
  for text, id in pairs(json.model.vocab) do
    tokens[id + 1] = text
    kinds[id + 1] = text == json.model.unk_token and types.unknown
      or json.model.byte_fallback and text:match "^<0x%x%x>$" and types.byte or types.normal
  end
  for _, added in ipairs(json.added_tokens or {}) do
    tokens[added.id + 1] = added.content
    if kinds[added.id + 1] ~= types.unknown then kinds[added.id + 1] = added.special and types.control or types.user end
  end
  for i = 1, n_rows do
    if not tokens[i] then tokens[i], kinds[i] = ("[PAD%d]"):format(i - 1), types.unused end
  end
  return tokens, kinds
end

local function merges_of(json)
  local merges = {}
  for i, merge in ipairs(json.model.merges) do
    local a, b = pair_of(merge)
    merges[i] = a .. " " .. b
  end
  return merges
end

-- SentencePiece joins the pair whose result has the highest score: the earlier merge the higher.
local function scores_of(json, tokens)
  local score, scores = {}, {}
  for rank, merge in ipairs(json.model.merges) do
    local a, b = pair_of(merge)
    score[a .. b] = score[a .. b] or -rank
  end
  for i, token in ipairs(tokens) do scores[i] = score[token] or -1e6 end
  return scores
end

-- The keys of a tokenizer.json, a function that adds one, and the tokens' types; or nil and what GGUF has no word for.
local function of_json(json, model)
  if type(json.model) ~= "table" or json.model.type ~= "BPE" then return nil, "it is no BPE" end
  local tokens, kinds = tokens_of(json, model.vocab_size)
  local pairs_ = {}
  local function put(key, type, value) pairs_[#pairs_ + 1] = { "tokenizer.ggml." .. key, type, value } end
  if json.model.byte_fallback then
    local prefix = sentencepiece_prefix(json)
    if prefix == nil then return nil, "its normaliser has no name in GGUF" end
    put("model", "string", "llama")
    put("pre", "string", "default")
    put("tokens", "string", tokens)
    put("scores", "f32", scores_of(json, tokens))
    put("add_space_prefix", "bool", prefix)
  else
    local pre = pre_tokenizer_of(json)
    if not pre then return nil, "its pre-tokenizer has no name in GGUF that massact knows" end
    put("model", "string", "gpt2")
    put("pre", "string", pre)
    put("tokens", "string", tokens)
    put("merges", "string", merges_of(json))
  end
  put("token_type", "i32", kinds)
  return pairs_, put, kinds
end

local none = { { "tokenizer.ggml.model", "string", "none" } }

-- A GGUF file's own keys, as they are.
local function copied(checkpoint)
  local pairs_ = {}
  for _, key in ipairs(checkpoint:keys()) do
    if key:find "^tokenizer%." then
      local value, type = checkpoint:value(key)
      pairs_[#pairs_ + 1] = { key, type, value }
    end
  end
  return pairs_
end

---The metadata of a model's tokenizer.
---@param model massact.Model
---@return table[] pairs {key, type, value}
---@return string? problem why there is none
function M.to_gguf(model)
  if model.checkpoint:format() == "gguf" then return copied(model.checkpoint) end
  local folder = core.system.is_folder(model.path) and model.path or model.path:match "^(.*)/[^/]*$" or "."
  local file = folder .. "/tokenizer.json"
  if not core.system.exists(file) then return none, "the file has no tokenizer: there is no " .. file end
  local pairs_, put, kinds = of_json(core.json.load(file), model)
  if not pairs_ then return none, ("the file has no tokenizer: %s: %s"):format(file, put) end
  local tokenizer = model.tokenizer
  local added = tokenizer:encode("", { special = true })
  if tokenizer.bos then put("bos_token_id", "u32", tokenizer.bos) end
  if tokenizer.eos then put("eos_token_id", "u32", tokenizer.eos) end
  for i, kind in ipairs(kinds) do
    if kind == types.unknown then put("unknown_token_id", "u32", i - 1) end
  end
  put("add_bos_token", "bool", tokenizer.bos ~= nil and added[1] == tokenizer.bos)
  put("add_eos_token", "bool", tokenizer.eos ~= nil and #added > 0 and added[#added] == tokenizer.eos)
  return pairs_
end

-- ---- to tokenizer.json ----

local array = core.json.array

local function characters(text)
  local starts = {}
  for at in utf8.codes(text) do starts[#starts + 1] = at end
  return starts
end

-- Every way to join two tokens to a third, the best score first; pairs of one token by their ids.
local function merges_of_scores(tokens, kinds, scores)
  local id, merges = {}, {}
  for i, token in ipairs(tokens) do id[token] = i end
  for i, token in ipairs(tokens) do
    local starts = kinds[i] == types.normal and characters(token) or {}
    for c = 2, #starts do
      local a, b = token:sub(1, starts[c] - 1), token:sub(starts[c])
      if id[a] and id[b] then merges[#merges + 1] = { a, b, scores[i], id[a], id[b] } end
    end
  end
  table.sort(merges, function(x, y)
    if x[3] ~= y[3] then return x[3] > y[3] end
    if x[4] ~= y[4] then return x[4] < y[4] end
    return x[5] < y[5]
  end)
  for i, merge in ipairs(merges) do merges[i] = { merge[1], merge[2] } end
  return merges
end

local function of_pattern(text) return { String = text } end

local function sentencepiece(checkpoint, tokens, kinds)
  local scores = checkpoint:value "tokenizer.ggml.scores"
  local has_prefix = checkpoint:value "tokenizer.ggml.add_space_prefix" ~= false
  local unknown = checkpoint:value "tokenizer.ggml.unknown_token_id"
  local normalizers, decoders = { { type = "Replace", pattern = of_pattern " ", content = mark } }, {
    { type = "Replace", pattern = of_pattern(mark), content = " " }, { type = "ByteFallback" }, { type = "Fuse" },
  }
  if has_prefix then
    table.insert(normalizers, 1, { type = "Prepend", prepend = mark })
    decoders[4] = { type = "Strip", content = " ", start = 1, stop = 0 }
  end
  return {
    normalizer = { type = "Sequence", normalizers = normalizers }, pre_tokenizer = core.json.null,
    decoder = { type = "Sequence", decoders = decoders },
    model = { unk_token = unknown and tokens[unknown + 1] or core.json.null, fuse_unk = true, byte_fallback = true,
      ignore_merges = false, merges = array(merges_of_scores(tokens, kinds, scores)) },
  }
end

local function byte_level(checkpoint)
  local name = checkpoint:value "tokenizer.ggml.pre" or "default"
  local known
  for _, each in ipairs(pre_tokenizers) do if each.name == (synonyms[name] or name) then known = each end end
  if not known then return nil, ("pre-tokenizer '%s'"):format(tostring(name)) end
  local steps_ = {}
  if known.has_digits then steps_[1] = { type = "Digits", individual_digits = true } end
  if known.regex then steps_[1] = { type = "Split", pattern = { Regex = known.regex }, behavior = "Isolated", invert = false } end
  local function level(uses_regex) return { type = "ByteLevel", add_prefix_space = false, trim_offsets = true, use_regex = uses_regex } end
  steps_[#steps_ + 1] = level(known.regex == nil)
  local merges = {}
  for i, merge in ipairs(checkpoint:value "tokenizer.ggml.merges") do
    -- The blank after the first character, which may itself be one.
    local at = merge:find(" ", 2, true)
    merges[i] = { merge:sub(1, at - 1), merge:sub(at + 1) }
  end
  return {
    normalizer = known.normalizer and { type = known.normalizer } or core.json.null,
    pre_tokenizer = { type = "Sequence", pretokenizers = steps_ }, decoder = level(true),
    model = { unk_token = core.json.null, fuse_unk = false, byte_fallback = false,
      ignore_merges = known.ignores_merges or false, merges = array(merges) },
  }
end

-- A template that puts BOS before and EOS behind, as far as the file says so.
local function post_processor(checkpoint, tokens, is_llama)
  local template, special = { { Sequence = { id = "A", type_id = 0 } } }, {}
  local function add(key, otherwise, place)
    local id, adds = checkpoint:value("tokenizer.ggml." .. key .. "_token_id"), checkpoint:value("tokenizer.ggml.add_" .. key .. "_token")
    if adds == nil then adds = otherwise end
    if not id or not adds then return end
    local token = tokens[id + 1]
    special[token] = { id = token, ids = { id }, tokens = { token } }
    table.insert(template, place(#template), { SpecialToken = { id = token, type_id = 0 } })
  end
  add("bos", is_llama, function() return 1 end)
  add("eos", false, function(n) return n + 1 end)
  if #template == 1 then return core.json.null end
  return { type = "TemplateProcessing", single = template, pair = template, special_tokens = special }
end

local function added_tokens(tokens, kinds)
  local added = {}
  for i, token in ipairs(tokens) do
    if kinds[i] == types.control or kinds[i] == types.user or kinds[i] == types.unknown then
      added[#added + 1] = { id = i - 1, content = token, special = kinds[i] ~= types.user, single_word = false, lstrip = false,
        rstrip = false, normalized = false }
    end
  end
  return array(added)
end

local function of_gguf(checkpoint)
  local kind = checkpoint:value "tokenizer.ggml.model"
  local tokens, kinds = checkpoint:value "tokenizer.ggml.tokens", checkpoint:value "tokenizer.ggml.token_type" or {}
  local json, problem
  if kind == "llama" then json = sentencepiece(checkpoint, tokens, kinds)
  elseif kind == "gpt2" then json, problem = byte_level(checkpoint)
  else problem = ("tokenizer.ggml.model '%s'"):format(tostring(kind)) end
  if not json then return nil, problem end
  json.model.type, json.model.vocab = "BPE", {}
  for i, token in ipairs(tokens) do
    if kinds[i] ~= types.unused then json.model.vocab[token] = i - 1 end
  end
  json.version = "1.0"
  json.added_tokens = added_tokens(tokens, kinds)
  json.post_processor = post_processor(checkpoint, tokens, kind == "llama")
  return json
end

local function read(path)
  local file <close> = io.open(path, "rb")
  return file and file:read "a"
end

---The files of a model's tokenizer, for a Hugging Face folder.
---@param model massact.Model
---@return table<string, string> files text by name
---@return string? problem why there are none
function M.to_folder(model)
  local checkpoint, files = model.checkpoint, {}
  if checkpoint:format() ~= "gguf" then
    local folder = core.system.is_folder(model.path) and model.path or model.path:match "^(.*)/[^/]*$" or "."
    for _, name in ipairs { "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json" } do
      files[name] = read(folder .. "/" .. name)
    end
    return files
  end
  -- What it says has been checked, list by list, once it can be loaded.
  local fine, tokenizer = pcall(core.tokenizer.load, model.path)
  if not fine then return files, ("the folder has no tokenizer: %s"):format(tokenizer) end
  local json, problem = of_gguf(checkpoint)
  if not json then return files, ("the folder has no tokenizer: %s: %s is not known"):format(model.path, problem) end
  files["tokenizer.json"] = core.json.text(json)
  local function token(id) return id and tokenizer:token(id) end
  files["tokenizer_config.json"] = core.json.text {
    tokenizer_class = "PreTrainedTokenizerFast", bos_token = token(tokenizer.bos), eos_token = token(tokenizer.eos),
    chat_template = checkpoint:value "tokenizer.chat_template",
  }
  return files
end

return M
