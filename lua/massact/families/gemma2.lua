-- Gemma 2 (Gemma team 2024): norms before and after each branch, stored as differences from 1; soft caps on scores and
-- logits; every second layer, from the first on, has a sliding window.
local families = require "massact.family"
local gguf = require "massact.gguf"

return families.family {
  name = "gemma2", like = "llama",
  architectures = { "Gemma2ForCausalLM" },
  model_types = { "gemma2" },
  spec = function(config)
    local d_head = config.head_dim or 256
    if config.use_bidirectional_attention then error("gemma2: bidirectional attention is not supported", 0) end
    local _ = config.hidden_act
    return {
      d_head = d_head, max_positions = config.max_position_embeddings or 8192,
      norm_eps = config.rms_norm_eps or 1e-6, norm_offset = 1, norm_after = true,
      embed_scale = math.sqrt(config.hidden_size), attn_scale = (config.query_pre_attn_scalar or 256) ^ -0.5,
      attn_softcap = config.attn_logit_softcapping or 0, logit_softcap = config.final_logit_softcapping or 0,
      ropes = { families.rope(d_head, families.rope_settings(config, 10000)) },
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
