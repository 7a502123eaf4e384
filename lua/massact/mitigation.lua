-- Mitigations: ways to train without massive activations.  One is data, a small file under mitigations/ or a call of
-- massact.mitigation{...} in a user's script: what it adds to a family (fields of the spec, weights), how its new weights
-- begin, and what it does while training.  Its keys in config.json tell that a checkpoint was made with it.
local keyed = require "massact.keyed"

---@class massact.Mitigation
---@field name string
---@field config? table<string, any> keys of config.json that say that a model has it
---@field spec? fun(spec: table, config: table): table fields of core/model/spec.def that it changes
---@field weights? fun(weights: table<string, massact.Source>, spec: table, config: table): table<string, massact.Source|false> slots that
---it adds, or (false) takes away
---@field configure? fun(family: massact.Family, config: table, settings: table): table keys that config.json gets besides, where it has none
---@field init? fun(slot: massact.SlotInit, how: {mean: number, std: number}, spec: table, settings: table) changes how a slot's numbers begin
---@field callbacks? table<string, fun(trainer: massact.Trainer, settings: table)> for the trainer, by moment

local M = { registered = {} }

---Registers a mitigation and returns it.
---@param mitigation massact.Mitigation
---@return massact.Mitigation
function M.mitigation(mitigation)
  if type(mitigation.name) ~= "string" then error("mitigation: 'name' is missing", 2) end
  M.registered[mitigation.name] = mitigation
  return mitigation
end

local function load_all()
  if M.is_loaded then return end
  keyed.load_folder "mitigations"
  M.is_loaded = true
end

-- Names in a fixed order, so that mitigations apply alike in every run.
local function names()
  load_all()
  return keyed.keys(M.registered)
end

---The mitigation of that name.
---@param name string
---@return massact.Mitigation
function M.named(name)
  load_all()
  return M.registered[name] or error(("there is no mitigation '%s'; there are %s, and massact.mitigation{...} adds one"):format(
    tostring(name), table.concat(names(), ", ")), 0)
end

-- Whether a config says that its model has the mitigation.
local function is_in(mitigation, config)
  if not mitigation.config then return false end
  for key, value in pairs(mitigation.config) do if config[key] ~= value then return false end end
  return true
end

---The mitigations that a config.json names.
---@param config table
---@return massact.Mitigation[]
function M.of_config(config)
  local found = {}
  for _, name in ipairs(names()) do
    if is_in(M.registered[name], config) then found[#found + 1] = M.registered[name] end
  end
  return found
end

-- `family` as one mitigation makes it.
local function applied(family, mitigation)
  local known = table.move(family.unused or {}, 1, #(family.unused or {}), 1, {})
  for key in pairs(mitigation.config) do known[#known + 1] = key end
  return keyed.merged(family, {
    unused = known,
    spec = mitigation.spec and function(config)
      local spec = family.spec(config)
      return keyed.merged(spec, mitigation.spec(spec, config))
    end or nil,
    weights = mitigation.weights and function(spec, config)
      local weights = family.weights(spec, config)
      return keyed.amended(weights, mitigation.weights(weights, spec, config))
    end or nil,
  })
end

---A family with what the mitigations of a config add to it.
---@param family massact.Family
---@param config table
---@return massact.Family
function M.applied(family, config)
  for _, mitigation in ipairs(M.of_config(config)) do family = applied(family, mitigation) end
  return family
end

---A name beside that of a slot's weight: "model.layers.*.self_attn.o_proj.weight", "..k_bias" -> "model.layers.*.self_attn.k_bias".
---@param source massact.Source
---@param path string what replaces the last part; each dot in front goes one module up
---@return string
function M.beside(source, path)
  local name = type(source) == "table" and source[1] or source
  while path:sub(1, 1) == "." do name, path = name:match "^(.*)%.[^.]*$" or "", path:sub(2) end
  return name == "" and path or name .. "." .. path
end

return M
