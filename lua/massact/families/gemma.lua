-- Gemma (Gemma team 2024): llama, with norms stored as differences from 1, a scaled embedding and a tied head.
local families = require "massact.family"

return families.family {
  name = "gemma", like = "llama",
  architectures = { "GemmaForCausalLM" },
  model_types = { "gemma" },
  spec = function(config)
    local d_head = config.head_dim or 256
    if config.use_bidirectional_attention then error("gemma: bidirectional attention is not supported", 0) end
    local _ = config.hidden_act -- "gelu" in early configs, which means the tanh form; hidden_activation overrides it
    return {
      d_head = d_head, max_positions = config.max_position_embeddings or 8192,
      norm_eps = config.rms_norm_eps or 1e-6, norm_offset = 1, embed_scale = math.sqrt(config.hidden_size),
      ropes = { families.rope(d_head, families.rope_settings(config, 10000)) },
      activation = families.activation(config.hidden_activation or "gelu_pytorch_tanh"),
    }
  end,
  weights = function() return { ["head.weight"] = "model.embed_tokens.weight" } end,
  gguf = { architecture = "gemma" },
}
