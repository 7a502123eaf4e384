-- Weights that are others for a while: model:edit.  The decoder is given f32 copies in their place, so that weights of
-- every dtype, packed ones too, can be changed, and what is mapped of the files stays as it is.
local devices = require "massact.device"
local keyed = require "massact.keyed"
local M = {}

---@class massact.Edit
---@field model massact.Model
---@field was {slot: string, before: massact.Tensor, now: massact.Tensor}[] in the order in which they were replaced
local Edit = {}
Edit.__index = Edit

-- The slots that a name stands for: one slot, or all that a tensor of the checkpoint fills (a tied head too).
local function slots_of(model, name)
  if model.weights[name] then return { name }, true end
  local slots = {}
  for slot, source in pairs(model.sources) do if source.name == name then slots[slot] = true end end
  return keyed.keys(slots), false
end

local function unknown(model, name)
  error(("%s has no weight '%s', neither as a slot (massact.core.model.slots() lists them) nor in its checkpoint")
    :format(model.name, tostring(name)), 4)
end

-- What takes the place of a tensor: a copy that `change` has written to, or the tensor that it gives.
local function changed(tensor, name, change)
  local copy = tensor:float()
  return devices.moved(change(copy, name) or copy, tensor:device())
end

-- {slot, tensor} of everything that `names` mean.
local function replacements(model, names, change)
  local list = {}
  for _, name in ipairs(names) do
    local slots, is_slot = slots_of(model, name)
    if #slots == 0 then unknown(model, name) end
    local tensor = changed(is_slot and model.weights[name] or model:param(name), name, change)
    for _, slot in ipairs(slots) do
      local source = model.sources[slot]
      list[#list + 1] = { slot = slot, now = (is_slot or not source.view) and tensor or source.view(tensor, source.expert) }
    end
  end
  return list
end

-- Gives the decoder another tensor for a slot.
local function bind(model, slot, tensor)
  model:bind(slot, tensor)
  model.weights[slot] = tensor
end

---Changes weights until the edit is closed: `local edit <close> = model:edit(name, change)`.
---A name is a slot of the decoder ("layers.3.mlp.proj.weight": [out, in], whatever the family and the file) or a tensor of the
---checkpoint, by its name there (as it lies in the file; all slots that it fills follow).  `change` gets a copy in f32, and
---writes to it or gives another tensor of that shape; a model of 16 bits rounds it as it rounds every weight.
---Edits of one weight nest: the last one is closed first.  Fails for unknown names, other shapes, and during a pass.
---@param model massact.Model
---@param names string|string[]
---@param change fun(weight: massact.Tensor, name: string): massact.Tensor?
---@return massact.Edit
function M.edit(model, names, change)
  if type(names) == "string" then names = { names } end
  local self = setmetatable({ model = model, was = {} }, Edit)
  local fine, problem = pcall(function()
    for _, each in ipairs(replacements(model, names, change)) do
      local before = model.weights[each.slot]
      bind(model, each.slot, each.now)
      self.was[#self.was + 1] = { slot = each.slot, before = before, now = each.now }
    end
  end)
  if fine then return self end
  self:close()
  error(problem, 0)
end

---Puts back what was there; twice is fine.
function Edit:close()
  for i = #self.was, 1, -1 do
    local slot, before, now = self.was[i].slot, self.was[i].before, self.was[i].now
    if not rawequal(self.model.weights[slot], now) then
      error(("'%s' has been edited again since; close that edit first"):format(slot), 2)
    end
    bind(self.model, slot, before)
    self.was[i] = nil
  end
end

Edit.__close = Edit.close

return M
