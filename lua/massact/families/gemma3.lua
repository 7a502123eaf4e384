-- Gemma 3, text (Gemma team 2025): norms before and after each branch, stored as differences from 1; q and k
-- normalised per head; five layers of a sliding window to one that sees everything, each with its own rotation.
local families = require "massact.family"
local gguf = require "massact.gguf"

-- "sliding_attention" or "full_attention" of layer i (from 0).
local function layer_type(config, i)
  if config.layer_types then return config.layer_types[i + 1] end
  local pattern = config.sliding_window_pattern or config._sliding_window_pattern or 6
  return (i + 1) % pattern == 0 and "full_attention" or "sliding_attention"
end

local function ropes(config, d_head)
  local v5 = config.rope_parameters
  local scaling, theta, local_theta = config.rope_scaling, config.rope_theta, config.rope_local_base_freq
  if v5 then
    local full, sliding = v5.full_attention, v5.sliding_attention
    return { families.rope(d_head, sliding.rope_theta, sliding), families.rope(d_head, full.rope_theta, full) }
  end
  return { families.rope(d_head, local_theta or 10000), families.rope(d_head, theta or 1000000, scaling) }
end

return families.family {
  name = "gemma3",
  architectures = { "Gemma3ForCausalLM", "Gemma3ForConditionalGeneration" },
  model_types = { "gemma3_text", "gemma3" },
  prefixes = { { "language_model.", "" }, { "model.language_model.", "model." } },
  ignored = { "^vision_tower%.", "^multi_modal_projector%.", "^model%.vision_tower%.", "^model%.multi_modal_projector%." },

  spec = function(config)
    local d_head = config.head_dim or 256
    local windows, rope_of_layer = {}, {}
    local window = config.sliding_window
    for i = 0, config.num_hidden_layers - 1 do
      local sliding = layer_type(config, i) == "sliding_attention"
      windows[i + 1] = sliding and window or 0
      rope_of_layer[i + 1] = sliding and 0 or 1
    end
    if config.use_bidirectional_attention then error("gemma3: bidirectional attention is not supported", 0) end
    local _ = config.attention_bias, config._sliding_window_pattern, config.sliding_window_pattern
    return {
      n_layers = config.num_hidden_layers, n_heads = config.num_attention_heads or 8,
      n_kv_heads = config.num_key_value_heads or 4, d_model = config.hidden_size, d_head = d_head,
      d_ff = config.intermediate_size, vocab_size = config.vocab_size or 262208,
      max_positions = config.max_position_embeddings or 131072,
      norm = "rms", norm_eps = config.rms_norm_eps or 1e-6, norm_offset = 1, norm_after = true, qk_norm = "head",
      embed_scale = math.sqrt(config.hidden_size),
      attn_scale = (config.query_pre_attn_scalar or 256) ^ -0.5, attn_softcap = config.attn_logit_softcapping or 0,
      logit_softcap = config.final_logit_softcapping or 0,
      position = "rope", ropes = ropes(config, d_head), rope_of_layer = rope_of_layer, windows = windows,
      activation = families.activation(config.hidden_activation or "gelu_pytorch_tanh"), gated = true,
    }
  end,

  weights = function()
    return {
      ["embed.tokens"] = "model.embed_tokens.weight",
      ["head.weight"] = "model.embed_tokens.weight",
      ["final.norm.weight"] = "model.norm.weight",
      ["layers.*.attn.norm.weight"] = "model.layers.*.input_layernorm.weight",
      ["layers.*.attn.norm_after.weight"] = "model.layers.*.post_attention_layernorm.weight",
      ["layers.*.attn.q.weight"] = "model.layers.*.self_attn.q_proj.weight",
      ["layers.*.attn.k.weight"] = "model.layers.*.self_attn.k_proj.weight",
      ["layers.*.attn.v.weight"] = "model.layers.*.self_attn.v_proj.weight",
      ["layers.*.attn.q_norm.weight"] = "model.layers.*.self_attn.q_norm.weight",
      ["layers.*.attn.k_norm.weight"] = "model.layers.*.self_attn.k_norm.weight",
      ["layers.*.attn.proj.weight"] = "model.layers.*.self_attn.o_proj.weight",
      ["layers.*.mlp.norm.weight"] = "model.layers.*.pre_feedforward_layernorm.weight",
      ["layers.*.mlp.norm_after.weight"] = "model.layers.*.post_feedforward_layernorm.weight",
      ["layers.*.mlp.gate.weight"] = "model.layers.*.mlp.gate_proj.weight",
      ["layers.*.mlp.up.weight"] = "model.layers.*.mlp.up_proj.weight",
      ["layers.*.mlp.proj.weight"] = "model.layers.*.mlp.down_proj.weight",
    }
  end,

  paths = {
    ["model.layers.*"] = "layers.*.out",
    ["model.layers.*.self_attn"] = "layers.*.attn.proj",
    ["model.layers.*.mlp"] = "layers.*.mlp.proj",
    ["model.layers.*.input_layernorm"] = "layers.*.attn.norm",
    ["model.layers.*.pre_feedforward_layernorm"] = "layers.*.mlp.norm",
    ["model.norm"] = "final.norm",
  },
  gguf = {
    architecture = "gemma3",
    config = function(config, c)
      config.query_pre_attn_scalar = gguf.query_scalar(c, 62)
      config.rope_local_base_freq = c:maybe("number", "rope.freq_base_swa") or 10000.0
    end,
  },
}
