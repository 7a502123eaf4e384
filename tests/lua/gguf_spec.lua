-- GGUF's packed types as gguf-py makes them, and metadata that lie.
local massact = require "massact"
local core = require "massact.core"
local convert = require "massact.convert".convert
local tests = os.getenv "MASSACT_TESTS"

describe("packing", function()
  local fixture = massact.checkpoint.open(tests .. "/golden/packed.gguf")

  it("gives the bytes of ggml's reference", function()
    local x = fixture:tensor "x"
    for _, dtype in ipairs { "q8_0", "q4_0" } do
      local files = { os.tmpname(), os.tmpname() }
      for i, t in ipairs { x:to { dtype = dtype }, fixture:tensor(dtype) } do
        local writer <close> = core.checkpoint.write_gguf(files[i], {}, { { "t", dtype, x:shape() } })
        writer:add("t", t)
        writer:commit()
      end
      assert.equal(core.system.sha256(files[2]), core.system.sha256(files[1]), dtype)
      for _, file in ipairs(files) do os.remove(file) end
    end
  end)

  it("packs views as it packs what they show, and copies packed rows as they are", function()
    local x = fixture:tensor "x"
    local turned = x:t():clone():t()
    assert.is_true(turned:to { dtype = "q8_0" }:float() == x:to { dtype = "q8_0" }:float())
    assert.is_true(fixture:tensor "q4_0":clone():float() == fixture:tensor "q4_0":float())
    assert.is_true(massact.full({ 2, 32 }, 0 / 0):to { dtype = "q8_0" }:float():abs():max():item() == 0)
    assert.is_false(pcall(x.to, x, { dtype = "q4_k" }))
    assert.is_false(pcall(function() return massact.zeros(4, 33):to { dtype = "q8_0" } end))
  end)
end)

describe("writers", function()
  it("take what was announced, all of it and nothing else", function()
    local path, t = os.tmpname(), massact.zeros(2, 3)
    os.remove(path)
    local function attempt(expected, steps)
      local writer <close> = core.checkpoint.write_gguf(path, {}, { { "a", "f32", { 2, 3 } } })
      local fine, problem = pcall(steps, writer)
      assert.is_false(fine)
      assert.matches(expected, problem)
      writer:close()
      assert.is_false(massact.system.exists(path))
    end
    attempt("'b' is f32 %[2 x 3%] where 'a'", function(w) w:add("b", t) end)
    attempt("f16 %[2 x 3%] where 'a', f32", function(w) w:add("a", t:to { dtype = "f16" }) end)
    attempt("'a' was announced and not written", function(w) w:commit() end)
    attempt("'a' was not announced", function(w) w:add("a", t) w:add("a", t) end)
    assert.is_false(pcall(core.checkpoint.write_gguf, path, { { "k", "u8", 256 } }, {}))
    assert.is_false(pcall(core.checkpoint.write_gguf, path, { { "k", "nonsense", 1 } }, {}))
  end)
end)

describe("metadata", function()
  local path = os.tmpname() .. ".gguf"
  convert(tests .. "/golden/models/llama-3", path, "f32")
  local good = massact.checkpoint.open(path)
  local lie = os.tmpname()

  -- The same file, each of whose keys `change` may replace (a pair) or drop (false).
  local function write(change)
    local pairs_, announced = {}, {}
    for _, key in ipairs(good:keys()) do
      local value, kind = good:value(key)
      local other = change(key)
      if other ~= false then pairs_[#pairs_ + 1] = { key, table.unpack(other or { kind, value }) } end
    end
    for i, name in ipairs(good:names()) do announced[i] = { name, good:dtype(name), good:shape(name) } end
    local writer <close> = core.checkpoint.write_gguf(lie, pairs_, announced)
    for _, name in ipairs(good:names()) do writer:add(name, good:tensor(name)) end
    writer:commit()
  end

  local function fails(expected, key, other)
    write(function(each) if each == key then return other end end)
    local fine, problem = pcall(massact.load, lie)
    assert.is_false(fine, key)
    assert.matches(expected, problem)
    assert(problem:find(lie, 1, true), problem)
    assert.is_nil(problem:find "\n")
  end

  it("are read whole", function()
    write(function() end)
    assert.equal(4, massact.load(lie).n_layers)
  end)

  for _, key in ipairs { "block_count", "embedding_length", "context_length", "feed_forward_length", "attention.head_count" } do
    it("that lack or mistype " .. key .. " are refused by name", function()
      local pattern = "key 'llama%." .. key:gsub("%.", "%%.") .. "' is "
      fails(pattern .. "missing", "llama." .. key, false)
      fails(pattern .. "not a whole number", "llama." .. key, { "string", "4" })
      fails(pattern .. "not a whole number", "llama." .. key, { "f32", 4.0 })
      fails(pattern .. "not a whole number", "llama." .. key, { "i32", -4 })
      fails(pattern .. "not a whole number", "llama." .. key, { "u32", { 4, 4 } })
    end)
  end

  it("of other kinds are refused by name", function()
    fails("key 'general%.architecture' is missing", "general.architecture", false)
    fails("key 'general%.architecture' is not a string", "general.architecture", { "u32", 7 })
    fails("unknown architecture 'nonsense'", "general.architecture", { "string", "nonsense" })
    fails("key 'llama%.rope%.freq_base' is not a number", "llama.rope.freq_base", { "string", "x" })
    fails("key 'llama%.rope%.freq_base' is not a number", "llama.rope.freq_base", { "f32", 1 / 0 })
    fails("key 'llama%.attention%.layer_norm_epsilon' is missing", "llama.attention.layer_norm_rms_epsilon", false)
    fails("key 'llama%.block_count' is 4294967295, more than", "llama.block_count", { "u32", 4294967295 })
    fails("key 'llama%.attention%.key_length' is 4294967295, more than", "llama.attention.key_length", { "u32", 4294967295 })
    fails("key 'llama%.attention%.head_count' is 0", "llama.attention.head_count", { "u32", 0 })
    fails("does not hold a positive factor for each of 4", "llama.rope.dimension_count", { "u32", 8 })
    fails("tensor 'blk%.4%.[%w_%.]+' is missing", "llama.block_count", { "u32", 5 })
  end)

  teardown(function()
    os.remove(path)
    os.remove(path:sub(1, -6))
    os.remove(lie)
  end)
end)
