-- tokenizer.json files that lie: each gives one line that names file, section and component, and nothing else.
local massact = require "massact"
local null = massact.null

-- A good file, which each case changes.
local function good()
  return {
    version = "1.0", added_tokens = { { id = 5, content = "<s>", special = true } },
    model = { type = "BPE", unk_token = "a", vocab = { a = 0, b = 1, c = 2, ab = 3, abc = 4 }, merges = { "a b", { "ab", "c" } } },
  }
end

local function unigram() return { type = "Unigram", unk_id = 0, vocab = { { "<unk>", 0 }, { "a", -1 }, { "ab", -1.5 } } } end

local function with_file(text, action)
  local path = os.tmpname()
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
  local fine, result = pcall(massact.tokenizer.load, path)
  os.remove(path)
  return action(fine, result, path)
end

local function encode(value)
  local path = os.tmpname()
  massact.json.save(path, value)
  local text = assert(io.open(path)):read "a"
  os.remove(path)
  return text
end

-- Loads what `change` makes of the good file and expects the message.
local function refused(message, change)
  local value = good()
  value = change(value) or value
  with_file(type(value) == "string" and value or encode(value), function(fine, got, path)
    assert.is_false(fine, message)
    assert.equal("string", type(got))
    assert.is_nil(got:find "\n")
    assert(got:find(path, 1, true), got)
    assert(got:find(message, 1, true), got .. "\ninstead of\n" .. message)
  end)
end

local function split(regex) return { type = "Split", pattern = { Regex = regex }, behavior = "Isolated", invert = false } end

local function loads(value) return with_file(encode(value), function(fine, got) return assert(fine and got, got) end) end

