-- Models made from a config: how their numbers begin, mitigations included; saving and loading again; Target Variance Rescaling.
package.path = os.getenv "MASSACT_TESTS" .. "/cli/?.lua;" .. package.path
local massact = require "massact"
local shell = require "shell"
local tvr = require "massact.mitigations.tvr"

local llama = { architectures = { "LlamaForCausalLM" }, hidden_size = 64, num_hidden_layers = 4, num_attention_heads = 4, num_key_value_heads = 2,
  intermediate_size = 96, vocab_size = 300, max_position_embeddings = 64, rms_norm_eps = 1e-5, tie_word_embeddings = false }
local gpt2 = { architectures = { "GPT2LMHeadModel" }, n_embd = 64, n_layer = 4, n_head = 4, vocab_size = 300, n_positions = 64 }

local function std(model, name) return model:param(name):std():item() end

describe("massact.create", function()
  it("begins norms, biases and matrices as transformers does", function()
    local model = massact.create(llama, { seed = 1 })
    assert.near(0.02, std(model, "model.embed_tokens.weight"), 0.0005)
    assert.near(0.02, std(model, "model.layers.3.mlp.down_proj.weight"), 0.0008)
    assert.is_true(model:param "model.layers.0.input_layernorm.weight" == massact.ones(64))
    assert.same({ 32, 64 }, model:param("model.layers.0.self_attn.k_proj.weight"):shape())
    -- With small random weights nothing is known: the loss is that of guessing.
    assert.near(math.log(300), model:forward({ 1, 2, 3, 4, 5 }, { loss = true }).loss, 0.2)
    local fused = massact.create(gpt2)
    assert.same({ 64, 192 }, fused:param("h.0.attn.c_attn.weight"):shape())
    assert.near(0.02, std(fused, "h.0.attn.c_attn.weight"), 0.0005)
    assert.is_true(fused:param "h.0.attn.c_attn.bias" == massact.zeros(192))
    assert.near(math.log(300), fused:forward({ 1, 2, 3, 4, 5 }, { loss = true }).loss, 0.2)
  end)

  it("gives the same model for the same seed, another for another", function()
    local function logits(seed) return massact.create(llama, { seed = seed }):forward({ 5, 6 }, { logits = true }).logits end
    assert.is_true(logits(3) == logits(3))
    assert.is_false(logits(3) == logits(4))
    assert.equal(300 * 64 * 4, massact.create(llama).checkpoint:bytes "lm_head.weight")
    -- No two tensors begin alike.
    local model = massact.create(llama)
    assert.is_false(model:param "model.layers.0.mlp.up_proj.weight" == model:param "model.layers.0.mlp.gate_proj.weight")
  end)

  it("begins a layer's weights smaller the later it is (LIR), and what writes into the residual stream (GPT-2)", function()
    local model = massact.create(llama, { std = 0.1, mitigations = { "lir" } })
    for l = 0, 3 do assert.near(0.1 / math.sqrt(l + 1), std(model, ("model.layers.%d.mlp.up_proj.weight"):format(l)), 0.003) end
    assert.near(0.1, std(model, "lm_head.weight"), 0.003)
    model = massact.create(gpt2, { std = 0.1, mitigations = { "residual_init" } })
    assert.near(0.1 / math.sqrt(8), std(model, "h.2.attn.c_proj.weight"), 0.002)
    assert.near(0.1 / math.sqrt(8), std(model, "h.2.mlp.c_proj.weight"), 0.002)
    assert.near(0.1, std(model, "h.2.mlp.c_fc.weight"), 0.003)
    -- Both at once multiply.
    model = massact.create(gpt2, { std = 0.1, mitigations = { "residual_init", "lir" } })
    assert.near(0.1 / math.sqrt(8) / math.sqrt(3), std(model, "h.2.mlp.c_proj.weight"), 0.002)
  end)

  it("has weights of 16 bits where that is asked for", function()
    local model, whole = massact.create(llama, { dtype = "bf16" }), massact.create(llama)
    local name = "model.layers.1.mlp.up_proj.weight"
    assert.equal("bf16", model:param(name):dtype())
    assert.is_true(model:param(name) == whole:param(name):to { dtype = "bf16" })
    assert.near(whole:forward({ 1, 2, 3 }, { loss = true }).loss, model:forward({ 1, 2, 3 }, { loss = true }).loss, 0.01)
    assert.has_error(function() massact.create(llama, { dtype = "f64" }) end, "create: dtype is one of f32, bf16, f16, not 'f64'")
  end)

  it("adds keys and values for attention KV bias, and replaces norms by Dynamic Tanh", function()
    local folder = shell.folder()
    local heads = {}
    for key, value in pairs(llama) do heads[key] = value end
    local model = massact.create(heads, { mitigations = { "kv_bias", dyt = { alpha = { attention = 0.8, other = 0.2 } } } })
    assert.same({ 1, 4, 1, 16 }, model:param("model.layers.1.self_attn.k_bias"):shape())
    assert.near(0.02, std(model, "model.layers.1.self_attn.v_bias"), 0.006)
    assert.near(0.8, model:param("model.layers.1.input_layernorm.alpha"):item(), 1e-6)
    assert.near(0.2, model:param("model.layers.1.post_attention_layernorm.alpha"):item(), 1e-6)
    assert.near(0.2, model:param("model.norm.alpha"):item(), 1e-6)
    assert.near(8, model:param("model.embed_scale"):item(), 1e-6) -- sqrt(64)
    assert.has_error(function() model:param "model.norm.bias" end)
    assert.same({ 1, 4, 3, 4 }, model:forward({ 1, 2, 3 }, { capture = { "layers.0.attn.probs" } })["layers.0.attn.probs"]:shape())
    -- GPT-2's norms keep their biases.
    local other = massact.create(gpt2, { mitigations = { "dyt" } })
    assert.same({ 64 }, other:param("ln_f.bias"):shape())
    assert.near(0.5, other:param("h.0.ln_1.alpha"):item(), 1e-6)
    -- What is saved loads again, settings included.
    model:save(folder .. "/m")
    local again = massact.load(folder .. "/m")
    assert.is_true(again:forward({ 1, 2, 3 }, { logits = true }).logits == model:forward({ 1, 2, 3 }, { logits = true }).logits)
    assert.equal(0.8, massact.json.load(folder .. "/m/config.json").massact.mitigations.dyt.alpha.attention)
    os.execute("rm -r " .. folder)
  end)

  it("names a mitigation that there is not", function()
    local fine, problem = pcall(massact.create, llama, { mitigations = { "kvbias" } })
    assert.is_false(fine)
    assert.matches("there is no mitigation 'kvbias'", problem)
  end)
end)

