-- Phi 1 to 2 (Li et al. 2023): one layer norm feeds attention and MLP side by side; a part of each head turns; biases
-- everywhere, on the head too.
local families = require "massact.family"

return families.family {
  name = "phi",
  architectures = { "PhiForCausalLM" },
  model_types = { "phi" },
  spec = function(config)
    local d_head = config.hidden_size // config.num_attention_heads
    if config.qk_layernorm then error("phi: qk_layernorm is not supported", 0) end
    return {
      n_layers = config.num_hidden_layers, n_heads = config.num_attention_heads,
      n_kv_heads = config.num_key_value_heads or config.num_attention_heads, d_model = config.hidden_size,
      d_head = d_head, d_ff = config.intermediate_size, vocab_size = config.vocab_size,
      max_positions = config.max_position_embeddings or 2048,
      norm = "layer", norm_eps = config.layer_norm_eps or 1e-5, parallel = true, shared_norm = true,
      position = "rope",
      ropes = { families.rope(families.rotary_dims(config, d_head, 0.5), families.rope_settings(config, 10000)) },
      activation = families.activation(config.hidden_act or "gelu_new"),
    }
  end,
  weights = function(_, config)
    return {
      ["embed.tokens"] = "model.embed_tokens.weight",
      ["head.weight"] = config.tie_word_embeddings and "model.embed_tokens.weight" or "lm_head.weight",
      ["head.bias"] = "lm_head.bias",
      ["final.norm.weight"] = "model.final_layernorm.weight",
      ["final.norm.bias"] = "model.final_layernorm.bias",
      ["layers.*.attn.norm.weight"] = "model.layers.*.input_layernorm.weight",
      ["layers.*.attn.norm.bias"] = "model.layers.*.input_layernorm.bias",
      ["layers.*.attn.q.weight"] = "model.layers.*.self_attn.q_proj.weight",
      ["layers.*.attn.q.bias"] = "model.layers.*.self_attn.q_proj.bias",
      ["layers.*.attn.k.weight"] = "model.layers.*.self_attn.k_proj.weight",
      ["layers.*.attn.k.bias"] = "model.layers.*.self_attn.k_proj.bias",
      ["layers.*.attn.v.weight"] = "model.layers.*.self_attn.v_proj.weight",
      ["layers.*.attn.v.bias"] = "model.layers.*.self_attn.v_proj.bias",
      ["layers.*.attn.proj.weight"] = "model.layers.*.self_attn.dense.weight",
      ["layers.*.attn.proj.bias"] = "model.layers.*.self_attn.dense.bias",
      ["layers.*.mlp.up.weight"] = "model.layers.*.mlp.fc1.weight",
      ["layers.*.mlp.up.bias"] = "model.layers.*.mlp.fc1.bias",
      ["layers.*.mlp.proj.weight"] = "model.layers.*.mlp.fc2.weight",
      ["layers.*.mlp.proj.bias"] = "model.layers.*.mlp.fc2.bias",
    }
  end,
  paths = {
    ["model.layers.*"] = "layers.*.out",
    ["model.layers.*.self_attn"] = "layers.*.attn.proj",
    ["model.layers.*.mlp"] = "layers.*.mlp.proj",
    ["model.layers.*.input_layernorm"] = "layers.*.attn.norm",
    ["model.final_layernorm"] = "final.norm",
  },
  gguf = {
    architecture = "phi2",
    keys = { d_head = false, norm_eps = "layer_norm_eps", rotary_share = "partial_rotary_factor" },
  },
}
