-- GPT-2 (Radford et al. 2019): learned positions, pre-norm, one fused and transposed projection for q, k and v.
local families = require "massact.family"

-- Linear weights lie as [in, out]; a third of the fused one each.
local function transposed(name) return { name, view = function(t) return t:t() end } end
local function third(name, i)
  return { name, view = function(t)
    local width = t:size(-1) // 3
    t = t:narrow(-1, i * width, width)
    return t:dim() == 2 and t:t() or t
  end }
end

return families.family {
  name = "gpt2",
  architectures = { "GPT2LMHeadModel" },
  model_types = { "gpt2" },
  prefixes = { { "transformer.", "" } },
  ignored = { "%.attn%.bias$", "%.attn%.masked_bias$" },

  spec = function(config)
    local _ = config.n_ctx, config.reorder_and_upcast_attn
    if config.scale_attn_weights == false or config.scale_attn_by_inverse_layer_idx then
      error("gpt2: attention scaling other than by the root of the head's width is not supported", 0)
    end
    return {
      n_layers = config.n_layer, n_heads = config.n_head, n_kv_heads = config.n_head, d_model = config.n_embd,
      d_head = config.n_embd // config.n_head, d_ff = config.n_inner or 4 * config.n_embd,
      vocab_size = config.vocab_size, max_positions = config.n_positions,
      norm = "layer", norm_eps = config.layer_norm_epsilon or 1e-5, position = "learned",
      activation = families.activation(config.activation_function or "gelu_new"),
    }
  end,

  weights = function()
    return {
      ["embed.tokens"] = "wte.weight",
      ["embed.positions"] = "wpe.weight",
      ["head.weight"] = "wte.weight",
      ["final.norm.weight"] = "ln_f.weight",
      ["final.norm.bias"] = "ln_f.bias",
      ["layers.*.attn.norm.weight"] = "h.*.ln_1.weight",
      ["layers.*.attn.norm.bias"] = "h.*.ln_1.bias",
      ["layers.*.attn.q.weight"] = third("h.*.attn.c_attn.weight", 0),
      ["layers.*.attn.q.bias"] = third("h.*.attn.c_attn.bias", 0),
      ["layers.*.attn.k.weight"] = third("h.*.attn.c_attn.weight", 1),
      ["layers.*.attn.k.bias"] = third("h.*.attn.c_attn.bias", 1),
      ["layers.*.attn.v.weight"] = third("h.*.attn.c_attn.weight", 2),
      ["layers.*.attn.v.bias"] = third("h.*.attn.c_attn.bias", 2),
      ["layers.*.attn.proj.weight"] = transposed "h.*.attn.c_proj.weight",
      ["layers.*.attn.proj.bias"] = "h.*.attn.c_proj.bias",
      ["layers.*.mlp.norm.weight"] = "h.*.ln_2.weight",
      ["layers.*.mlp.norm.bias"] = "h.*.ln_2.bias",
      ["layers.*.mlp.up.weight"] = transposed "h.*.mlp.c_fc.weight",
      ["layers.*.mlp.up.bias"] = "h.*.mlp.c_fc.bias",
      ["layers.*.mlp.proj.weight"] = transposed "h.*.mlp.c_proj.weight",
      ["layers.*.mlp.proj.bias"] = "h.*.mlp.c_proj.bias",
    }
  end,

  paths = {
    ["transformer.h.*"] = "layers.*.out",
    ["transformer.h.*.attn"] = "layers.*.attn.proj",
    ["transformer.h.*.mlp"] = "layers.*.mlp.proj",
    ["transformer.h.*.ln_1"] = "layers.*.attn.norm",
    ["transformer.h.*.ln_2"] = "layers.*.mlp.norm",
    ["transformer.ln_f"] = "final.norm",
  },

  gguf = {
    architecture = "gpt2", fused = { attn_qkv = true },
    keys = {
      n_layers = "n_layer", n_heads = "n_head", n_kv_heads = false, d_model = "n_embd", d_head = false, d_ff = "n_inner",
      max_positions = "n_positions", norm_eps = "layer_norm_epsilon", is_tied = false,
    },
  },
}