describe("model:save", function()
  it("writes what was loaded, with changes", function()
    local folder = shell.folder()
    local model = massact.load(massact.home .. "/experiments/default/model")
    model:param("model.norm.weight"):mul_(2)
    model:save(folder .. "/copy")
    local copy = massact.load(folder .. "/copy")
    assert.is_true(copy:param "model.norm.weight" == model:param "model.norm.weight")
    assert.same(model.tokenizer:encode "A text", copy.tokenizer:encode "A text")
    assert.is_true(copy:forward({ 1, 2, 3 }, { logits = true }).logits == model:forward({ 1, 2, 3 }, { logits = true }).logits)
    assert.is_false(copy:forward({ 1, 2, 3 }, { logits = true }).logits
      == massact.load(massact.home .. "/experiments/default/model"):forward({ 1, 2, 3 }, { logits = true }).logits)
    os.execute("rm -r " .. folder)
  end)
end)

describe("Target Variance Rescaling", function()
  it("sets deviations to the target where they are over it, means stay, biases go", function()
    local model = massact.create(gpt2, { std = 0.05 })
    local bias, weight = model:param "h.1.mlp.c_fc.bias", model:param "h.1.mlp.c_fc.weight"
    bias:fill_(0.3)
    weight:add_(0.01)
    local mean = weight:mean():item()
    model:param("h.2.mlp.c_fc.weight"):mul_(0.2) -- 0.01: under it
    local before, considered = model:param("h.2.mlp.c_fc.weight"):clone(), tvr.rescale(model, { except = { "attn.c_proj" } })
    assert.equal(16, #considered)
    assert.near(0.01, weight:std():item(), 1e-6)
    assert.near(mean, weight:mean():item(), 1e-6)
    assert.is_true(bias == massact.zeros(256))
    assert.is_true(before == model:param "h.2.mlp.c_fc.weight")
    assert.near(0.05, std(model, "h.0.attn.c_proj.weight"), 0.002)
    assert.near(0.05, std(model, "wte.weight"), 0.002)
    tvr.rescale(model, { with_depth = true })
    assert.near(0.01 / 2, std(model, "h.3.mlp.c_fc.weight"), 1e-6)
  end)

  local shared = os.getenv "MASSACT_SHARED"
  for _, name in ipairs { "gpt2", "llama-2" } do
    it("gives what its reference gives for " .. name, function()
      if not shared then return pending "needs MASSACT_SHARED" end
      local folder = shared .. "/golden/tvr/" .. name
      for i, run in ipairs(massact.json.load(folder .. "/tvr.json").runs) do
        local model, changed = massact.load(folder), massact.safetensors.load(folder .. "/" .. run.file)
        local considered = tvr.rescale(model, { target = run.target_std, with_depth = run.scale_with_depth, ratio = run.ratio_threshold,
          except = run.blacklist })
        local by_place, original = {}, massact.safetensors.load(folder .. "/model.safetensors")
        for _, c in ipairs(considered) do by_place[c.layer .. "." .. c.module] = c end
        assert.equal(#run.matrices, #considered)
        for _, m in ipairs(run.matrices) do assert.equal(m.rescaled, by_place[m.layer .. "." .. m.module].rescaled, m.module .. " in run " .. i) end
        for tensor_name, tensor in model:params() do
          local want = changed[tensor_name] or original[tensor_name]
          assert((tensor - want):abs():max():item() <= 1e-6 * math.max(1e-6, want:abs():max():item()) + 1e-9, tensor_name)
        end
      end
    end)
  end
end)
