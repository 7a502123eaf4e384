-- The seeds of the fuzzers: small good files, and files that lie in one place.  massact tests/tools/make_corpus.lua FOLDER
-- writes FOLDER/TARGET/NAME; tests/fuzz/corpus is made by it, and what the fuzzers find is added there.
local massact = require "massact"
local root = assert(arg[1], "usage: massact make_corpus.lua FOLDER")

local function write(target, name, bytes)
  massact.system.make_folder(root .. "/" .. target)
  local file = assert(io.open(("%s/%s/%s"):format(root, target, name), "wb"))
  file:write(bytes)
  file:close()
end

-- ---- GGUF ----

local types = { u8 = 0, i8 = 1, u16 = 2, i16 = 3, u32 = 4, i32 = 5, f32 = 6, bool = 7, string = 8, array = 9, u64 = 10, i64 = 11, f64 = 12 }
local layouts = { u8 = "<I1", i8 = "<i1", u16 = "<I2", i16 = "<i2", u32 = "<I4", i32 = "<i4", f32 = "<f", bool = "<I1", u64 = "<I8", i64 = "<i8", f64 = "<d" }

local function gguf_text(s) return ("<s8"):pack(s) end

local function gguf_value(kind, value)
  if kind == "string" then return gguf_text(value) end
  return layouts[kind]:pack(value)
end

