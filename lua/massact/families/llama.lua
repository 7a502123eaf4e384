-- Llama 1 to 3 (Touvron et al. 2023, Grattafiori et al. 2024) and what is built like it (SmolLM): RMS norm, rotary
-- positions, grouped keys and values, a gated MLP.
local families = require "massact.family"

-- llama.cpp's converter reorders the rows of q and k in each head, so that it can turn neighbouring dims: row
-- [head][half][i] lies at [head][i][half].  Seen as [heads, d/2, 2, D] and permuted, they are the checkpoint's.
local function unpermuted(name, heads)
  return { name, view = function(t)
    local rows, width = t:size(0), t:size(1)
    return t:reshape(heads, rows // heads // 2, 2, width):permute(0, 2, 1, 3)
  end }
end

return families.family {
  name = "llama",
  architectures = { "LlamaForCausalLM" },
  model_types = { "llama" },
  gguf = "llama",
  ignored = { "rotary_emb%.inv_freq$", "^rope_freqs%.weight$" },

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

  gguf_config = function(c, metadata, checkpoint)
    local dims = c["rope.dimension_count"] or c.embedding_length // c["attention.head_count"]
    local scaling
    if c["rope.scaling.type"] == "linear" then
      scaling = { rope_type = "linear", factor = c["rope.scaling.factor"] }
    elseif (c["rope.scaling.type"] or "none") ~= "none" or checkpoint:has "rope_freqs.weight" then
      error(("rope scaling '%s' of GGUF files is not supported"):format(c["rope.scaling.type"] or "rope_freqs"), 0)
    end
    return {
      num_hidden_layers = c.block_count, hidden_size = c.embedding_length,
      num_attention_heads = c["attention.head_count"], num_key_value_heads = c["attention.head_count_kv"],
      intermediate_size = c.feed_forward_length, max_position_embeddings = c.context_length,
      rms_norm_eps = c["attention.layer_norm_rms_epsilon"], rope_theta = c["rope.freq_base"], head_dim = dims,
      rope_scaling = scaling, vocab_size = checkpoint:shape("token_embd.weight")[1],
      tie_word_embeddings = not checkpoint:has "output.weight",
    }
  end,

  gguf_weights = function(spec, config)
    return {
      ["embed.tokens"] = "token_embd.weight",
      ["head.weight"] = config.tie_word_embeddings and "token_embd.weight" or "output.weight",
      ["final.norm.weight"] = "output_norm.weight",
      ["layers.*.attn.norm.weight"] = "blk.*.attn_norm.weight",
      ["layers.*.attn.q.weight"] = unpermuted("blk.*.attn_q.weight", spec.n_heads),
      ["layers.*.attn.k.weight"] = unpermuted("blk.*.attn_k.weight", spec.n_kv_heads),
      ["layers.*.attn.v.weight"] = "blk.*.attn_v.weight",
      ["layers.*.attn.proj.weight"] = "blk.*.attn_output.weight",
      ["layers.*.mlp.norm.weight"] = "blk.*.ffn_norm.weight",
      ["layers.*.mlp.gate.weight"] = "blk.*.ffn_gate.weight",
      ["layers.*.mlp.up.weight"] = "blk.*.ffn_up.weight",
      ["layers.*.mlp.proj.weight"] = "blk.*.ffn_down.weight",
    }
  end,
}
