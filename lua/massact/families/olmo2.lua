-- OLMo 2 (arXiv 2501.00656): llama, but branches are normalised on the way out, and whole queries and keys are too.
local families = require "massact.family"

return families.family {
  name = "olmo2", like = "llama",
  architectures = { "Olmo2ForCausalLM" },
  model_types = { "olmo2" },
  defaults = { rms_norm_eps = 1e-5 },
  spec = function()
    return {
      norm_before = false, norm_after = true, qk_norm = "row",
      norm_weight_in_f32 = true, rope_in_f32 = true,
    }
  end,
  weights = function()
    return {
      ["layers.*.attn.norm.weight"] = false,
      ["layers.*.mlp.norm.weight"] = false,
      ["layers.*.attn.norm_after.weight"] = "model.layers.*.post_attention_layernorm.weight",
      ["layers.*.mlp.norm_after.weight"] = "model.layers.*.post_feedforward_layernorm.weight",
      ["layers.*.attn.q_norm.weight"] = "model.layers.*.self_attn.q_norm.weight",
      ["layers.*.attn.k_norm.weight"] = "model.layers.*.self_attn.k_norm.weight",
    }
  end,
  paths = {
    ["model.layers.*.input_layernorm"] = false,
    ["model.layers.*.post_attention_layernorm"] = "layers.*.attn.out",
    ["model.layers.*.post_feedforward_layernorm"] = "layers.*.mlp.out",
  },
  gguf = { architecture = "olmo2" },
}
