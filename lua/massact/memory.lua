-- What a forward pass needs, told before it runs.
local core = require "massact.core"

local M = {}

---@class massact.Memory bytes
---@field mapped integer the checkpoint's file; pages of it come and go as memory allows
---@field widened integer f32 copies of weights that passes keep
---@field pass integer the residual stream, and what a layer computes, for `tokens` tokens at a time
---@field logits integer more where logits are asked for whole
---@field tokens integer

---Estimates for a pass over `tokens` tokens in all (sequences times length).  Points that somebody watches, captured tensors
---and saved hidden states come on top.
---@param model massact.Model
---@param tokens integer
---@return massact.Memory
function M.estimate(model, tokens)
  local s = model.spec
  local q, kv = s.n_heads * s.d_head, s.n_kv_heads * s.d_head
  -- Floats a token: core/model/decoder.c, attention.c, mlp.c, in the order in which they are taken.
  local attention = 2 * q + 2 * kv
  local mlp = s.gated and 2 * s.d_ff or s.d_ff
  local widest
  if (s.n_experts or 0) > 0 then mlp = s.n_experts + s.d_model + mlp end
  if s.parallel then widest = (s.shared_norm and 3 or 4) * s.d_model + attention + mlp
  else widest = 2 * s.d_model + math.max(attention, mlp) end
  local mapped = 0
  for _, name in ipairs(model.checkpoint:names()) do mapped = mapped + model.checkpoint:bytes(name) end
  return { mapped = mapped, widened = model:wide_bytes(), pass = 4 * tokens * (s.d_model + widest),
    logits = 2 * 4 * tokens * s.vocab_size, tokens = tokens }
end

---What each device of this machine has, and what a pass over a whole context would take there.
---@param model massact.Model
---@return {device: string, total: integer?, needed: integer}[]
function M.by_device(model)
  local estimate = M.estimate(model, math.min(4096, model.max_positions))
  return { { device = "cpu", total = core.system.machine().memory_bytes, needed = estimate.widened + estimate.pass } }
end

return M
