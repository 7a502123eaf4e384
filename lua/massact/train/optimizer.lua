-- Optimisers: AdamW and SGD with momentum over a model's parameters, in groups; with 16-bit weights over f32 master copies.
local core = require "massact.core"
local devices = require "massact.device"
local gradients = require "massact.gradient"
local keyed = require "massact.keyed"
local settings = require "massact.settings"

local M = {}

---@class massact.OptimizerOptions
---@field kind? "adamw"|"sgd" ("adamw")
---@field rate? number learning rate (1e-3)
---@field beta1? number adamw (0.9)
---@field beta2? number adamw (0.95)
---@field eps? number adamw (1e-8)
---@field momentum? number sgd (0)
---@field weight_decay? number of parameters of two or more dims that are more than one row (0.1)
---@field groups? fun(name: string, parameter: massact.Tensor): {rate?: number, weight_decay?: number, frozen?: boolean}? what a parameter has
---of its own: `rate` is a factor
---@field clip? number largest norm of all gradients together; nil: any

---@class massact.Optimizer
---@field step_count integer steps done
---@field options massact.OptimizerOptions
---@field entries table[]
local Optimizer = {}
Optimizer.__index = Optimizer

local declared = {
  kind = { "string", default = "adamw" }, rate = { "number", default = 1e-3, least = 0 }, beta1 = { "number", default = 0.9, least = 0, below = 1 },
  beta2 = { "number", default = 0.95, least = 0, below = 1 }, eps = { "number", default = 1e-8, least = 0 },
  momentum = { "number", default = 0, least = 0, below = 1 }, weight_decay = { "number", default = 0.1, least = 0 }, groups = { "function" },
  clip = { "number", least = 0 },
}

local kinds = { adamw = { "mean", "square" }, sgd = { "momentum" } }

local function zeros_like(t) return core.tensor.full(t:shape(), "f32", t:device(), 0) end

local function is_matrix(t)
  local wide = 0
  for _, size in ipairs(t:shape()) do wide = wide + (size > 1 and 1 or 0) end
  return wide > 1
end

-- A parameter with its state.
local function entry_of(name, parameter, o)
  local own = o.groups and o.groups(name, parameter) or {}
  if own.frozen then
    parameter:requires_grad(false)
    return nil
  end
  local entry = { name = name, parameter = parameter, rate = own.rate or 1,
    weight_decay = own.weight_decay or (is_matrix(parameter) and o.weight_decay or 0) }
  -- What is stepped: the parameter itself, or its master copy.
  entry.has_master = parameter:dtype() ~= "f32"
  entry.master = entry.has_master and parameter:detach():float() or parameter:detach()
  for _, state in ipairs(kinds[o.kind]) do entry[state] = zeros_like(parameter) end
  return entry
end

---@param model massact.Model
---@param options? massact.OptimizerOptions
---@return massact.Optimizer
function M.new(model, options)
  local o = settings.take("optimizer", options, declared)
  if not kinds[o.kind] then error(("optimizer: there are adamw and sgd, not '%s'"):format(tostring(o.kind)), 2) end
  local entries, parameters = {}, model:parameters()
  for _, name in ipairs(keyed.keys(parameters)) do entries[#entries + 1] = entry_of(name, parameters[name], o) end
  return setmetatable({ options = o, parameters = model:parameters(), entries = entries, step_count = 0 }, Optimizer)
end

local apply = {}

function apply.adamw(o, entry, gradient, rate, scale, step)
  entry.master:adamw_(gradient, entry.mean, entry.square, { step = step, rate = rate, beta1 = o.beta1, beta2 = o.beta2, eps = o.eps,
    weight_decay = entry.weight_decay, scale = scale })
end

-- As torch.optim.SGD: decay joins the gradient, momentum without dampening.
function apply.sgd(o, entry, gradient, rate, scale)
  local change = gradient * scale
  if entry.weight_decay > 0 then change:add_(entry.master * entry.weight_decay) end
  if o.momentum > 0 then change = entry.momentum:mul_(o.momentum):add_(change) end
  entry.master:sub_(change * rate)
end

---The norm of all gradients together.
---@return number
function Optimizer:gradient_norm() return gradients.norm(self.parameters) end

---One step from the parameters' gradients, which are forgotten.
---@param factor number on the learning rate, as a schedule gives it
---@param norm number of all gradients together, which is clipped where the options say so
function Optimizer:step(factor, norm)
  local o = self.options
  local scale = o.clip and norm > o.clip and o.clip / (norm + 1e-6) or 1 -- as torch.nn.utils.clip_grad_norm_
  local scope <close> = require("massact").no_grad()
  self.step_count = self.step_count + 1
  for _, entry in ipairs(self.entries) do
    local gradient <close> = entry.parameter.grad -- its memory goes with the step, not with the collector
    if gradient then
      apply[o.kind](o, entry, gradient, o.rate * factor * entry.rate, scale, self.step_count)
      if entry.has_master then entry.parameter:copy_(entry.master) end
      entry.parameter:zero_grad()
    end
  end
end

---Takes the parameters as they are now: whoever writes to them between steps calls this, for the sake of master copies.
function Optimizer:reread()
  local scope <close> = require("massact").no_grad()
  for _, entry in ipairs(self.entries) do if entry.has_master then entry.master:copy_(entry.parameter) end end
end

-- Names of what a checkpoint keeps of an entry.
local function states_of(o, entry)
  local names = { table.unpack(kinds[o.kind]) }
  if entry.has_master then names[#names + 1] = "master" end
  return names
end

---Its state by name, for a checkpoint.
---@return table<string, massact.Tensor>
function Optimizer:state()
  local state = {}
  for _, entry in ipairs(self.entries) do
    for _, kind in ipairs(states_of(self.options, entry)) do state[kind .. "." .. entry.name] = entry[kind] end
  end
  return state
end

---Takes a state back.
---@param state table<string, massact.Tensor>
---@param step_count integer
function Optimizer:restore(state, step_count)
  for _, entry in ipairs(self.entries) do
    for _, kind in ipairs(states_of(self.options, entry)) do
      local saved = state[kind .. "." .. entry.name] or error(("the checkpoint has no '%s.%s'; was it made by another optimizer?"):format(kind, entry.name), 0)
      entry[kind]:copy_(devices.moved(saved, entry[kind]:device()))
    end
  end
  self.step_count = step_count
end

return M
