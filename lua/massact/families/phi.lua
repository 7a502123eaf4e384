-- Phi 1 to 2 (Li et al. 2023): one layer norm feeds attention and MLP side by side; a part of each head turns; biases
-- everywhere, on the head too.
local families = require "massact.family"

return families.family {
  name = "phi", like = "llama",
  architectures = { "PhiForCausalLM" },
  model_types = { "phi" },
  defaults = { layer_norm_eps = 1e-5, hidden_act = "gelu_new" },
  spec = function(config)
    local d_head = config.hidden_size // config.num_attention_heads
    if config.qk_layernorm then error("phi: qk_layernorm is not supported", 0) end
    return {
      norm = "layer", norm_eps = config.layer_norm_eps, parallel = true, shared_norm = true, gated = false,
      ropes = { families.rope(families.rotary_dims(config, d_head, 0.5), families.rope_settings(config, 10000)) },
    }
  end,
  weights = function()
    local weights = {
      ["head.bias"] = "lm_head.bias",
      ["final.norm.weight"] = "model.final_layernorm.weight",
      ["final.norm.bias"] = "model.final_layernorm.bias",
      ["layers.*.attn.norm.bias"] = "model.layers.*.input_layernorm.bias",
      ["layers.*.mlp.norm.weight"] = false, ["layers.*.mlp.gate.weight"] = false,
    }
    for slot, name in pairs {
      ["attn.q"] = "self_attn.q_proj", ["attn.k"] = "self_attn.k_proj", ["attn.v"] = "self_attn.v_proj",
      ["attn.proj"] = "self_attn.dense", ["mlp.up"] = "mlp.fc1", ["mlp.proj"] = "mlp.fc2",
    } do
      for _, part in ipairs { "weight", "bias" } do
        weights[("layers.*.%s.%s"):format(slot, part)] = ("model.layers.*.%s.%s"):format(name, part)
      end
    end
    return weights
  end,
  paths = {
    ["model.layers.*.post_attention_layernorm"] = false,
    ["model.norm"] = false, ["model.final_layernorm"] = "final.norm",
  },
  gguf = {
    architecture = "phi2",
    keys = { d_head = false, norm_eps = "layer_norm_eps", rotary_share = "partial_rotary_factor" },
  },
}
