-- What a forward pass needs, told before it runs.
local core = require "massact.core"
local devices = require "massact.device"

local M = {}

local function mapped_bytes(checkpoint)
  local bytes = 0
  for _, name in ipairs(checkpoint:names()) do bytes = bytes + checkpoint:bytes(name) end
  return bytes
end

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
  -- Numbers a token: core/model/decoder.c, attention.c, mlp.c, in the order in which they are taken.  A GPU keeps those of a 16-bit
  -- model in 16 bits.
  local bytes = model:device() ~= "cpu" and model.dtype ~= "f32" and 2 or 4
  local attention = 2 * q + 2 * kv
  local mlp = s.gated and 2 * s.d_ff or s.d_ff
  local widest
  if (s.n_experts or 0) > 0 then mlp = (s.n_experts + 2 * s.d_model) * 4 // bytes + s.d_model + mlp end
  if s.parallel then widest = (s.shared_norm and 3 or 4) * s.d_model + attention + mlp
  else widest = 2 * s.d_model + math.max(attention, mlp) end
  return { mapped = mapped_bytes(model.checkpoint), widened = model:wide_bytes(), pass = bytes * tokens * (s.d_model + widest),
    logits = 2 * 4 * tokens * s.vocab_size, tokens = tokens }
end

---What each device of this machine has, and what a pass over a whole context would take there: on the CPU beyond the mapped
---file, on a GPU with the weights.
---@param model massact.Model
---@return {device: string, total: integer?, needed: integer}[]
function M.by_device(model)
  local estimate = M.estimate(model, math.min(4096, model.max_positions))
  local list = { { device = "cpu", total = core.system.machine().memory_bytes, needed = estimate.widened + estimate.pass } }
  for _, gpu in ipairs(devices.gpus()) do
    local _, total = core.system.memory(gpu)
    list[#list + 1] = { device = gpu, total = total, needed = estimate.mapped + estimate.widened + estimate.pass }
  end
  return list
end

-- An error where a GPU has less left than it takes; a CPU has its swap, and says itself when it is full.
local function check(device, needed, what, advice)
  if device == "cpu" then return end
  local free, total = core.system.memory(device)
  if needed <= free then return end
  error(("%s: %.2f GB, but %s has %.2f of its %.2f GB left; %s"):format(what, needed / 1e9, device, free / 1e9, total / 1e9, advice), 0)
end

---Fails where the weights of a checkpoint do not fit on a GPU.
---@param checkpoint massact.Checkpoint
---@param device string
---@param where string for the message
function M.check_weights(checkpoint, device, where)
  if device ~= "cpu" then check(device, mapped_bytes(checkpoint), where .. ": weights", "use device cpu, or a smaller or quantised model") end
end

---Fails where a pass over so many tokens does not fit beside the weights on the model's GPU.
---@param model massact.Model
---@param tokens integer in all
function M.check_pass(model, tokens)
  local estimate = M.estimate(model, tokens)
  check(model:device(), estimate.widened + estimate.pass, ("%s: a pass over %d tokens"):format(model.name, tokens),
    "use a shorter --context_length, or --device cpu")
end

return M
