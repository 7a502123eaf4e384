-- The precisions that a model computes in, under massact's, PyTorch's and the paper's names.
local M = {}

local known = {
  f32 = "f32", float32 = "f32", float = "f32",
  bf16 = "bf16", bfloat16 = "bf16",
  f16 = "f16", float16 = "f16", half = "f16",
}

---"torch.bfloat16" -> "bf16".
---@param name? string
---@return "f32"|"bf16"|"f16"|nil dtype, string? problem nil and one line where there is no such precision
function M.parse(name)
  local dtype = known[(tostring(name or "f32"):gsub("^torch%.", ""))]
  if dtype then return dtype end
  return nil, ("there is no dtype '%s'; there are f32 (float32), bf16 (bfloat16) and f16 (float16, half)"):format(tostring(name))
end

return M
