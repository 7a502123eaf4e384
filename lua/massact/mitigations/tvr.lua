-- Target Variance Rescaling (Owen et al. 2025, arXiv 2503.17500): while training, every 50 steps, each matrix W of a decoder layer with
-- std(W) / target > 1.2 becomes (W - mean) / std x target + mean, and its bias zero.  Embeddings, head and norms are untouched.
local mitigations = require "massact.mitigation"

local M = {}

---@class massact.TVR
---@field every integer optimiser steps between two applications (50)
---@field target number standard deviation wanted (0.01)
---@field ratio number of a matrix's standard deviation to the target, above which it is rescaled (1.2)
---@field with_depth boolean target / sqrt(l), l from 1 (false)
---@field except string[] modules that are left alone ("self_attn.q_proj")

M.defaults = { every = 50, target = 0.01, ratio = 1.2, with_depth = false, except = {} }

-- The matrices of decoder layers: the checkpoint's tensors, not the decoder's views of them, so that fused ones count whole.
local function matrices(model)
  local found = {}
  for _, tensor in ipairs(require("massact.layout").of(model)) do
    local layer = tensor.parts[1].slot:match "^layers%.(%d+)%."
    if layer and #tensor.shape == 2 and not tensor.parts[1].is_vector then
      local star = tensor.pattern:find("*", 1, true)
      found[#found + 1] = { name = tensor.name, layer = math.tointeger(layer), bias = tensor.name:gsub("weight$", "bias"),
        module = tensor.pattern:sub(star + 2):gsub("%.weight$", "") }
    end
  end
  return found
end

---Rescales a model once.
---@param model massact.Model
---@param settings? massact.TVR
---@return table[] considered {name, module, layer, mean, std, target, rescaled} of each matrix
function M.rescale(model, settings)
  local scope <close> = require("massact").no_grad()
  local how, considered = setmetatable(settings or {}, { __index = M.defaults }), {}
  local is_exempt, names = {}, {}
  for _, module in ipairs(how.except) do is_exempt[module] = true end
  for name in model:params() do names[name] = true end
  for i, matrix in ipairs(matrices(model)) do
    local weight = model:param(matrix.name)
    local mean, std = weight:mean():item(), weight:std():item() -- n - 1, as torch.std
    local target = how.with_depth and how.target / math.sqrt(matrix.layer + 1) or how.target
    local rescaled = std / target > how.ratio and not is_exempt[matrix.module]
    if rescaled then
      weight:sub_(mean):mul_(target / std):add_(mean)
      if names[matrix.bias] then model:param(matrix.bias):fill_(0) end
    end
    considered[i] = { name = matrix.name, module = matrix.module, layer = matrix.layer, mean = mean, std = std, target = target,
      rescaled = rescaled }
  end
  return considered
end

M.mitigation = mitigations.mitigation {
  name = "tvr",
  callbacks = {
    after_step = function(trainer, settings)
      local every = settings.every or M.defaults.every
      if trainer.step % every ~= 0 then return end
      M.rescale(trainer.model, settings)
      trainer.optimizer:reread()
    end,
  },
}

return M
