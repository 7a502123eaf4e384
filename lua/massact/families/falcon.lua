-- Falcon (Almazrouei et al. 2023; Falcon 2, Malartic et al. 2024): attention and MLP side by side, fed by one layer norm
-- or by one each; queries, keys and values lie group by group in one projection: a group's queries, its key, its value.
local families = require "massact.family"

-- The old architecture has one norm and, with multi_query, one group; the new one has num_kv_heads groups and, unless
-- num_ln_in_parallel_attn is 1 (Falcon 2), two norms.
local function arrangement(config)
  local heads = config.num_attention_heads or config.n_head
  if config.new_decoder_architecture then
    return { heads = heads, groups = config.num_kv_heads or heads, parallel = true,
      norms = config.num_ln_in_parallel_attn == 1 and 1 or 2, attn_norm = "ln_attn", mlp_norm = "ln_mlp" }
  end
  local parallel, _ = config.parallel_attn ~= false, config.num_kv_heads
  return { heads = heads, groups = config.multi_query ~= false and 1 or heads, parallel = parallel,
    norms = parallel and 1 or 2, attn_norm = "input_layernorm", mlp_norm = "post_attention_layernorm" }
end

return families.family {
  name = "falcon",
  architectures = { "FalconForCausalLM", "RWForCausalLM" },
  model_types = { "falcon", "RefinedWebModel", "RefinedWeb" },
  unused = { "hidden_dropout", "ff_factor", "num_ln_in_parallel_attn", "multi_query", "parallel_attn" },
  spec = function(config)
    local how = arrangement(config)
    local d_head = config.hidden_size // how.heads
    if config.alibi then error("falcon: alibi is not supported", 0) end
    if config.apply_residual_connection_post_layernorm then
      error("falcon: apply_residual_connection_post_layernorm is not supported", 0)
    end
    return {
      n_layers = config.num_hidden_layers or config.n_layer, n_heads = how.heads, n_kv_heads = how.groups,
      d_model = config.hidden_size, d_head = d_head, d_ff = config.ffn_hidden_size or 4 * config.hidden_size,
      vocab_size = config.vocab_size, max_positions = config.max_position_embeddings or 2048,
      norm = "layer", norm_eps = config.layer_norm_epsilon or 1e-5,
      parallel = how.parallel, shared_norm = how.norms == 1,
      position = "rope", ropes = { families.rope(d_head, families.rope_settings(config, 10000)) },
      activation = families.activation(config.activation or "gelu"),
    }
  end,
  weights = function(spec, config)
    local how = arrangement(config)
    local layer, per_group = "transformer.h.*.", spec.n_heads // spec.n_kv_heads
    local weights = {
      ["embed.tokens"] = "transformer.word_embeddings.weight",
      ["head.weight"] = config.tie_word_embeddings == false and "lm_head.weight" or "transformer.word_embeddings.weight",
    }
    local function norm(slot, name)
      weights[slot .. ".weight"], weights[slot .. ".bias"] = name .. ".weight", name .. ".bias"
    end
    norm("final.norm", "transformer.ln_f")
    norm("layers.*.attn.norm", layer .. (how.norms == 1 and "input_layernorm" or how.attn_norm))
    if how.norms == 2 then norm("layers.*.mlp.norm", layer .. how.mlp_norm) end
    for _, part in ipairs(config.bias and { "weight", "bias" } or { "weight" }) do
      local function heads(first, n)
        return families.heads(layer .. "self_attention.query_key_value." .. part, spec.n_kv_heads, per_group + 2,
          spec.d_head, first, n)
      end
      weights["layers.*.attn.q." .. part] = heads(0, per_group)
      weights["layers.*.attn.k." .. part] = heads(per_group, 1)
      weights["layers.*.attn.v." .. part] = heads(per_group + 1, 1)
      weights["layers.*.attn.proj." .. part] = layer .. "self_attention.dense." .. part
      weights["layers.*.mlp.up." .. part] = layer .. "mlp.dense_h_to_4h." .. part
      weights["layers.*.mlp.proj." .. part] = layer .. "mlp.dense_4h_to_h." .. part
    end
    return weights
  end,
  paths = {
    ["transformer.h.*"] = "layers.*.out",
    ["transformer.h.*.self_attention"] = "layers.*.attn.proj",
    ["transformer.h.*.mlp"] = "layers.*.mlp.proj",
    ["transformer.h.*.input_layernorm"] = "layers.*.attn.norm",
    ["transformer.h.*.ln_attn"] = "layers.*.attn.norm",
    ["transformer.h.*.ln_mlp"] = "layers.*.mlp.norm",
    ["transformer.ln_f"] = "final.norm",
  },
  gguf = {
    architecture = "falcon", fused = { attn_qkv = true },
    keys = { n_kv_heads = "num_kv_heads", d_head = false, d_ff = "ffn_hidden_size", norm_eps = "layer_norm_epsilon" },
    names = function(spec) return spec.shared_norm and {} or { ["attn.norm"] = "attn_norm_2", ["mlp.norm"] = "attn_norm" } end,
    config = function(config, c, file)
      local has_two = file:has "blk.0.attn_norm_2.weight"
      config.new_decoder_architecture = has_two or config.num_kv_heads > 1
      config.num_ln_in_parallel_attn = config.new_decoder_architecture and (has_two and 2 or 1) or nil
      config.bias = file:has "blk.0.attn_qkv.bias"
      config.alibi = (c:maybe("number", "attention.max_alibi_bias") or 0) > 0
    end,
    metadata = function() return { { "tensor_data_layout", "string", "jploski" } } end,
  },
}
