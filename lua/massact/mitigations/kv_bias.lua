-- Attention KV bias (Sun et al. 2024, arXiv 2402.17762, section 4): each head has one learnable key and value in front of the
-- sequence, softmax(Q [K; k']^T / sqrt(d)) [V; v'], which every query sees and which is not rotated.
local mitigations = require "massact.mitigation"

-- [1, H, 1, d] in checkpoints.
local function of_heads(name) return { name, view = function(t) return t:reshape(t:size(1), t:size(3)) end } end

return mitigations.mitigation {
  name = "kv_bias",
  config = { attention_kv_bias = true },

  spec = function() return { kv_bias = true } end,

  weights = function(weights)
    local proj = weights["layers.*.attn.proj.weight"]
    return {
      ["layers.*.attn.extra_key"] = of_heads(mitigations.beside(proj, "..k_bias")),
      ["layers.*.attn.extra_value"] = of_heads(mitigations.beside(proj, "..v_bias")),
    }
  end,
}
