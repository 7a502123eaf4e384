-- Qwen 3 (Yang et al. 2025): llama, with queries and keys normalised per head.
local families = require "massact.family"

return families.family {
  name = "qwen3", like = "llama",
  architectures = { "Qwen3ForCausalLM" },
  model_types = { "qwen3" },
  defaults = { head_dim = 128, max_position_embeddings = 32768, max_window_layers = 28 },
  spec = function(config)
    local first, uses = config.max_window_layers, config.use_sliding_window
    return { qk_norm = "head", windows = families.windows(config, function(layer) return uses and layer >= first end) }
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
