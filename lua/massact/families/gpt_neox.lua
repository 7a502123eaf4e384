-- GPT-NeoX (Black et al. 2022) and Pythia (Biderman et al. 2023): attention and MLP side by side, each with a layer norm
-- of its own; a part of each head turns; queries, keys and values lie head by head in one projection.
local families = require "massact.family"

return families.family {
  name = "gpt_neox",
  architectures = { "GPTNeoXForCausalLM" },
  model_types = { "gpt_neox" },
  ignored = { "%.attention%.bias$", "%.attention%.masked_bias$", "rotary_emb%.inv_freq$" },
  unused = { "classifier_dropout", "hidden_dropout", "is_decoder" },
  spec = function(config)
    local d_head = config.hidden_size // config.num_attention_heads
    local theta, scaling = families.rope_settings(config, config.rotary_emb_base or 10000)
    return {
      n_layers = config.num_hidden_layers, n_heads = config.num_attention_heads,
      n_kv_heads = config.num_attention_heads, d_model = config.hidden_size, d_head = d_head,
      d_ff = config.intermediate_size, vocab_size = config.vocab_size,
      max_positions = config.max_position_embeddings or 2048,
      norm = "layer", norm_eps = config.layer_norm_eps or 1e-5, parallel = config.use_parallel_residual ~= false,
      position = "rope", ropes = { families.rope(families.rotary_dims(config, d_head, 0.25), theta, scaling) },
      activation = families.activation(config.hidden_act or "gelu"),
    }
  end,
  weights = function(spec, config)
    local weights = {
      ["embed.tokens"] = "gpt_neox.embed_in.weight",
      ["head.weight"] = config.tie_word_embeddings and "gpt_neox.embed_in.weight" or "embed_out.weight",
      ["final.norm.weight"] = "gpt_neox.final_layer_norm.weight",
      ["final.norm.bias"] = "gpt_neox.final_layer_norm.bias",
      ["layers.*.attn.norm.weight"] = "gpt_neox.layers.*.input_layernorm.weight",
      ["layers.*.attn.norm.bias"] = "gpt_neox.layers.*.input_layernorm.bias",
      ["layers.*.attn.proj.weight"] = "gpt_neox.layers.*.attention.dense.weight",
      ["layers.*.mlp.norm.weight"] = "gpt_neox.layers.*.post_attention_layernorm.weight",
      ["layers.*.mlp.norm.bias"] = "gpt_neox.layers.*.post_attention_layernorm.bias",
      ["layers.*.mlp.up.weight"] = "gpt_neox.layers.*.mlp.dense_h_to_4h.weight",
      ["layers.*.mlp.up.bias"] = "gpt_neox.layers.*.mlp.dense_h_to_4h.bias",
      ["layers.*.mlp.proj.weight"] = "gpt_neox.layers.*.mlp.dense_4h_to_h.weight",
      ["layers.*.mlp.proj.bias"] = "gpt_neox.layers.*.mlp.dense_4h_to_h.bias",
    }
    local parts = config.attention_bias == false and { "weight" } or { "weight", "bias" }
    for _, part in ipairs(parts) do
      for i, letter in ipairs { "q", "k", "v" } do
        weights[("layers.*.attn.%s.%s"):format(letter, part)] =
          families.heads("gpt_neox.layers.*.attention.query_key_value." .. part, spec.n_heads, 3, spec.d_head, i - 1, 1)
      end
    end
    if #parts == 2 then weights["layers.*.attn.proj.bias"] = "gpt_neox.layers.*.attention.dense.bias" end
    return weights
  end,
  paths = {
    ["gpt_neox.layers.*"] = "layers.*.out",
    ["gpt_neox.layers.*.attention"] = "layers.*.attn.proj",
    ["gpt_neox.layers.*.mlp"] = "layers.*.mlp.proj",
    ["gpt_neox.layers.*.input_layernorm"] = "layers.*.attn.norm",
    ["gpt_neox.layers.*.post_attention_layernorm"] = "layers.*.mlp.norm",
    ["gpt_neox.final_layer_norm"] = "final.norm",
  },
  gguf = {
    architecture = "gptneox", fused = { attn_qkv = true },
    keys = {
      n_kv_heads = false, d_head = false, norm_eps = "layer_norm_eps", rope_theta = "rotary_emb_base", rotary_share = "rotary_pct",
    },
    config = function(config, c)
      config.use_parallel_residual = c:maybe("boolean", "use_parallel_residual")
      config.attention_bias = c.file:has "blk.0.attn_qkv.bias"
    end,
    metadata = function(spec) return { { "use_parallel_residual", "bool", spec.parallel } } end,
  },
}
