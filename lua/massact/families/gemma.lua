-- Gemma (Gemma team 2024): llama, with norms stored as differences from 1, a scaled embedding and a tied head.
local families = require "massact.family"

return families.family {
  name = "gemma", like = "llama",
  architectures = { "GemmaForCausalLM" },
  model_types = { "gemma" },
  defaults = { head_dim = 256, max_position_embeddings = 8192, hidden_activation = "gelu_pytorch_tanh" },
  spec = function(config)
    if config.use_bidirectional_attention then error("gemma: bidirectional attention is not supported", 0) end
    return {
      norm_offset = 1, embed_scale = math.sqrt(config.hidden_size),
      -- hidden_act is "gelu" in early configs, and means the tanh form; a null in its successor does too.
      activation = families.activation(config.hidden_activation or "gelu_pytorch_tanh"),
    }
  end,
  weights = function() return { ["head.weight"] = "model.embed_tokens.weight" } end,
  gguf = { architecture = "gemma" },
}
