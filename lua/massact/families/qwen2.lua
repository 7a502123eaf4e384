-- Qwen 2 and 2.5 (Yang et al. 2024): llama, with biases on queries, keys and values.
local families = require "massact.family"

return families.family {
  name = "qwen2", like = "llama",
  architectures = { "Qwen2ForCausalLM" },
  model_types = { "qwen2" },
  unused = { "use_mrope" },
  defaults = { max_position_embeddings = 32768, max_window_layers = 28 },
  spec = function(config)
    -- The layers from max_window_layers on slide, where windows are used at all.
    local first, uses = config.max_window_layers, config.use_sliding_window
    return { windows = families.windows(config, function(layer) return uses and layer >= first end) }
  end,
  weights = function()
    return {
      ["layers.*.attn.q.bias"] = "model.layers.*.self_attn.q_proj.bias",
      ["layers.*.attn.k.bias"] = "model.layers.*.self_attn.k_proj.bias",
      ["layers.*.attn.v.bias"] = "model.layers.*.self_attn.v_proj.bias",
    }
  end,
  gguf = {
    architecture = "qwen2",
    config = function(config) config.use_sliding_window = config.sliding_window ~= nil end,
  },
}
