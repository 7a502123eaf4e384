-- Qwen 3 (Yang et al. 2025): llama, with queries and keys normalised per head.
local families = require "massact.family"

return families.family {
  name = "qwen3", like = "llama",
  architectures = { "Qwen3ForCausalLM" },
  model_types = { "qwen3" },
  spec = function(config)
    local first = config.max_window_layers or 28
    local uses = config.use_sliding_window
    return {
      d_head = config.head_dim or 128, qk_norm = "head",
      ropes = { families.rope(config.head_dim or 128, families.rope_settings(config, 10000)) },
      max_positions = config.max_position_embeddings or 32768,
      windows = families.windows(config, function(layer) return uses and layer >= first end),
    }
  end,
  weights = function()
    return {
      ["layers.*.attn.q_norm.weight"] = "model.layers.*.self_attn.q_norm.weight",
      ["layers.*.attn.k_norm.weight"] = "model.layers.*.self_attn.k_norm.weight",
    }
  end,
  gguf = {
    architecture = "qwen3",
    config = function(config) config.use_sliding_window = config.sliding_window ~= nil end,
  },
}
