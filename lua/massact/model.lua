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
  local names, i = self.checkpoint:names(), 0
  return function()
    i = i + 1
    if names[i] then return names[i], self.parameter(names[i]) end
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
function methods:param(name) return self.parameter(name) end

local floats = { f32 = true, bf16 = true, f16 = true }

---The parameters that train: the checkpoint's tensors of floats that the decoder uses, by name.  From the first call on each of
---them requires a gradient; `model:param(name):requires_grad(false)` leaves one out after that.
---@return table<string, massact.Tensor>
function methods:parameters()
  local found, is_first = {}, not self.is_followed
  for _, source in pairs(self.sources) do
    local tensor = self.parameter(source.name)
    if is_first and floats[tensor:dtype()] then tensor:requires_grad(true) end
    if tensor:requires_grad() then found[source.name] = tensor end
  end
  self.is_followed = true
  return found
end

---@class massact.LossOptions
---@field capture? string|string[] points whose tensors come back, with their `.grad` after backward
---@field checkpoint? boolean layers keep their input only and run again on the way back, but for those inside which somebody stands
---@field token_losses? boolean
---@field logits? boolean

---The mean loss per token as a tensor to go back from: `model:loss(ids):backward()`, then `model:param(name).grad`.
---@param ids integer[]|integer[][]|massact.Tensor
---@param options? massact.LossOptions
---@return massact.Tensor loss
---@return table out what model:forward gives
function methods:loss(ids, options)
  self:parameters()
  local o = options or {}
  local out = self:forward(ids, { loss = true, grad = true, capture = o.capture, checkpoint = o.checkpoint,
    token_losses = o.token_losses, logits = o.logits })
  return out.loss, out
end

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
