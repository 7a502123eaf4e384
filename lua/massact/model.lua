-- What a model offers beyond its C methods (lua/massact/meta/model.lua): its tokenizer, its parameters, its loss.
local core = require "massact.core"

local methods = core.model.methods

-- Fields made when first asked for.
local lazy = {}

function lazy.tokenizer(fields)
  local path = fields.path or error(("%s has no tokenizer; massact.create's option `tokenizer` names one"):format(fields.name), 0)
  if path:match "%.safetensors$" then path = path:match "^(.*)/[^/]*$" or "." end
  return core.tokenizer.load(path)
end

local function add_lazy_fields(model)
  local fields = model:fields()
  if getmetatable(fields) then return end
  setmetatable(fields, {
    __index = function(self, key)
      if not lazy[key] then return nil end
      local value = lazy[key](self)
      rawset(self, key, value)
      return value
    end,
  })
end

local new = core.model.new
function core.model.new(...)
  local model = new(...)
  add_lazy_fields(model)
  return model
end

---Iterates over the checkpoint's own tensors: `for name, tensor in model:params() do`.
---@return fun(): string?, massact.Tensor?
function methods:params()
  local names, checkpoint, i = self.checkpoint:names(), self.checkpoint, 0
  return function()
    i = i + 1
    if names[i] then return names[i], checkpoint:tensor(names[i]) end
  end
end

---The view of the checkpoint that fills a slot of the decoder (core/model/slots.def), whatever the family: a matrix is
---[out, in], its leading dims perhaps split.
---@param slot string "layers.3.mlp.proj.weight"
---@return massact.Tensor
function methods:weight(slot)
  return self.weights[slot] or error(("%s has no weight '%s'; massact.core.model.slots() lists the slots"):format(self.name, slot), 2)
end

---Continues a sequence of ids, a token at a time.
---@param ids integer[]
---@param options? massact.Generate
---@return integer[] continuation
function methods:generate(ids, options) return require("massact.generate").generate(self, ids, options) end

---The checkpoint's tensor of that name.
---@param name string
---@return massact.Tensor
function methods:param(name) return self.checkpoint:tensor(name) end

---Writes the model as a Hugging Face folder: its tensors as they are now, config.json, and the tokenizer's files.  Each file
---is written beside and renamed, config.json last.
---@param folder string made where it is missing
function methods:save(folder)
  if self.checkpoint:format() == "gguf" then
    error(("%s is a GGUF file; massact convert makes a Hugging Face folder of it"):format(self.name), 2)
  end
  core.system.make_folder(folder)
  local tensors = {}
  for name, tensor in self:params() do tensors[name] = tensor end
  core.checkpoint.save(folder .. "/model.safetensors", tensors, { format = "pt" })
  if self.path then
    for name, text in pairs(require("massact.gguf_tokenizer").to_folder(self)) do core.system.write(folder .. "/" .. name, text) end
  end
  core.json.save(folder .. "/config.json", self.config)
end

---Changes weights until the edit is closed; see massact.edit.
---@param names string|string[] slots, or tensors of the checkpoint
---@param change fun(weight: massact.Tensor, name: string): massact.Tensor? gets a copy in f32, writes to it or gives another
---@return massact.Edit
function methods:edit(names, change) return require("massact.edit").edit(self, names, change) end
