-- MPT (MosaicML 2023): positions by ALiBi, layer norms without bias, one projection for queries, keys and values.  As
-- transformers does, the MLP is four times as wide and the largest ALiBi exponent is 8, whatever the config says.
local families = require "massact.family"

return families.family {
  name = "mpt",
  architectures = { "MPTForCausalLM", "MptForCausalLM" },
  model_types = { "mpt" },
  unused = {
    "alibi_bias_max", "emb_pdrop", "embedding_fraction", "expansion_ratio", "init_config", "init_device",
    "learned_pos_emb", "no_bias", "norm_type", "verbose", "fc_type", "ffn_config", "tokenizer_name", "use_pad_tok_in_ffn",
  },
  spec = function(config)
    local attention = config.attn_config or {}
    local function is_set(value) return value and value ~= require("massact").null end
    for _, key in ipairs { "qk_ln", "prefix_lm" } do
      if is_set(attention[key]) then error(("mpt: attn_config.%s is not supported"):format(key), 0) end
    end
    if attention.alibi == false then error("mpt: learned positions (attn_config.alibi false) are not supported", 0) end
    if config.logit_scale then error("mpt: logit_scale is not supported", 0) end
    return {
      n_layers = config.n_layers, n_heads = config.n_heads, n_kv_heads = config.n_heads, d_model = config.d_model,
      d_head = config.d_model // config.n_heads, d_ff = 4 * config.d_model, vocab_size = config.vocab_size,
      max_positions = config.max_seq_len or 2048, norm = "layer", norm_eps = config.layer_norm_epsilon or 1e-5,
      position = "alibi", activation = "gelu",
      qkv_clip = is_set(attention.clip_qkv) or 0, attn_scale = is_set(attention.softmax_scale) or 0,
    }
  end,
  weights = function(spec)
    local qkv, d = "transformer.blocks.*.attn.Wqkv.weight", spec.d_model
    return {
      ["embed.tokens"] = "transformer.wte.weight",
      ["head.weight"] = "transformer.wte.weight",
      ["final.norm.weight"] = "transformer.norm_f.weight",
      ["layers.*.attn.norm.weight"] = "transformer.blocks.*.norm_1.weight",
      ["layers.*.attn.q.weight"] = families.rows(qkv, 0, d),
      ["layers.*.attn.k.weight"] = families.rows(qkv, d, d),
      ["layers.*.attn.v.weight"] = families.rows(qkv, 2 * d, d),
      ["layers.*.attn.proj.weight"] = "transformer.blocks.*.attn.out_proj.weight",
      ["layers.*.mlp.norm.weight"] = "transformer.blocks.*.norm_2.weight",
      ["layers.*.mlp.up.weight"] = "transformer.blocks.*.ffn.up_proj.weight",
      ["layers.*.mlp.proj.weight"] = "transformer.blocks.*.ffn.down_proj.weight",
    }
  end,
  paths = {
    ["transformer.blocks.*"] = "layers.*.out",
    ["transformer.blocks.*.attn"] = "layers.*.attn.proj",
    ["transformer.blocks.*.ffn"] = "layers.*.mlp.proj",
    ["transformer.blocks.*.norm_1"] = "layers.*.attn.norm",
    ["transformer.blocks.*.norm_2"] = "layers.*.mlp.norm",
    ["transformer.norm_f"] = "final.norm",
  },
  gguf = {
    architecture = "mpt", fused = { attn_qkv = true },
    keys = {
      n_layers = "n_layers", n_heads = "n_heads", n_kv_heads = false, d_model = "d_model", d_head = false, d_ff = false,
      max_positions = "max_seq_len", norm_eps = "layer_norm_epsilon", qkv_clip = false, is_tied = false,
    },
    config = function(config, c)
      if c:maybe("number", "attention.max_alibi_bias") ~= 8 then
        error(("%s: mpt: 'attention.max_alibi_bias' other than 8 is not supported"):format(c.where), 0)
      end
      config.attn_config = {
        alibi = true, clip_qkv = c:maybe("number", "attention.clamp_kqv"), softmax_scale = c:maybe("number", "attention.scale"),
      }
    end,
  },
}
