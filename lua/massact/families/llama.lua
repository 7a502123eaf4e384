-- Llama 1 to 3 (Touvron et al. 2023, Grattafiori et al. 2024) and what is built like it (SmolLM): RMS norm, rotary
-- positions, grouped keys and values, a gated MLP.
local families = require "massact.family"

return families.family {
  name = "llama",
  architectures = { "LlamaForCausalLM" },
  model_types = { "llama" },
  ignored = { "rotary_emb%.inv_freq$" },

  spec = function(config)
    local theta, scaling = families.rope_settings(config, 10000)
    local d_head = config.head_dim or config.hidden_size // config.num_attention_heads
    local _ = config.attention_bias, config.mlp_bias
    return {
      n_layers = config.num_hidden_layers, n_heads = config.num_attention_heads,
      n_kv_heads = config.num_key_value_heads or config.num_attention_heads, d_model = config.hidden_size,
      d_head = d_head, d_ff = config.intermediate_size, vocab_size = config.vocab_size,
      max_positions = config.max_position_embeddings or 2048,
      norm = "rms", norm_eps = config.rms_norm_eps or 1e-6,
      position = "rope", ropes = { families.rope(d_head, theta, scaling) },
      activation = families.activation(config.hidden_act or "silu"), gated = true,
    }
  end,

  weights = function(_, config)
    local weights = {
      ["embed.tokens"] = "model.embed_tokens.weight",
      ["head.weight"] = config.tie_word_embeddings and "model.embed_tokens.weight" or "lm_head.weight",
      ["final.norm.weight"] = "model.norm.weight",
      ["layers.*.attn.norm.weight"] = "model.layers.*.input_layernorm.weight",
      ["layers.*.attn.q.weight"] = "model.layers.*.self_attn.q_proj.weight",
      ["layers.*.attn.k.weight"] = "model.layers.*.self_attn.k_proj.weight",
      ["layers.*.attn.v.weight"] = "model.layers.*.self_attn.v_proj.weight",
      ["layers.*.attn.proj.weight"] = "model.layers.*.self_attn.o_proj.weight",
      ["layers.*.mlp.norm.weight"] = "model.layers.*.post_attention_layernorm.weight",
      ["layers.*.mlp.gate.weight"] = "model.layers.*.mlp.gate_proj.weight",
      ["layers.*.mlp.up.weight"] = "model.layers.*.mlp.up_proj.weight",
      ["layers.*.mlp.proj.weight"] = "model.layers.*.mlp.down_proj.weight",
    }
    if config.attention_bias then
      weights["layers.*.attn.q.bias"] = "model.layers.*.self_attn.q_proj.bias"
      weights["layers.*.attn.k.bias"] = "model.layers.*.self_attn.k_proj.bias"
      weights["layers.*.attn.v.bias"] = "model.layers.*.self_attn.v_proj.bias"
      weights["layers.*.attn.proj.bias"] = "model.layers.*.self_attn.o_proj.bias"
    end
    if config.mlp_bias then
      weights["layers.*.mlp.gate.bias"] = "model.layers.*.mlp.gate_proj.bias"
      weights["layers.*.mlp.up.bias"] = "model.layers.*.mlp.up_proj.bias"
      weights["layers.*.mlp.proj.bias"] = "model.layers.*.mlp.down_proj.bias"
    end
    return weights
  end,

  paths = {
    ["model.layers.*"] = "layers.*.out",
    ["model.layers.*.self_attn"] = "layers.*.attn.proj",
    ["model.layers.*.mlp"] = "layers.*.mlp.proj",
    ["model.layers.*.input_layernorm"] = "layers.*.attn.norm",
    ["model.layers.*.post_attention_layernorm"] = "layers.*.mlp.norm",
    ["model.norm"] = "final.norm",
  },

  gguf = {
    architecture = "llama", turns_neighbours = true,
    config = function(config, _, file)
      config.attention_bias = file:has "blk.0.attn_q.bias" or nil
      config.mlp_bias = file:has "blk.0.ffn_up.bias" or nil
    end,
  },
}