describe("a tokenizer.json", function()
  it("that is good is read", function()
    assert.same({ 5, 4, 0 }, loads(good()):encode "<s>abcz")
    local value = good()
    value.model, value.added_tokens = unigram(), nil
    assert.same({ 2, 0 }, loads(value):encode "abzz")
    -- An unknown character costs 10 more than the worst token.
    value.model.vocab = { { "<unk>", 0 }, { "bc", 8 }, { "abc", -1 } }
    assert.same({ 2 }, loads(value):encode "abc")
    value.model.vocab[2][2] = 11
    assert.same({ 0, 1 }, loads(value):encode "abc")
  end)

  it("of the wrong shape is refused", function()
    refused("line 1, column 2: ']' expected", function() return "[1" end)
    refused("the file: is no object", function() return "[]" end)
    refused("version '2.0' is not 1.0", function(v) v.version = "2.0" end)
    refused("version is no string", function(v) v.version = 1 end)
    refused("model: is missing or no object", function(v) v.model = nil end)
    refused("model: is missing or no object", function(v) v.model = "BPE" end)
    refused("model 'WordPiece' is not supported", function(v) v.model.type = "WordPiece" end)
    refused("model: type is no string", function(v) v.model.type = 1 end)
    refused("normalizer: a component is not an object", function(v) v.normalizer = 3 end)
    refused("normalizer: type is missing", function(v) v.normalizer = { x = 1 } end)
    refused("normalizer 'BertNormalizer' is not supported", function(v) v.normalizer = { type = "BertNormalizer" } end)
    refused("pre_tokenizer 'UnicodeScripts' is not supported", function(v) v.pre_tokenizer = { type = "UnicodeScripts" } end)
    refused("decoder 'WordPiece' is not supported", function(v) v.decoder = { type = "WordPiece" } end)
    refused("post_processor 'New' is not supported", function(v) v.post_processor = { type = "New" } end)
    refused("pre_tokenizer 'Sequence': pretokenizers is no list", function(v) v.pre_tokenizer = { type = "Sequence" } end)
    refused("Sequences are nested deeper than 32", function(v)
      v.normalizer = { type = "NFC" }
      for _ = 1, 60 do v.normalizer = { type = "Sequence", normalizers = { v.normalizer } } end
    end)
    refused("maximum parsing depth", function()
      return '{"normalizer":' .. ('{"type":"Sequence","normalizers":['):rep(100000) .. "1"
    end)
  end)

  it("with a bad BPE model is refused", function()
    local function model(message, change) refused(message, function(v) change(v.model) end) end
    model("model 'BPE': vocab is not an object", function(m) m.vocab = 1 end)
    model("model 'BPE': vocab is empty", function(m) m.vocab = {} end)
    model("no usable id for token 'a'", function(m) m.vocab.a = -1 end)
    model("no usable id for token 'a'", function(m) m.vocab.a = "0" end)
    model("no usable id for token 'a'", function(m) m.vocab.a = 1 << 40 end)
    model("no usable id for token 'a?b'", function(m) m.vocab["a\nb"] = -1 end)
    model("vocab has ids far beyond its size", function(m) m.vocab.a = 1 << 20 end)
    model("vocab gives id 1 to '", function(m) m.vocab.a = 1 end)
    model("merges is no list", function(m) m.merges = 1 end)
    model("merges has an entry that is not two tokens (number 0)", function(m) m.merges = { "ab" } end)
    model("merges has an entry that is not two tokens (number 0)", function(m) m.merges = { "a b c" } end)
    model("merges has an entry that is not two tokens (number 1)", function(m) m.merges[2] = { "a", "b", "c" } end)
    model("merges has an entry that is not two tokens (number 1)", function(m) m.merges[2] = { "a", 1 } end)
    model("merges makes 'ax' (number 1) of what is not in vocab", function(m) m.merges[2] = "a x" end)
    model("merges makes 'ba' (number 1) of what is not in vocab", function(m) m.merges[2] = "b a" end)
    model("byte_fallback is neither true nor false", function(m) m.byte_fallback = 1 end)
    model("dropout is not supported", function(m) m.dropout = 0.1 end)
    model("end_of_word_suffix is not supported", function(m) m.end_of_word_suffix = "</w>" end)
    model("continuing_subword_prefix is not supported", function(m) m.continuing_subword_prefix = "##" end)
    refused("duplicate object key", function() return '{"model":{"type":"BPE","vocab":{"a":0,"a":1},"merges":[]}}' end)
    refused("byte_fallback beside a ByteLevel pre_tokenizer is not supported", function(v)
      v.model.byte_fallback, v.pre_tokenizer = true, { type = "ByteLevel" }
    end)
  end)

  it("with a bad unigram model is refused", function()
    local function model(message, change)
      refused(message, function(v)
        v.model, v.added_tokens = unigram(), nil
        change(v.model)
      end)
    end
    model("model 'Unigram': vocab is no list", function(m) m.vocab = { a = 1 } end)
    model("model 'Unigram': vocab is empty", function(m) m.vocab = massact.json.array {} end)
    model("not [token, score] (number 1)", function(m) m.vocab[2] = { "a" } end)
    model("not [token, score] (number 1)", function(m) m.vocab[2] = { 1, "a" } end)
    model("unk_id is not in vocab", function(m) m.unk_id = 3 end)
    model("unk_id is not in vocab", function(m) m.unk_id = -1 end)
    model("unk_id is not in vocab", function(m) m.unk_id = "a" end)
  end)

  it("with bad added tokens is refused", function()
    local function added(message, change) refused(message, function(v) change(v.added_tokens[1], v) end) end
    added("added_tokens: is no list", function(_, v) v.added_tokens = 1 end)
    added("one has no content", function(a) a.content = 1 end)
    added("no usable id for token '<s>'", function(a) a.id = nil end)
    added("id of '<s>' is far beyond the vocabulary", function(a) a.id = 100000000 end)
    added("'<s>' has id 4, which 'abc' has too", function(a) a.id = 4 end)
    added("'abc' has id 5 here and 4 in model.vocab", function(a) a.content = "abc" end)
    added("special is neither true nor false", function(a) a.special = "yes" end)
    added("id 5 is there twice", function(a, v) v.added_tokens[2] = a end)
    added("the normalizer leaves nothing of '  '", function(a, v)
      a.content, a.normalized, v.normalizer = "  ", true, { type = "Strip" }
    end)
  end)

  it("with bad fields in components is refused", function()
    local function component(section, message, c) refused(message, function(v) v[section] = c end) end
    component("normalizer", "normalizer 'Prepend': prepend is missing", { type = "Prepend" })
    component("normalizer", "normalizer 'Replace': pattern is neither", { type = "Replace", content = "" })
    component("normalizer", "normalizer 'Replace': a pattern is an empty string", { type = "Replace", pattern = { String = "" }, content = "" })
    component("normalizer", "strip_left is neither true nor false", { type = "Strip", strip_left = 1 })
    component("normalizer", "precompiled_charsmap is not base64", { type = "Precompiled", precompiled_charsmap = "a*==" })
    component("normalizer", "precompiled_charsmap is too short", { type = "Precompiled", precompiled_charsmap = "AAAA" })
    component("normalizer", "precompiled_charsmap: a trie of 4294967295 bytes in 9", { type = "Precompiled", precompiled_charsmap = "/////wAAAAAA" })
    component("pre_tokenizer", "pre_tokenizer 'Split': behavior is missing", { type = "Split", pattern = { String = "a" } })
    component("pre_tokenizer", "behavior 'Other' is unknown", { type = "Split", pattern = { String = "a" }, behavior = "Other" })
    component("pre_tokenizer", "replacement is not one character", { type = "Metaspace", replacement = "ab" })
    component("pre_tokenizer", "replacement has a NUL in it", { type = "Metaspace", replacement = "\0" })
    component("pre_tokenizer", "prepend_scheme 'some' is unknown", { type = "Metaspace", replacement = "_", prepend_scheme = "some" })
    component("pre_tokenizer", "contradict each other", { type = "Metaspace", replacement = "_", prepend_scheme = "first", add_prefix_space = false })
    component("pre_tokenizer", "delimiter is missing", { type = "CharDelimiterSplit" })
    component("pre_tokenizer", "individual_digits is neither", { type = "Digits", individual_digits = "no" })
    component("decoder", "decoder 'Strip': start is no count", { type = "Strip", content = "a", start = -1 })
    component("decoder", "decoder 'Replace': content is missing", { type = "Replace", pattern = { String = "a" } })
    component("post_processor", "single is no list", { type = "TemplateProcessing", special_tokens = null })
    component("post_processor", "single has the text 0 times", { type = "TemplateProcessing", single = massact.json.array {} })
    component("post_processor", "special_tokens has no ids for 'x'", { type = "TemplateProcessing", single = { { SpecialToken = { id = "x" } } } })
    component("post_processor", "the id of 'x' is outside the vocabulary", { type = "TemplateProcessing",
      single = { { SpecialToken = { id = "x" } } }, special_tokens = { x = { ids = { 6 } } } })
    component("post_processor", "cls is not [token, id]", { type = "BertProcessing" })
  end)

  it("with a bad regular expression is refused", function()
    local function regex(message, text) refused(message, function(v) v.pre_tokenizer = split(text) end) end
    regex("pre_tokenizer 'Split': regular expression 'a(b': a group without its end", "a(b")
    regex("a closing parenthesis alone", "a)b")
    regex("a class without its end", "[a-z")
    regex("a range that runs backwards", "[z-a]")
    regex("\\1 is not supported", "(a)\\1")
    regex("\\K is not supported", "a\\K")
    regex("\\p without braces", "\\pL")
    regex("unknown property", "\\p{Nothing}")
    regex("a quantifier of nothing", "*a")
    regex("(*...) is not supported", "(*FAIL)")
    regex("a group or option of that kind", "(?x)a b")
    regex("nesting that deep", ("("):rep(1000))
    regex("a class nested deeper than 20", ("[a"):rep(1000))
    regex("several without case", "(?i)strasse")
    regex("a class with && or a negated one inside", "(?i)[a-z&&[^e]]")
    regex("a quantifier of nothing or of a quantifier", "a{2}{3}")
    regex("a quantifier of nothing or of a quantifier", "a**")
  end)
end)

