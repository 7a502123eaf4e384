-- Devices: tensors of different ones do not mix, and nothing is copied between them but where this is asked for.
local core = require "massact.core"

local M = {}

---A tensor on a device: itself, where it is there already, else a copy.
---@param tensor massact.Tensor
---@param device string as tensor:device() names it
---@return massact.Tensor
function M.moved(tensor, device)
  return tensor:device() == device and tensor or tensor:to { device = device }
end

---Whole numbers to pick from a tensor with, on its device.
---@param list integer[]
---@param of massact.Tensor
---@return massact.Tensor i64 [n]
function M.index(list, of) return core.tensor.tensor(list, "i64", of:device()) end

---The GPUs that can be used.
---@return string[] "cuda:0" ...
function M.gpus()
  local found = {}
  while pcall(core.system.memory, "cuda:" .. #found) do found[#found + 1] = "cuda:" .. #found end
  return found
end

return M
