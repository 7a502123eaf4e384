-- Input that is wrong, or means harm: one line that says what and where, and status 1.
package.path = os.getenv "MASSACT_TESTS" .. "/cli/?.lua;" .. package.path
local massact = require "massact"
local shell = require "shell"
local bin, spit, golden = shell.bin, shell.spit, os.getenv "MASSACT_TESTS" .. "/golden/models"

local function run(code)
  local pipe = assert(io.popen(("timeout 60 %s -e \"%s\" 2>&1 </dev/null; echo status $?"):format(bin, code)))
  local text, status = pipe:read "a":match "^(.*)status (%d+)\n$"
  pipe:close()
  return tonumber(status), text
end

local function expect(code, pattern, what)
  local status, message = run(code)
  assert.equal(1, status, (what or code) .. ": " .. message)
  assert.matches("^massact: [^\n%c]*\n$", message)
  assert.matches(pattern, message)
end

local function copy(t)
  local out = {}
  for key, value in pairs(t) do out[key] = value end
  return out
end

describe("hostile input", function()
  local folder = shell.folder()
  teardown(function() os.execute("rm -r " .. folder) end)

  local function load_with(family, change)
    os.execute(("rm -rf %s/m; cp -r %s/%s %s/m"):format(folder, golden, family, folder))
    local config = massact.json.load(golden .. "/" .. family .. "/config.json")
    local changed = change(copy(config)) or config
    if type(changed) == "string" then spit(folder .. "/m/config.json", changed) else massact.json.save(folder .. "/m/config.json", changed) end
    return ("massact.load [[%s/m]]"):format(folder)
  end

  it("in config.json: sizes that cannot be", function()
    local layers, hidden, heads = "num_hidden_layers", "hidden_size", "num_attention_heads"
    for _, case in ipairs {
      { layers, -1 }, { layers, 0 }, { layers, 1000000000 }, { layers, 1.5 }, { layers, "2" }, { layers, { 2 } }, { layers, { { 2 } } },
      { layers, math.maxinteger }, { layers, true }, { hidden, -32 }, { hidden, 1 << 40 }, { hidden, 31.9 }, { hidden, {} }, { heads, 0 },
      { heads, -4 }, { heads, 1e300 }, { heads, "four" }, { "num_key_value_heads", 0 }, { "num_key_value_heads", { 2, 2 } },
      { "intermediate_size", 0 }, { "intermediate_size", 1 << 60 }, { "vocab_size", -1 }, { "vocab_size", "many\nlines" },
      { "max_position_embeddings", 0 }, { "head_dim", 1 << 31 }, { "head_dim", -8 },
    } do
      local code = load_with("llama-3", function(c)
        c[case[1]] = case[2]
        return c
      end)
      expect(code, "config%.json: '" .. case[1] .. "' = .* must be a whole number from 1 to %d+", case[1] .. " = " .. massact.json.text(case[2]))
    end
  end)

  it("in config.json: values that do not fit together, or are of another kind", function()
    for _, case in ipairs {
      { "num_key_value_heads", 3, "not a multiple of n_kv_heads" },
      { "num_attention_heads", 4096, "." }, { "head_dim", 7, "." }, { "num_hidden_layers", 4000, "is missing" },
      { "rms_norm_eps", -1, "norm_eps is negative" }, { "rms_norm_eps", "small", "norm_eps has the wrong type" }, { "rms_norm_eps", { 1 }, "norm_eps" },
      { "rope_theta", "x", "." }, { "rope_theta", {}, "." }, { "rope_scaling", { rope_type = "strange" }, "rope scaling 'strange' is not supported" },
      { "rope_scaling", 7, "." }, { "rope_scaling", { rope_type = "linear" }, "." }, { "rope_scaling", { rope_type = "linear", factor = {} }, "." },
      { "hidden_act", "snake", "activation 'snake' is not supported" }, { "hidden_act", { {} }, "activation" },
      { "architectures", { "Strange\nForCausalLM" }, "unknown architecture 'Strange%?ForCausalLM'" }, { "architectures", 5, "." },
      { "architectures", {}, "." }, { "architectures", { { "LlamaForCausalLM" } }, "unknown architecture" },
    } do
      expect(load_with("llama-3", function(c)
        c[case[1]] = case[2]
        if case[1] == "rope_theta" or case[1] == "rope_scaling" then c.rope_parameters = nil end
        if case[1] == "architectures" then c.model_type = nil end
        return c
      end), case[3], case[1] .. " = " .. massact.json.text(case[2]))
    end
  end)

  it("in config.json: text that is no object", function()
    for text, pattern in pairs {
      [""] = "config%.json: line 1", ["[]"] = "config%.json", ["null"] = "config%.json: not an object", ["7"] = "not an object", ["{"] = "line 1",
      ["{\"a\":1,\"a\":2}"] = "duplicate object key", [("["):rep(3000)] = "config%.json", [("{\"a\":"):rep(300) .. "1" .. ("}"):rep(300)] = "nested",
      ["{\"text_config\":{\"architectures\":[\"\\u001b[31m\"]}}"] = "unknown architecture '%?%[31m'",
    } do expect(load_with("llama-3", function() return text end), pattern, text:sub(1, 40)) end
  end)

  it("in weights: missing, of another shape, more than wanted", function()
    local function save(change)
      local code = load_with("gpt2", function(c) return c end)
      local tensors = massact.safetensors.load(golden .. "/gpt2/model.safetensors")
      change(tensors)
      for name, t in pairs(tensors) do tensors[name] = t:clone() end
      massact.safetensors.save(folder .. "/m/model.safetensors", tensors)
      return code
    end
    local any
    for name in pairs(massact.safetensors.load(golden .. "/gpt2/model.safetensors")) do
      if name:match "h%.0%.attn%.c_attn%.weight$" then any = name end
    end
    local quoted = any:gsub("%p", "%%%0")
    expect(save(function(t) t[any] = nil end), "tensor '" .. quoted .. "' is missing")
    expect(save(function(t) t[any] = t[any]:t():clone() end), "'" .. quoted .. "'.-shape %[")
    expect(save(function(t) t[any] = massact.zeros(0) end), quoted)
    expect(save(function(t) t[any] = massact.zeros({ 32, 96 }, { dtype = "i32" }) end), quoted .. "'.-dtype i32; weights are floats")
    expect(save(function(t) t.stranger = massact.zeros(3) end), "tensor 'stranger' is not a weight of family gpt2")
  end)

  it("in texts and ids", function()
    local model = massact.home .. "/experiments/default/model"
    local prepare = ("local m = massact.load [[%s]] "):format(model)
    for _, case in ipairs {
      { "m.tokenizer:encode('\\xff')", "the text is not UTF%-8: byte 0xFF at offset 0" },
      { "m.tokenizer:encode('ab\\xed\\xa0\\x80')", "byte 0xED at offset 2" }, { "m.tokenizer:encode('\\xc3')", "byte 0xC3 at offset 0" },
      { "m.tokenizer:decode {-1}", "id %-1" }, { "m.tokenizer:decode {1 << 40}", "." }, { "m.tokenizer:decode {1.5}", "." }, { "m.tokenizer:decode 'x'", "." },
      { "m:forward {}", "a pass needs at least one token" }, { "m:forward {{}}", "at least one token" }, { "m:forward {-1}", "token id %-1 at position 0 is outside" },
      { "m:forward {1 << 40}", "is outside" }, { "m:forward {1.5}", "no integer" }, { "m:forward {{1, 2}, {3}}", "a batch is rectangular" },
      { "m:forward({1}, {loss = true})", "a loss needs at least two tokens" }, { "m:forward({1, 2}, {losss = true})", "unknown option 'losss'" },
      { "m:forward({1, 2}, {stop_at = 'layers.99.out'})", "layers" }, { "m:point 'no.such'", "no.such" },
      { "m:forward({1, 2}, {start_at = {point = 'layers.0.out', value = massact.zeros(1, 3, 1)}})", "%[1 x 3 x 1%]" },
    } do expect(prepare .. case[1], case[2]) end
    -- NUL and nothing at all are text like any other.
    local status, text = run(prepare .. "assert(#m.tokenizer:encode '' == 0) local s = 'a\\0b' assert(m.tokenizer:decode(m.tokenizer:encode(s)) == s)")
    assert.same({ 0, "" }, { status, text })
  end)

  it("in files that end with .gguf or .safetensors", function()
    for name, text in pairs { ["a.gguf"] = "", ["b.gguf"] = "GGUF", ["c.safetensors"] = "", ["d.safetensors"] = "\255\255\255\255\255\255\255\255{}", ["e.gguf"] = ("x"):rep(100) } do
      spit(folder .. "/" .. name, text)
      expect(("massact.load [[%s/%s]]"):format(folder, name), name:gsub("%.", "%%."))
    end
  end)
end)
