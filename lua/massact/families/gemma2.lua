-- Gemma 2 (Gemma team 2024): norms before and after each branch, stored as differences from 1; soft caps on scores and
-- logits; every second layer, from the first on, has a sliding window.
local families = require "massact.family"
local gguf = require "massact.gguf"

return families.family {
  name = "gemma2", like = "llama",
  architectures = { "Gemma2ForCausalLM" },
  model_types = { "gemma2" },
  defaults = { head_dim = 256, max_position_embeddings = 8192, query_pre_attn_scalar = 256, sliding_window = 4096,
    hidden_activation = "gelu_pytorch_tanh" },
  spec = function(config)
    if config.use_bidirectional_attention then error("gemma2: bidirectional attention is not supported", 0) end
    return {
      norm_offset = 1, norm_after = true, embed_scale = math.sqrt(config.hidden_size),
      attn_scale = config.query_pre_attn_scalar ^ -0.5, attn_softcap = config.attn_logit_softcapping or 0,
      logit_softcap = config.final_logit_softcapping or 0,
      windows = families.windows(config, function(layer) return layer % 2 == 0 end),
      activation = families.activation(config.hidden_activation or "gelu_pytorch_tanh"),
    }
  end,
  weights = function()
    return {
      ["head.weight"] = "model.embed_tokens.weight",
      ["layers.*.attn.norm_after.weight"] = "model.layers.*.post_attention_layernorm.weight",
      ["layers.*.mlp.norm.weight"] = "model.layers.*.pre_feedforward_layernorm.weight",
      ["layers.*.mlp.norm_after.weight"] = "model.layers.*.post_feedforward_layernorm.weight",
    }
  end,
  paths = {
    ["model.layers.*.post_attention_layernorm"] = "layers.*.attn.out",
    ["model.layers.*.pre_feedforward_layernorm"] = "layers.*.mlp.norm",
    ["model.layers.*.post_feedforward_layernorm"] = "layers.*.mlp.out",
  },
  gguf = {
    architecture = "gemma2",
    config = function(config, c) config.query_pre_attn_scalar = gguf.query_scalar(c, 46) end,
  },
}
