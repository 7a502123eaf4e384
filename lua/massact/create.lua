-- massact.create: a model with random weights, from a config.json.  It is like one that was loaded: points, passes, params.
local core = require "massact.core"
local families = require "massact.family"
local keyed = require "massact.keyed"
local layout = require "massact.layout"
local loading = require "massact.load"
local mitigations = require "massact.mitigation"
local settings = require "massact.settings"

local M = {}

---@class massact.SlotInit
---@field name string the slot ("layers.3.attn.q.weight")
---@field layer? integer
---@field is_linear boolean a matrix of a decoder layer

---@class massact.Create
---@field seed? integer (42)
---@field std? number of matrices (0.02)
---@field mitigations? table names, or name = settings: { "kv_bias", tvr = { target = 0.01 } }
---@field tokenizer? string folder or tokenizer.json, which `model:save` copies
---@field device? string
---@field dtype? string of the weights and of what it computes in: "f32" (default), "bf16" or "f16"
---@field name? string

local declared = {
  seed = { "integer", default = 42 }, std = { "number", default = 0.02, least = 0 }, mitigations = { "table", default = {} }, tokenizer = { "string" },
  device = { "string" }, dtype = { "string", default = "f32", one_of = { "f32", "bf16", "f16" } }, name = { "string" },
}

-- ---- how numbers begin ----

local function info_of(part)
  local layer = part.slot:match "^layers%.(%d+)%."
  return { name = part.slot, layer = math.tointeger(layer), is_linear = layer ~= nil and not part.is_vector and not part.slot:find "extra_" }
end

-- As transformers begins them: norms do nothing, biases are zero, matrices are normal.
local function usual(part, spec, std)
  local slot = part.slot
  if slot:find "norm[%w_]*%.weight$" then return { mean = 1 - (spec.norm_offset or 0), std = 0 } end
  if slot:find "%.alpha$" then return { mean = 0.5, std = 0 } end
  if slot == "embed.scale" then return { mean = math.sqrt(spec.d_model), std = 0 } end
  if part.is_vector then return { mean = 0, std = 0 } end
  return { mean = 0, std = slot:find "extra_" and 0.02 or std }
end

local function fill(part, tensor, how, seed)
  local view = part.view and part.view(tensor, part.expert) or tensor
  if how.std == 0 then return view:fill_(how.mean) end
  view:copy_(core.tensor.random(view:shape(), "f32", "cpu", "normal", seed):mul_(how.std):add_(how.mean))
end

-- ---- mitigations ----

-- {"kv_bias", tvr = {...}} -> sorted {name, settings} pairs.
local function listed(given)
  local all = {}
  for key, value in pairs(given) do
    local name, own = key, value
    if math.type(key) then name, own = value, {} end
    mitigations.named(name)
    all[#all + 1] = { name = name, settings = own == true and {} or own }
  end
  table.sort(all, function(a, b) return a.name < b.name end)
  return all
end

-- The config with what mitigations say in it; `massact` keeps their settings, for whoever goes on training.
local function configured(config, chosen, family)
  local full = keyed.merged(config)
  local by_name = {}
  for _, each in ipairs(chosen) do
    local mitigation = mitigations.named(each.name)
    for key, value in pairs(mitigation.config or {}) do full[key] = value end
    if mitigation.configure then
      for key, value in pairs(mitigation.configure(family, full, each.settings)) do
        if full[key] == nil then full[key] = value end
      end
    end
    by_name[each.name] = each.settings
  end
  if #chosen > 0 then full.massact = { mitigations = by_name } end
  return full
end

-- ---- the model ----

local bytes_of = { f32 = 4, bf16 = 2, f16 = 2 }

-- What stands in for a checkpoint's file.
local function in_memory(tensors)
  local names, by_name, bytes = {}, {}, {}
  for i, tensor in ipairs(tensors) do
    names[i], by_name[tensor.name], bytes[tensor.name] = tensor.name, tensor.value, tensor.value:size() * bytes_of[tensor.value:dtype()]
  end
  return {
    names = function() return names end,
    tensor = function(_, name) return by_name[name] or error(("there is no tensor '%s'"):format(name), 0) end,
    has = function(_, name) return by_name[name] ~= nil end,
    shape = function(_, name) return by_name[name]:shape() end,
    dtype = function(_, name) return by_name[name]:dtype() end,
    bytes = function(_, name) return bytes[name] end,
    format = function() return "safetensors" end,
    close = function() end,
  }
end

---A new model.
---@param config table what config.json says, `architectures` or `model_type` included
---@param options? massact.Create
---@return massact.Model
function M.create(config, options)
  local o = settings.take("create", options, declared)
  local plain = families.of_config(config, "config")
  local chosen = listed(o.mitigations)
  local full = configured(config, chosen, plain)
  local family = mitigations.applied(plain, full)
  local proxy = families.recording(full, family, "config")
  local spec = family.spec(proxy)
  local tensors = layout.tensors(family, spec, proxy)
  local device = core.system.machine(o.device or "auto").device
  for i, tensor in ipairs(tensors) do
    tensor.value = core.tensor.full(tensor.shape, "f32", "cpu", 0)
    for k, part in ipairs(tensor.parts) do
      local how = usual(part, spec, o.std)
      for _, each in ipairs(chosen) do
        local init = mitigations.named(each.name).init
        if init then init(info_of(part), how, spec, each.settings) end
      end
      fill(part, tensor.value, how, o.seed * 1000003 + i * 64 + k)
    end
    tensor.value = tensor.value:to { dtype = o.dtype, device = device }
  end
  return loading.assemble {
    family = family, spec = spec, config = full, proxy = proxy, checkpoint = in_memory(tensors), device = device, dtype = o.dtype,
    name = o.name or family.name, path = o.tokenizer, where = "config",
  }
end

return M
