-- Every golden model as a GGUF file gives the same logits, and comes back from it bit for bit; every float type and the
-- packed ones are what their values say.  With MASSACT_SHARED, every family of its golden data as well.
local massact = require "massact"
local convert = require "massact.convert".convert

local function folders()
  local found = {}
  local function add(root)
    for _, name in ipairs(massact.system.list(root)) do
      if massact.system.exists(root .. "/" .. name .. "/expected.safetensors") then found[#found + 1] = root .. "/" .. name end
    end
  end
  add(os.getenv "MASSACT_TESTS" .. "/golden/models")
  if os.getenv "MASSACT_SHARED" then
    add(os.getenv "MASSACT_SHARED" .. "/golden/models")
    add(os.getenv "MASSACT_SHARED" .. "/golden/more")
  end
  table.sort(found)
  return found
end

local function relative_error(got, expected)
  return (got - expected):abs():max():item() / expected:abs():max():item()
end

local function logits(model, ids) return model:forward(ids, { logits = true }).logits end

-- The tensors that both folders have are the same; `exact` false: gemma's norms, which GGUF keeps plus 1.
local function check_same_tensors(original, back, norms_are_exact)
  local before, after = massact.checkpoint.open(original), massact.checkpoint.open(back)
  local n = 0
  for _, name in ipairs(after:names()) do
    local theirs = before:has(name) and name or "transformer." .. name
    assert(before:has(theirs), name .. " is new")
    local a, b = before:tensor(theirs):float(), after:tensor(name):float()
    if norms_are_exact or not name:find "norm" then assert.is_true(a == b, name)
    else assert((a - b):abs():max():item() <= 2 ^ -23, name) end
    n = n + 1
  end
  for _, name in ipairs(before:names()) do
    local is_none = name:find "inv_freq" or name:find "attention%.bias$" or name:find "masked_bias$" or name:find "%.attn%.bias$"
    assert(after:has((name:gsub("^transformer%.", ""))) or after:has(name) or is_none or name:find "^lm_head", name .. " is lost")
  end
  assert(n > 10)
end

for _, folder in ipairs(folders()) do
  local name = folder:match "[^/]+/[^/]+$"
  describe("GGUF of " .. name, function()
    local model = massact.load(folder)
    local ids = massact.safetensors.load(folder .. "/expected.safetensors")["short.input_ids"]
    local expected = logits(model, ids)
    local work = os.tmpname()
    os.remove(work)
    massact.system.make_folder(work)
    local file, back = work .. "/model.gguf", work .. "/back"

    local turned = model.spec.position == "rope" and model.spec.ropes[1].dims or 0
    local refusal = model.family == "opt" and "family opt has no GGUF form" or turned % 2 == 1 and "3 dims of a head turn"
    if refusal then
      it("is refused", function()
        local fine, problem = pcall(convert, folder, file)
        assert.is_false(fine)
        assert.matches(refusal, problem)
        assert.same({}, massact.system.list(work))
        os.remove(work)
      end)
      return
    end

    it("has its logits as f32, and comes back bit for bit", function()
      convert(folder, file, "f32")
      local read = massact.load(file)
      -- Without a window, Mistral is Llama.
      assert.equal(name:find "mistral%-v0.3" and "llama" or model.family, read.family)
      assert(relative_error(logits(read, ids), expected) <= 1e-5)
      convert(file, back)
      check_same_tensors(folder, back, (model.spec.norm_offset or 0) == 0)
      assert(relative_error(logits(massact.load(back), ids), expected) <= 1e-5)
    end)

    it("stays what it is where the form stays", function()
      convert(folder, file, "f32")
      convert(file, work .. "/again.gguf")
      assert.is_true(logits(massact.load(work .. "/again.gguf"), ids) == logits(massact.load(file), ids))
      convert(folder, work .. "/copy", "f32")
      check_same_tensors(folder, work .. "/copy", true)
    end)

    it("is what its values say in 16 bits", function()
      for _, dtype in ipairs { "bf16", "f16" } do
        convert(folder, file, dtype)
        local read = massact.load(file)
        assert.equal(dtype, read:param "token_embd.weight":dtype())
        convert(file, back)
        assert.equal(dtype, massact.load(back):param(massact.load(back).checkpoint:names()[1]):dtype())
        assert(relative_error(logits(read, ids), expected) <= (dtype == "f16" and 0.1 or 0.6))
      end
    end)

    it("is what its values say when packed", function()
      for _, dtype in ipairs { "q8_0", "q4_0" } do
        convert(folder, file, dtype)
        local read = massact.load(file)
        if model.d_model % 32 == 0 then assert.equal(dtype, read:param "token_embd.weight":dtype()) end
        convert(file, back, "f32")
        assert(relative_error(logits(massact.load(back), ids), logits(read, ids)) <= 1e-5)
      end
    end)

    teardown(function() os.execute("rm -r " .. work) end)
  end)
end

-- The pre-tokenizers and normalisers of these have names in GGUF.
for _, which in ipairs { "gpt2", "llama3", "qwen", "smollm", "llama2", "gemma" } do
  describe("GGUF of tokenizer " .. which, function()
    local golden = os.getenv "MASSACT_TESTS" .. "/golden"
    local work = os.tmpname()
    os.remove(work)
    massact.system.make_folder(work .. "/in")
    os.execute(("cp %s/models/gpt2/config.json %s/models/gpt2/model.safetensors %s/tokenizers/%s/tokenizer.json %s/in/"):format(
      golden, golden, golden, which, work))

    it("gives the ids of tokenizer.json, both ways", function()
      convert(work .. "/in", work .. "/model.gguf")
      convert(work .. "/model.gguf", work .. "/back")
      local original = massact.tokenizer.load(work .. "/in")
      local forms = { massact.tokenizer.load(work .. "/model.gguf"), massact.tokenizer.load(work .. "/back") }
      local cases = massact.json.load(("%s/tokenizers/%s/cases.json"):format(golden, which))
      local n = 0
      for _, case in ipairs(cases.cases or cases) do
        -- GGUF cannot say that a token strips the blanks behind it, as llama2's <|user|> does.
        for i, form in ipairs(case.text:find "<|user|>%s" and {} or forms) do
          local where = ("form %d: %q"):format(i, case.text)
          assert.same(original:encode(case.text), form:encode(case.text), where)
          assert.same(original:decode(case.ids), form:decode(case.ids), where)
          n = n + 1
        end
      end
      assert(n > 20)
    end)

    teardown(function() os.execute("rm -r " .. work) end)
  end)
end
