-- Phi 3 and 4 (Abdin et al. 2024): llama, with queries, keys and values in one projection, gate and up in another.
local families = require "massact.family"
local gguf = require "massact.gguf"

return families.family {
  name = "phi3", like = "llama",
  architectures = { "Phi3ForCausalLM" },
  model_types = { "phi3" },
  unused = { "original_max_position_embeddings" },
  defaults = { max_position_embeddings = 4096, rms_norm_eps = 1e-5 },
  spec = function(config)
    local d_head = config.head_dim or config.hidden_size // config.num_attention_heads
    local dims = families.rotary_dims(config, d_head, 1)
    return {
      ropes = { families.rope(dims, families.rope_settings(config, 10000)) },
      windows = families.windows(config, function() return config.sliding_window ~= nil end),
    }
  end,
  weights = function(spec)
    local q, kv = spec.n_heads * spec.d_head, spec.n_kv_heads * spec.d_head
    local qkv, gate_up = "model.layers.*.self_attn.qkv_proj.weight", "model.layers.*.mlp.gate_up_proj.weight"
    return {
      ["layers.*.attn.q.weight"] = families.rows(qkv, 0, q),
      ["layers.*.attn.k.weight"] = families.rows(qkv, q, kv),
      ["layers.*.attn.v.weight"] = families.rows(qkv, q + kv, kv),
      ["layers.*.mlp.gate.weight"] = families.rows(gate_up, 0, spec.d_ff),
      ["layers.*.mlp.up.weight"] = families.rows(gate_up, spec.d_ff, spec.d_ff),
    }
  end,
  gguf = {
    architecture = "phi3", fused = { attn_qkv = true, ffn_up = true }, keys = { rotary_share = "partial_rotary_factor" },
    -- A file without the key has a window of its own in llama.cpp; 0 says that there is none.
    metadata = function(spec)
      return not gguf.window(spec) and { { "attention.sliding_window", "u32", 0 } } or {}
    end,
  },
}
