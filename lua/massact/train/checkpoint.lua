-- Checkpoints of a training run: FOLDER/step-N holds the model as a Hugging Face folder, optimizer.safetensors and trainer.json.
-- A checkpoint is written beside and renamed, so that each one there is whole.
local core = require "massact.core"
local devices = require "massact.device"

local M = {}

local function path_of(folder, step) return ("%s/step-%d"):format(folder, step) end

local function remove(folder)
  if not core.system.exists(folder) then return end
  for _, name in ipairs(core.system.list(folder)) do os.remove(folder .. "/" .. name) end
  os.remove(folder)
end

---Steps of which there is a whole checkpoint, lowest first.
---@param folder string
---@return integer[]
function M.steps(folder)
  local steps = {}
  for _, name in ipairs(core.system.exists(folder) and core.system.list(folder) or {}) do
    local step = name:match "^step%-(%d+)$"
    if step and core.system.exists(folder .. "/" .. name .. "/trainer.json") then steps[#steps + 1] = math.tointeger(step) end
  end
  table.sort(steps)
  return steps
end

---Writes a checkpoint; what is there of the same step goes.
---@param folder string
---@param trainer massact.Trainer
---@param keep? integer how many to keep besides (nil: all)
function M.save(folder, trainer, keep)
  local path, beside = path_of(folder, trainer.step), path_of(folder, trainer.step) .. ".unfinished"
  remove(beside)
  local fine, problem = pcall(function()
    trainer.model:save(beside)
    core.checkpoint.save(beside .. "/optimizer.safetensors", trainer.optimizer:state())
    core.json.save(beside .. "/trainer.json", { step = trainer.step, optimizer_steps = trainer.optimizer.step_count, tokens = trainer.tokens,
      loader = trainer.loader:state() })
    remove(path)
    assert(os.rename(beside, path))
  end)
  if not fine then
    remove(beside)
    error(problem, 0)
  end
  local steps = M.steps(folder)
  for i = 1, #steps - (keep or #steps) do remove(path_of(folder, steps[i])) end
end

---Removes every whole checkpoint.
---@param folder string
function M.forget(folder)
  for _, step in ipairs(M.steps(folder)) do remove(path_of(folder, step)) end
end

-- Copies the tensors of a checkpoint into the model's.
local function restore_model(model, path)
  local saved = core.checkpoint.open(path .. "/model.safetensors")
  local scope <close> = require("massact").no_grad()
  for name, tensor in model:params() do
    if not saved:has(name) then error(("'%s' has no tensor '%s': it is a checkpoint of another model"):format(path, name), 0) end
    local from = saved:tensor(name)
    local here, there = table.concat(tensor:shape(), " x "), table.concat(from:shape(), " x ")
    if here ~= there then
      error(("'%s' holds '%s' as [%s], the model has it as [%s]: it is a checkpoint of another model"):format(path, name, there, here), 0)
    end
    tensor:copy_(devices.moved(from, tensor:device()))
  end
end

---Takes back the last whole checkpoint; false where there is none.
---@param folder string
---@param trainer massact.Trainer
---@return boolean
function M.restore(folder, trainer)
  local steps = M.steps(folder)
  local step = steps[#steps]
  if not step then return false end
  local path = path_of(folder, step)
  local about = core.json.load(path .. "/trainer.json")
  restore_model(trainer.model, path)
  trainer.optimizer:restore(require("massact").safetensors.load(path .. "/optimizer.safetensors"), about.optimizer_steps)
  trainer.loader:restore(about.loader)
  trainer.step, trainer.tokens = about.step, about.tokens
  return true
end

return M
