-- GGUF metadata of tokenizers that lies: each lie gives one line that names the key.
local massact = require "massact"

local function text(s) return string.pack("<s8", s) end
local function strings(list)
  local items = {}
  for i, s in ipairs(list) do items[i] = text(s) end
  return string.pack("<I4I4I8", 9, 8, #list) .. table.concat(items)
end
local function list(type, format, values)
  local items = {}
  for i, v in ipairs(values) do items[i] = string.pack(format, v) end
  return string.pack("<I4I4I8", 9, type, #values) .. table.concat(items)
end
local function floats(values) return list(6, "<f", values) end
local function integers(values) return list(5, "<i4", values) end
local function u32(n) return string.pack("<I4I4", 4, n) end
local function string_value(s) return string.pack("<I4", 8) .. text(s) end

-- Loads the metadata, a table of keys below tokenizer.ggml.
local function load(keys)
  local parts, n = {}, 0
  for key, value in pairs(keys) do
    parts[#parts + 1] = text("tokenizer.ggml." .. key) .. value
    n = n + 1
  end
  local path = os.tmpname()
  os.rename(path, path .. ".gguf")
  local file = assert(io.open(path .. ".gguf", "wb"))
  file:write("GGUF", string.pack("<I4I8I8", 3, 0, n), table.concat(parts))
  file:close()
  local fine, got = pcall(massact.tokenizer.load, path .. ".gguf")
  os.remove(path .. ".gguf")
  return fine, got
end

local function gpt2()
  return { model = string_value "gpt2", pre = string_value "gpt-2", tokens = strings { "a", "b", "ab", "Ġ", "<s>" },
           token_type = integers { 1, 1, 1, 1, 3 }, merges = strings { "a b" } }
end

local function llama()
  return { model = string_value "llama", tokens = strings { "<unk>", "<s>", "▁", "a", "▁a" }, scores = floats { 0, 0, -3, -2, -1 },
           token_type = integers { 2, 3, 1, 1, 1 }, unknown_token_id = u32(0), bos_token_id = u32(1) }
end

local function refused(make, message, changes)
  local keys = make()
  for key, value in pairs(changes) do keys[key] = value or nil end
  local fine, got = load(keys)
  assert.is_false(fine, message)
  assert.is_nil(got:find "\n")
  assert(got:find(message, 1, true), got .. "\ninstead of\n" .. message)
end

describe("a tokenizer in GGUF", function()
  it("that is good is read", function()
    local fine, tokenizer = load(gpt2())
    assert(fine, tokenizer)
    assert.same({ 2, 3, 0, 4 }, tokenizer:encode "ab a<s>")
    fine, tokenizer = load(llama())
    assert(fine, tokenizer)
    assert.same({ 1, 4, 0 }, tokenizer:encode("aé", { special = true }))
  end)

  it("that lies is refused", function()
    refused(gpt2, "tokenizer.ggml.model = 't5'", { model = string_value "t5" })
    refused(gpt2, "tokenizer.ggml.model is missing or no string", { model = false })
    refused(gpt2, "tokenizer.ggml.model is missing or no string", { model = u32(1) })
    refused(gpt2, "tokenizer.ggml.tokens is missing", { tokens = false, token_type = false })
    refused(gpt2, "tokenizer.ggml.tokens is not a list of strings", { tokens = u32(3), token_type = false })
    refused(gpt2, "tokenizer.ggml.tokens is empty or too long", { tokens = strings {}, token_type = false })
    refused(gpt2, "tokenizer.ggml.tokens has a string that is not UTF-8", { tokens = strings { "a", "b", "ab", "\xFF", "x" } })
    refused(gpt2, "tokenizer.ggml.token_type does not have a number for each token", { token_type = integers { 1 } })
    refused(gpt2, "tokenizer.ggml.token_type is not a list of integers", { token_type = floats { 1, 1, 1, 1, 1.5 } })
    refused(gpt2, "tokenizer.ggml.token_type is not a list of numbers", { token_type = strings { "1", "1", "1", "1", "1" } })
    refused(gpt2, "tokenizer.ggml.merges is missing", { merges = false })
    refused(gpt2, "tokenizer.ggml.merges has an entry that is not two tokens", { merges = strings { "ab" } })
    refused(gpt2, "tokenizer.ggml.merges joins what is not in tokenizer.ggml.tokens", { merges = strings { "b a" } })
    refused(gpt2, "tokenizer.ggml.pre = 'new'", { pre = string_value "new" })
    refused(gpt2, "tokenizer.ggml.pre is not a short string", { pre = string_value(("x"):rep(100)) })
    refused(gpt2, "tokenizer.ggml.bos_token_id is outside the vocabulary", { bos_token_id = u32(5) })
    refused(gpt2, "tokenizer.ggml.eos_token_id is not an integer", { eos_token_id = string_value "1" })
    refused(gpt2, "tokenizer.ggml.add_bos_token is not a bool", { add_bos_token = u32(1) })
    refused(llama, "tokenizer.ggml.scores is missing", { scores = false })
    refused(llama, "tokenizer.ggml.scores does not have a number for each token", { scores = floats { 1 } })
    refused(llama, "tokenizer.ggml.scores has one that is not finite", { scores = floats { 0, 0, 0 / 0, 0, 0 } })
    refused(llama, "tokenizer.ggml.unknown_token_id is outside the vocabulary", { unknown_token_id = u32(4294967295) })
  end)
end)
