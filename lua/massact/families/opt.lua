-- OPT (Zhang et al. 2022): learned positions that begin at row 2.  OPT-350m normalises the sum of stream and branch, has
-- no final norm, and projects narrow embeddings in and out.
local families = require "massact.family"

return families.family {
  name = "opt",
  architectures = { "OPTForCausalLM" },
  model_types = { "opt" },
  prefixes = { { "decoder.", "model.decoder." } },
  unused = { "dropout", "init_std", "layerdrop", "prefix", "activation_dropout" },
  spec = function(config)
    local before = config.do_layer_norm_before ~= false
    local narrow = config.word_embed_proj_dim or config.hidden_size
    if config.layer_norm_elementwise_affine == false then error("opt: norms without weights are not supported", 0) end
    return {
      n_layers = config.num_hidden_layers, n_heads = config.num_attention_heads,
      n_kv_heads = config.num_attention_heads, d_model = config.hidden_size,
      d_head = config.hidden_size // config.num_attention_heads, d_ff = config.ffn_dim, vocab_size = config.vocab_size,
      max_positions = config.max_position_embeddings or 2048, d_embed = narrow ~= config.hidden_size and narrow or 0,
      norm = "layer", norm_eps = 1e-5, norm_before = before, norm_sum = not before,
      final_norm = not config._remove_final_layer_norm and before,
      position = "learned", position_offset = 2, attn_scale_q = true,
      activation = families.activation(config.activation_function or "relu"),
    }
  end,
  weights = function(spec, config)
    local layer = "model.decoder.layers.*."
    local weights = {
      ["embed.tokens"] = "model.decoder.embed_tokens.weight",
      ["embed.positions"] = "model.decoder.embed_positions.weight",
      ["head.weight"] = config.tie_word_embeddings == false and "lm_head.weight" or "model.decoder.embed_tokens.weight",
    }
    if spec.d_embed > 0 then
      weights["embed.project"], weights["final.project"] = "model.decoder.project_in.weight", "model.decoder.project_out.weight"
    end
    local function both(slot, name)
      weights[slot .. ".weight"], weights[slot .. ".bias"] = name .. ".weight", name .. ".bias"
    end
    if spec.final_norm then both("final.norm", "model.decoder.final_layer_norm") end
    both("layers.*.attn.norm", layer .. "self_attn_layer_norm")
    both("layers.*.mlp.norm", layer .. "final_layer_norm")
    for slot, name in pairs {
      ["attn.q"] = "self_attn.q_proj", ["attn.k"] = "self_attn.k_proj", ["attn.v"] = "self_attn.v_proj",
      ["attn.proj"] = "self_attn.out_proj", ["mlp.up"] = "fc1", ["mlp.proj"] = "fc2",
    } do
      both("layers.*." .. slot, layer .. name)
      if config.enable_bias == false then weights["layers.*." .. slot .. ".bias"] = nil end
    end
    return weights
  end,
  paths = {
    ["model.decoder.layers.*"] = "layers.*.out",
    ["model.decoder.layers.*.self_attn"] = "layers.*.attn.proj",
    ["model.decoder.layers.*.fc1"] = "layers.*.mlp.up",
    ["model.decoder.layers.*.fc2"] = "layers.*.mlp.proj",
    ["model.decoder.final_layer_norm"] = "final.norm",
  },
}