-- Keys are {name, kind, value} or {name, kind, list, "array"}; tensors {name, type number, dims, bytes}.
local function gguf(keys, tensors)
  local out, at = { "GGUF", ("<I4I8I8"):pack(3, #tensors, #keys) }, 0
  local function put(s) out[#out + 1] = s end
  for _, key in ipairs(keys) do
    local name, kind, value, is_array = table.unpack(key)
    put(gguf_text(name))
    if is_array then
      put(("<I4I4I8"):pack(types.array, types[kind], #value))
      for _, item in ipairs(value) do put(gguf_value(kind, item)) end
    else
      put(("<I4"):pack(types[kind]))
      put(gguf_value(kind, value))
    end
  end
  local data = {}
  for _, tensor in ipairs(tensors) do
    put(gguf_text(tensor[1]))
    put(("<I4"):pack(#tensor[3]))
    for _, dim in ipairs(tensor[3]) do put(("<I8"):pack(dim)) end
    put(("<I4I8"):pack(tensor[2], at))
    data[#data + 1] = tensor[4] .. ("\0"):rep(-#tensor[4] % 32)
    at = at + #data[#data]
  end
  local head = table.concat(out)
  return head .. ("\0"):rep(-#head % 32) .. table.concat(data)
end

local words = { "<unk>", "<s>", "</s>", "a", "b", "ab", "\u{2581}", "\u{2581}ab", "<0x41>" }
local keys = {
  { "general.architecture", "string", "llama" },
  { "general.alignment", "u32", 32 },
  { "llama.block_count", "u32", 1 },
  { "a.f32", "f32", 1.5 }, { "a.f64", "f64", -2.5 }, { "a.bool", "bool", 1 }, { "a.i64", "i64", -3 }, { "a.u64", "u64", -1 },
  { "a.list", "i16", { 1, -2, 3 }, "array" },
  { "tokenizer.ggml.model", "string", "llama" },
  { "tokenizer.ggml.tokens", "string", words, "array" },
  { "tokenizer.ggml.scores", "f32", { 0, 0, 0, -1, -2, -3, -4, -5, 0 }, "array" },
  { "tokenizer.ggml.token_type", "i32", { 2, 3, 3, 1, 1, 1, 1, 1, 6 }, "array" },
  { "tokenizer.ggml.bos_token_id", "u32", 1 },
  { "tokenizer.ggml.unknown_token_id", "u32", 0 },
}
local tensors = {
  { "f32", 0, { 3, 2 }, ("\1\2\3\4"):rep(6) }, { "f16", 1, { 4 }, ("\1\2"):rep(4) }, { "q4_0", 2, { 32, 2 }, ("\7"):rep(36) },
  { "q8_0", 8, { 32 }, ("\9"):rep(34) }, { "q6_k", 14, { 256 }, ("\5"):rep(210) }, { "bf16", 30, { 2 }, "abcd" }, { "i32", 26, {}, "abcd" },
}
local good = gguf(keys, tensors)
write("gguf", "good", good)
write("gguf", "empty", gguf({}, {}))
write("gguf", "cut", good:sub(1, #good // 2))
write("gguf", "version", good:gsub("^GGUF\3", "GGUF\1"))
write("gguf", "many_keys", good:sub(1, 16) .. ("\255"):rep(8) .. good:sub(25))
write("gguf", "many_tensors", good:sub(1, 8) .. ("\255"):rep(8) .. good:sub(17))
local bytes = {}
for _, word in ipairs { "h", "e", "l", "o", "he", "ll", "\u{120}" } do bytes[#bytes + 1] = word end
write("gguf", "gpt2", gguf({
  { "general.architecture", "string", "gpt2" }, { "tokenizer.ggml.model", "string", "gpt2" }, { "tokenizer.ggml.pre", "string", "gpt-2" },
  { "tokenizer.ggml.tokens", "string", bytes, "array" }, { "tokenizer.ggml.merges", "string", { "h e", "l l" }, "array" },
}, {}))

write("vocabulary", "llama", "l1b\n2 @<unk>\n3 A<s>\n1 Ba\n1 Cb\n1 Dab\n1 E\u{2581}\n1 F\u{2581}a\n6 G<0x41>\n4 H<x>\n")
write("vocabulary", "gpt2", "g0pbe\n1 @h\n1 Ae\n1 Bl\n1 Co\n1 Dhe\n1 Ell\n1 F\u{120}\n3 G<s>\nm h e\nm l l\n")
write("vocabulary", "llama3", "g03\n1 @a\n1 Ab\n1 Bab\n1 Caa\nm a b\nm a a\n")
write("vocabulary", "qwen2", "g0q\n1 @a\n1 Ab\n1 Bab\nm a b\n")
write("vocabulary", "stranger", "l9n\n1 @\n1 A\n1 A\nm no such\n")

-- ---- safetensors ----

local function safetensors(header, data) return ("<s8"):pack(header) .. data end

local entry = '{"dtype":"%s","shape":[%s],"data_offsets":[%d,%d]}'
local two = ('{"__metadata__":{"format":"pt"},"a":%s,"b":%s}'):format(entry:format("F32", "2,2", 0, 16), entry:format("BF16", "3", 16, 22))
write("safetensors", "good", safetensors(two, ("y"):rep(22)))
write("safetensors", "none", safetensors("{}", ""))
write("safetensors", "scalar", safetensors(('{"s":%s}'):format(entry:format("I64", "", 0, 8)), ("z"):rep(8)))
write("safetensors", "zero", safetensors(('{"s":%s}'):format(entry:format("F16", "0,4", 0, 0)), ""))
write("safetensors", "foreign", safetensors(('{"s":%s}'):format(entry:format("F8_E4M3", "4", 0, 4)), "abcd"))
write("safetensors", "unaligned", safetensors(('{"s":%s,"t":%s}'):format(entry:format("U8", "1", 0, 1), entry:format("F32", "1", 1, 5)), "abcde"))
write("safetensors", "overlap", safetensors(('{"s":%s,"t":%s}'):format(entry:format("U8", "4", 0, 4), entry:format("F32", "1", 2, 6)), "abcdef"))
write("safetensors", "length", ("<I8"):pack(1 << 62) .. "{}")
write("safetensors", "duplicate", safetensors('{"a":{},"a":{}}', ""))

local function shards(index, first, second) return index .. "\0" .. ("<I2"):pack(#first) .. first .. second end
local one = safetensors(('{"x":%s}'):format(entry:format("F32", "1", 0, 4)), "abcd")
local other = safetensors(('{"y":%s}'):format(entry:format("U8", "2", 0, 2)), "ef")
write("shards", "good", shards('{"metadata":{"total_size":6},"weight_map":{"x":"a.safetensors","y":"b.safetensors"}}', one, other))
write("shards", "wrong_shard", shards('{"weight_map":{"x":"b.safetensors","y":"a.safetensors"}}', one, other))
write("shards", "twice", shards('{"weight_map":{"x":"a.safetensors","z":"b.safetensors"}}', one, one))
write("shards", "outside", shards('{"weight_map":{"x":"../a.safetensors"}}', one, other))
write("shards", "no_string", shards('{"weight_map":{"x":7}}', one, other))
write("shards", "no_map", shards('{"weight_map":[]}', one, other))

-- ---- tokenizer.json ----

local function tokenizer(parts, text)
  return ('{"added_tokens":[%s],"normalizer":%s,"pre_tokenizer":%s,"post_processor":%s,"decoder":%s,"model":{"type":"BPE",%s}}'):format(
    parts.added or "", parts.normalizer or "null", parts.pre or "null", parts.post or "null", parts.decoder or "null", parts.model)
    .. (text and "\0" .. text or "")
end

local byte_level = '"vocab":{"h":0,"e":1,"l":2,"o":3,"he":4,"ll":5,"hell":6,"\u{120}":7,"<s>":8},"merges":["h e","l l","he ll"]'
local pieces = '"vocab":{"<unk>":0,"\u{2581}":1,"a":2,"b":3,"ab":4,"<0x41>":5,"\u{2581}ab":6},"merges":[["a","b"],["\u{2581}","ab"]],'
  .. '"unk_token":"<unk>","byte_fallback":true,"fuse_unk":true'
local special = '{"id":8,"content":"<s>","special":true,"normalized":false,"lstrip":true,"rstrip":false,"single_word":false}'
write("tokenizer", "byte_level", tokenizer({ model = byte_level, added = special,
  pre = '{"type":"ByteLevel","add_prefix_space":true,"use_regex":true}', decoder = '{"type":"ByteLevel"}',
  post = '{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],'
    .. '"special_tokens":{"<s>":{"id":"<s>","ids":[8],"tokens":["<s>"]}}}' }, "hello <s> hell"))
write("tokenizer", "metaspace", tokenizer({ model = pieces,
  normalizer = '{"type":"Sequence","normalizers":[{"type":"NFKC"},{"type":"Lowercase"},{"type":"Strip"},{"type":"Prepend","prepend":"\u{2581}"},'
    .. '{"type":"Replace","pattern":{"String":" "},"content":"\u{2581}"}]}',
  decoder = '{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"\u{2581}"},"content":" "},{"type":"ByteFallback"},'
    .. '{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]}' }, "ab A\u{e9}"))
write("tokenizer", "splits", tokenizer({ model = byte_level,
  pre = '{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":"\\\\p{N}{1,3}|\\\\s+(?!\\\\S)"},"behavior":"Isolated","invert":false},'
    .. '{"type":"Split","pattern":{"String":"l"},"behavior":"MergedWithPrevious","invert":true},{"type":"Digits","individual_digits":true},'
    .. '{"type":"Punctuation","behavior":"Contiguous"},{"type":"Whitespace"},{"type":"ByteLevel","add_prefix_space":false,"use_regex":false}]}' }, "he1234 l, o"))
write("tokenizer", "prepend", tokenizer({ model = pieces,
  pre = '{"type":"Metaspace","replacement":"\u{2581}","prepend_scheme":"first","split":true}',
  decoder = '{"type":"Metaspace","replacement":"\u{2581}","prepend_scheme":"always","split":true}' }, "ab ab"))
write("tokenizer", "added", tokenizer({ model = pieces,
  added = '{"id":7,"content":"A","normalized":true,"single_word":true,"rstrip":true},{"id":9,"content":"\u{2581}b","normalized":true}',
  normalizer = '{"type":"Replace","pattern":{"Regex":"a*"},"content":"b"}' }, "A AA \u{2581}b"))
for name, model in pairs {
  far_id = '"vocab":{"a":4000000000},"merges":[]', negative_id = '"vocab":{"a":-1},"merges":[]', no_merge = '"vocab":{"a":0},"merges":["a b"]',
  bad_merge = '"vocab":{"a":0},"merges":[["a"],7]', not_bpe = '"type":"Unigram","vocab":[["a",-1.5]]', prefix = '"continuing_subword_prefix":"##","vocab":{},"merges":[]',
} do
  write("tokenizer", name, tokenizer { model = model })
end

-- ---- JSON and config.json ----

for name, text in pairs {
  object = '{"a":1,"b":[true,false,null,1.5e3,-7],"c":{"d":"\\u00e9\\ud83d\\ude00\\n"}}', deep = ("["):rep(250) .. ("]"):rep(250),
  number = "1e999", nul = '"a\\u0000b"', duplicate = '{"a":1,"a":2}', tail = "[] []", surrogate = '"\\ud800"', empty = "", word = "tru", big = "123456789012345678901234567890",
} do
  write("json", name, text)
end

for _, family in ipairs { "gpt2", "llama-3", "gemma-3" } do
  for _, config in ipairs { "config.json", "config.v5.json" } do
    local file = assert(io.open(("%s/tests/golden/models/%s/%s"):format(massact.home, family, config), "rb"))
    write("config", family .. "." .. config, file:read "a")
    file:close()
  end
end
local hostile = '{"architectures":["LlamaForCausalLM"],"hidden_size":%s,"num_attention_heads":%s,"num_key_value_heads":%s,"num_hidden_layers":%s,'
  .. '"intermediate_size":8,"vocab_size":16,"rope_theta":%s}'
for name, values in pairs {
  zero_heads = { 8, 0, 1, 1, 1e4 }, many_layers = { 8, 2, 2, 1000000000, 1e4 }, negative = { -8, 2, 2, 1, 1e4 }, fraction = { 8.5, 2, 2, 1, 1e4 },
  text = { '"8"', 2, 2, 1, 1e4 }, list = { "[[8]]", 2, 2, 1, 1e4 }, uneven = { 8, 3, 2, 1, 1e4 }, theta = { 8, 2, 2, 1, -1 }, huge = { "9223372036854775807", 2, 2, 1, 0 },
} do
  write("config", name, hostile:format(table.unpack(values)))
end

-- ---- token files (core/text/token_file.h) ----

for name, o in pairs {
  narrow = { 2, "\1\0\2\0\3\0" }, wide = { 4, "\1\0\0\0\2\0\0\0" }, none = { 2, "" }, beyond = { 2, "\1\0\255\255" }, short = { 4, "\1\0\0\0\2\0\0" },
  many = { 4, "\1\0\0\0", count = 1 << 62 }, vocabulary = { 4, "\1\0\0\0", size = 0xFFFFFFFF }, bos = { 2, "\1\0", bos = 9 },
} do
  write("tokens", name, "MASSACTT" .. string.pack("<I4I4I8I8I4I4I4I4", 1, o[1], o.count or #o[2] // o[1], 1, o.size or 5, o.bos or 1, 0xFFFFFFFF, 0)
    .. ("\7"):rep(32) .. ("\0"):rep(48) .. o[2])
end
write("tokens", "header", "MASSACTT\1\0\0\0")
