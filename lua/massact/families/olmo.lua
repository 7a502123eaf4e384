-- OLMo, 0724 among others (Groeneveld et al. 2024): llama, with layer norms that have no weights, and queries, keys and
-- values clamped.
local families = require "massact.family"

return families.family {
  name = "olmo", like = "llama",
  architectures = { "OlmoForCausalLM" },
  model_types = { "olmo" },
  spec = function(config)
    return { norm = "layer", norm_eps = 1e-5, qkv_clip = config.clip_qkv or 0, rope_in_f32 = true }
  end,
  weights = function()
    return { ["final.norm.weight"] = false, ["layers.*.attn.norm.weight"] = false, ["layers.*.mlp.norm.weight"] = false }
  end,
  gguf = { architecture = "olmo", turns_neighbours = true, keys = { norm_eps = false } },
}
