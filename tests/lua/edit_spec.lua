-- Weights changed in memory: an edited model computes what a checkpoint with the same change computes, in every way in which a
-- file may keep a weight, and is the old one again afterwards.
local massact = require "massact"
local convert = require "massact.convert"
local golden = os.getenv "MASSACT_TESTS" .. "/golden/models/"

local ids = { 5, 17, 3, 200, 41, 8, 99 }

local function logits(model) return model:forward(ids, { logits = true }).logits end

local function new_folder()
  local path = os.tmpname()
  os.remove(path)
  return path
end

-- A copy of a golden model whose tensor `name` has been changed in its file, in `dtype`.
local function with_changed_file(family, name, change, dtype)
  local folder = new_folder()
  assert(os.execute(("cp -r %s%s %s"):format(golden, family, folder)))
  local tensors = massact.safetensors.load(golden .. family)
  for key, tensor in pairs(tensors) do
    local t = tensor:clone()
    if key == name then t = change(t) or t end
    tensors[key] = dtype and t:to { dtype = dtype } or t
  end
  massact.safetensors.save(folder .. "/model.safetensors", tensors)
  return folder
end

local function double(t) return t * 2 end -- exact in every dtype

describe("model:edit", function()
  local made = {}
  teardown(function() for _, folder in ipairs(made) do os.execute("rm -r " .. folder) end end)

  -- A tensor as the checkpoint has it: plain, transposed and fused (gpt2), fused by heads (falcon), an expert's, tied.
  for _, case in ipairs {
    { "llama-3", "model.layers.1.mlp.down_proj.weight" }, { "gpt2", "h.1.mlp.c_proj.weight" }, { "gpt2", "h.2.attn.c_attn.weight" },
    { "gpt2", "h.0.attn.c_attn.bias" }, { "gpt2", "wte.weight" }, { "gpt2", "wpe.weight" },
    { "falcon-11b", "transformer.h.1.self_attention.query_key_value.weight" },
    { "mixtral", "model.layers.2.block_sparse_moe.experts.1.w2.weight" }, { "qwen-2.5", "model.norm.weight" },
  } do
    local family, name = case[1], case[2]
    it(("of %s's %s is what the file with that change gives"):format(family, name), function()
      local folder = with_changed_file(family, name, double)
      made[#made + 1] = folder
      local model, expected = massact.load(golden .. family), logits(massact.load(folder))
      local before = logits(model)
      do
        local edit <close> = model:edit(name, double)
        assert.is_true(logits(model) == expected)
        assert.is_false(expected == before)
      end
      assert.is_true(logits(model) == before)
    end)
  end

  for _, dtype in ipairs { "bf16", "f16" } do
    it("rounds as a model of " .. dtype .. " rounds its weights", function()
      local name = "model.layers.0.mlp.up_proj.weight"
      local folder = with_changed_file("llama-3", name, function(t) return t:float() * 1.2345 end, "f32")
      made[#made + 1] = folder
      local model = massact.load(golden .. "llama-3", { dtype = dtype })
      local edit <close> = model:edit(name, function(t) return t * 1.2345 end)
      assert.is_true(logits(model) == logits(massact.load(folder, { dtype = dtype })))
    end)
  end

  it("reaches packed weights, by the slot and by GGUF's name", function()
    local name = "model.layers.1.mlp.up_proj.weight"
    local zeroed = with_changed_file("qwen-2.5", name, function(t) return t * 0 end)
    local original, changed = zeroed .. "/original.gguf", zeroed .. "/changed.gguf"
    made[#made + 1] = zeroed
    convert.convert(golden .. "qwen-2.5", original, "q8_0")
    convert.convert(zeroed, changed, "q8_0")
    local model, expected = massact.load(original), logits(massact.load(changed))
    local before = logits(model)
    for _, of_that in ipairs { "layers.1.mlp.up.weight", "blk.1.ffn_up.weight" } do
      local edit <close> = model:edit(of_that, function(w) w:fill_(0) end)
      assert.is_true(logits(model) == expected, of_that)
    end
    assert.is_true(logits(model) == before)
    -- The packed tensor itself cannot be written, and says what to do.
    assert.error_matches(function() model:param("blk.1.ffn_up.weight"):set(0, 0, 1) end, "q8_0")
  end)

  it("of a slot changes that slot alone, and shows it as [out, in]", function()
    local model = massact.load(golden .. "gpt2")
    local q = model:weight "layers.1.attn.q.weight":clone()
    local edit <close> = model:edit({ "layers.1.attn.k.weight", "layers.1.mlp.proj.weight" }, function(w, slot)
      assert.same(slot:find "mlp" and { 32, 128 } or { 32, 32 }, w:shape())
      assert.equal("f32", w:dtype())
      w:fill_(1)
    end)
    assert.equal(32 * 32, model:weight("layers.1.attn.k.weight"):sum():item())
    assert.is_true(model:weight "layers.1.attn.q.weight" == q)
    assert.equal(0, model:param("h.1.attn.c_attn.weight"):eq(1):to({ dtype = "i64" }):sum():item()) -- the file's stays
  end)

  it("nests, and is closed from the inside out", function()
    local model, slot = massact.load(golden .. "llama-3"), "layers.1.mlp.proj.weight"
    local before = logits(model)
    local outer = model:edit(slot, double)
    local between = logits(model)
    local inner = model:edit(slot, double)
    assert.error_matches(function() outer:close() end, "'layers.1.mlp.proj.weight' has been edited again since")
    inner:close()
    assert.is_true(logits(model) == between)
    outer:close()
    outer:close()
    assert.is_true(logits(model) == before)
  end)

  it("leaves everything as it was where something is wrong", function()
    local model, slot = massact.load(golden .. "llama-3"), "layers.0.mlp.proj.weight"
    local before = logits(model)
    assert.error_matches(function() model:edit("layers.9.mlp.proj.weight", double) end, "has no weight 'layers.9.mlp.proj.weight'")
    assert.error_matches(function() model:edit({ slot, "nonsense" }, double) end, "has no weight 'nonsense'")
    assert.error_matches(function() model:edit(slot, function() error "no" end) end, "no")
    assert.error_matches(function() model:edit({ "layers.1.mlp.proj.weight", slot }, function(w, name)
      return name == slot and massact.zeros(2, 2) or w * 2
    end) end, "has shape %[2 x 2%]")
    assert.is_true(logits(model) == before)
    local handle <close> = model:point("layers.0.mid"):hook(function() model:edit(slot, double) end)
    assert.error_matches(function() logits(model) end, "cannot be replaced during a pass")
    handle:remove()
    assert.is_true(logits(model) == before)
  end)
end)

describe("writing to model:param in place", function()
  for _, dtype in ipairs { "f32", "bf16", "f16" } do
    it("changes memory that a pass sees, and no file, in " .. dtype, function()
      local name = "model.layers.1.self_attn.v_proj.weight"
      local plain = with_changed_file("llama-3", name, function(t) return t end, dtype)
      local folder = with_changed_file("llama-3", name, function(t) return t * 2 end, dtype)
      local model = massact.load(plain)
      local before = logits(model)
      local weight = model:param(name)
      local was = weight:clone()
      weight:mul_(2)
      assert.is_true(logits(model) == logits(massact.load(folder)))
      assert.is_true(logits(massact.load(plain)) == before)
      weight:copy_(was)
      assert.is_true(logits(model) == before)
      os.execute(("rm -r %s %s"):format(plain, folder))
    end)
  end
end)
