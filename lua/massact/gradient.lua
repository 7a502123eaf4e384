-- Gradients of many parameters at once.
local M = {}

---The Euclidean norm of all gradients together.
---@param parameters table<any, massact.Tensor> those without a gradient are left out
---@return number
function M.norm(parameters)
  local squares = 0
  for _, parameter in pairs(parameters) do
    local grad <close> = parameter.grad
    if grad then squares = squares + grad:norm():item() ^ 2 end
  end
  return math.sqrt(squares)
end

---Scales all gradients, in place, so that their norm together is at most `limit` (Pascanu et al. 2013, arXiv 1211.5063).
---@param parameters table<any, massact.Tensor>
---@param limit number
---@return number norm what it was before
function M.clip(parameters, limit)
  local norm = M.norm(parameters)
  if norm <= limit then return norm end
  for _, parameter in pairs(parameters) do
    local grad <close> = parameter.grad
    if grad then grad:mul_(limit / norm) end
  end
  return norm
end

---Forgets all gradients.
---@param parameters table<any, massact.Tensor>
function M.zero(parameters)
  for _, parameter in pairs(parameters) do parameter:zero_grad() end
end

return M