describe("a pattern that backtracks without end", function()
  it("is an error, not a hang", function()
    local value = good()
    value.pre_tokenizer = split "(?:a+)+(?:a+)+(?:a+)+$"
    local tokenizer = loads(value)
    assert.same({ 0, 0 }, tokenizer:encode "aa")
    local before = massact.system.clock()
    local fine, message = pcall(tokenizer.encode, tokenizer, ("a"):rep(5000) .. "b")
    assert.is_false(fine)
    assert.matches("matching a pattern stopped behind byte 0: ", message)
    assert(massact.system.clock() - before < 30)
  end)

  it("may be long where it is harmless", function()
    local value = good()
    value.pre_tokenizer = split "(?:a|b)*c"
    assert.equal(1, #loads(value):encode(("a"):rep(1) .. "bc"))
    assert.equal(100001, #loads(value):encode(("b"):rep(100000) .. "c"))
  end)
end)

describe("an unknown character", function()
  it("is an error where the vocabulary lacks the unknown token", function()
    local value = good()
    value.model.unk_token = "<unk>"
    local tokenizer = loads(value)
    assert.same({ 4 }, tokenizer:encode "abc")
    local fine, message = pcall(tokenizer.encode, tokenizer, "abé")
    assert.is_false(fine)
    assert.matches("the text has U%+00E9, which is no token", message)
    value.model, value.added_tokens = unigram(), nil
    value.model.unk_id = null
    fine, message = pcall(function() loads(value):encode "é" end)
    assert.is_false(fine)
    assert.matches("no unk_id", message)
  end)
end)

describe("a precompiled charsmap that lies", function()
  -- A trie of four units that point anywhere: whatever they say, walking them stays inside.
  it("changes text or not, but never fails", function()
    local digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    math.randomseed(3)
    for _ = 1, 300 do
      local random = {}
      for i = 1, 40 do
        local k = math.random(64)
        random[i] = digits:sub(k, k)
      end
      local value = good()
      value.normalizer = { type = "Precompiled", precompiled_charsmap = "EAAAAA" .. table.concat(random):sub(1, 18) .. "AAAA" .. "YWIAYwBk" }
      local _ = loads(value):encode "abc \0 é\u{301}\u{1F600}"
    end
  end)
end)
