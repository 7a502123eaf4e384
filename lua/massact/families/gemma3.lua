-- Gemma 3, text (Gemma team 2025): norms before and after each branch, stored as differences from 1; q and k
-- normalised per head; five layers of a sliding window to one that sees everything, each with its own rotation.
local families = require "massact.family"
local gguf = require "massact.gguf"

-- Of the layers with a window, and of those without.
local function ropes(config, d_head)
  local v5 = config.rope_parameters
  if v5 then
    local full, sliding = v5.full_attention, v5.sliding_attention
    return { families.rope(d_head, sliding.rope_theta, sliding), families.rope(d_head, full.rope_theta, full) }
  end
  return { families.rope(d_head, config.rope_local_base_freq), families.rope(d_head, config.rope_theta, config.rope_scaling) }
end

return families.family {
  name = "gemma3", like = "llama",
  architectures = { "Gemma3ForCausalLM", "Gemma3ForConditionalGeneration" },
  model_types = { "gemma3_text", "gemma3" },
  prefixes = { { "language_model.", "" }, { "model.language_model.", "model." } },
  ignored = { "^vision_tower%.", "^multi_modal_projector%.", "^model%.vision_tower%.", "^model%.multi_modal_projector%." },
  -- Multimodal checkpoints say little in their text_config.
  defaults = { num_attention_heads = 8, num_key_value_heads = 4, head_dim = 256, vocab_size = 262208,
    max_position_embeddings = 131072, query_pre_attn_scalar = 256, sliding_window = 4096, rope_theta = 1000000,
    rope_local_base_freq = 10000, hidden_activation = "gelu_pytorch_tanh" },

  spec = function(config)
    if config.use_bidirectional_attention then error("gemma3: bidirectional attention is not supported", 0) end
    local pattern = config.sliding_window_pattern or config._sliding_window_pattern or 6
    local windows, rope_of_layer = families.windows(config, function(layer) return (layer + 1) % pattern ~= 0 end), {}
    for i, window in ipairs(windows) do rope_of_layer[i] = window > 0 and 0 or 1 end
    return {
      norm_offset = 1, norm_after = true, qk_norm = "head", embed_scale = math.sqrt(config.hidden_size),
      attn_scale = config.query_pre_attn_scalar ^ -0.5, attn_softcap = config.attn_logit_softcapping or 0,
      logit_softcap = config.final_logit_softcapping or 0,
      ropes = ropes(config, config.head_dim), rope_of_layer = rope_of_layer, windows = windows,
      activation = families.activation(config.hidden_activation or "gelu_pytorch_tanh"),
    }
  end,

  weights = function()
    return {
      ["head.weight"] = "model.embed_tokens.weight",
      ["layers.*.attn.norm_after.weight"] = "model.layers.*.post_attention_layernorm.weight",
      ["layers.*.attn.q_norm.weight"] = "model.layers.*.self_attn.q_norm.weight",
      ["layers.*.attn.k_norm.weight"] = "model.layers.*.self_attn.k_norm.weight",
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
    architecture = "gemma3",
    config = function(config, c)
      config.query_pre_attn_scalar = gguf.query_scalar(c, 62)
      config.rope_local_base_freq = c:maybe("number", "rope.freq_base_swa") or 10000.0
    end,
  },
}
