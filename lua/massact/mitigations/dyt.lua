-- Dynamic Tanh (Zhu et al. 2025, arXiv 2503.10622): every norm of the residual stream becomes weight * tanh(alpha x) + bias.
-- LLaMA's has no bias; there the embedding is also multiplied by a learned number (`learned_embed_scale`).
local mitigations = require "massact.mitigation"

local function is_norm(slot) return slot:find "norm[%w_]*%.weight$" and not slot:find "[qk]_norm" end

return mitigations.mitigation {
  name = "dyt",
  config = { norm_type = "dyt" },

  -- LLaMA's form has no biases and learns the embedding's scale.
  configure = function(family, config)
    local has_bias = family.spec(config).norm == "layer"
    return { dyt_bias = has_bias, learned_embed_scale = not has_bias or nil }
  end,

  -- alpha: 0.5, or { attention =, other =, final = }: before attention, elsewhere, before the head.
  init = function(slot, how, _, settings)
    if not slot.name:find "%.alpha$" then return end
    local alpha = settings.alpha or 0.5
    if type(alpha) == "table" then
      alpha = slot.name:find "%.attn%." and alpha.attention or slot.name:find "^final" and alpha.final or alpha.other or 0.5
    end
    how.mean = alpha
  end,

  spec = function(_, config)
    return { norm = "dyt", norm_offset = 0, learned_embed_scale = config.learned_embed_scale or false }
  end,

  weights = function(weights, _, config)
    local changes = {}
    for slot, source in pairs(weights) do
      if is_norm(slot) then
        local bias = slot:gsub("weight$", "bias")
        local has_bias = config.dyt_bias
        if has_bias == nil then has_bias = weights[bias] ~= nil end
        changes[slot:gsub("weight$", "alpha")] = mitigations.beside(source, ".alpha")
        changes[bias] = has_bias and mitigations.beside(source, ".bias")
      end
    end
    if config.learned_embed_scale then changes["embed.scale"] = mitigations.beside(weights["embed.tokens"], "..embed_scale") end
    return changes
  end,
}
