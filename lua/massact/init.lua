-- massact: look into language models and change what you find.  This table is what `require "massact"` gives;
-- sub-modules (massact.plot, massact.options ...) are loaded when first used.
local core = require "massact.core"

---@class massact
---@field version string
---@field home string folder that holds lua/ and experiments/
local massact = {
  null = core.json.null,
  json = core.json,
  system = core.system,
  checkpoint = core.checkpoint,
}

---A tensor of the numbers in a nested table (shape from its nesting) or of a single number.
---@param data table|number
---@param dtype? string "f32" (default), "f16", "bf16", "i32", "i64", "u8"
---@param device? string "cpu" (default), "cuda"
---@return massact.Tensor
function massact.tensor(data, dtype, device) return core.tensor.tensor(data, dtype, device) end

-- Sizes, then perhaps {dtype =, device =, seed =}.
local function shape_and_options(...)
  local shape, options = { ... }, {}
  if type(shape[#shape]) == "table" and (#shape > 1 or shape[1].dtype or shape[1].device or shape[1].seed) then
    options = table.remove(shape)
  end
  if type(shape[1]) == "table" then shape = shape[1] end
  return shape, options
end

---A tensor of zeros: `massact.zeros(2, 3)`, `massact.zeros({2, 3}, {dtype = "f16"})`.
---@return massact.Tensor
function massact.zeros(...)
  local shape, o = shape_and_options(...)
  return core.tensor.full(shape, o.dtype, o.device, 0)
end

---A tensor of ones.
---@return massact.Tensor
function massact.ones(...)
  local shape, o = shape_and_options(...)
  return core.tensor.full(shape, o.dtype, o.device, 1)
end

---A tensor of one value: `massact.full({2, 3}, 7)`.
---@param shape integer[]
---@param value number
---@param options? {dtype?: string, device?: string}
---@return massact.Tensor
function massact.full(shape, value, options)
  options = options or {}
  return core.tensor.full(shape, options.dtype, options.device, value)
end

---Standard normal numbers; the same seed gives the same numbers on any machine.
---@return massact.Tensor
function massact.randn(...)
  local shape, o = shape_and_options(...)
  return core.tensor.random(shape, o.dtype, o.device, "normal", o.seed)
end

---Uniform numbers in [0, 1).
---@return massact.Tensor
function massact.rand(...)
  local shape, o = shape_and_options(...)
  return core.tensor.random(shape, o.dtype, o.device, "uniform", o.seed)
end

---0, 1, ..., n - 1 as i64.
---@param n integer
---@return massact.Tensor
function massact.arange(n)
  local values = {}
  for i = 1, n do values[i] = i - 1 end
  return core.tensor.tensor(values, "i64")
end

---Joins tensors along a dim (0 by default).
---@param tensors massact.Tensor[]
---@param dim? integer from 0; negative from the end
---@return massact.Tensor
function massact.cat(tensors, dim) return core.tensor.cat(tensors, dim) end

local no_grad_scope = {
  __close = function(scope)
    if scope.is_open then core.tensor.no_grad(-1) end
    scope.is_open = false
  end,
}

---Nothing is recorded for gradients within: `massact.no_grad(function() ... end)`, which gives what the function gives, or
---`local scope <close> = massact.no_grad()` to the end of the block.  Parameters are written to here.
---@param f? function
---@return any
function massact.no_grad(f, ...)
  local scope = setmetatable({ is_open = true }, no_grad_scope)
  core.tensor.no_grad(1)
  if not f then return scope end
  local _ <close> = scope
  return f(...)
end

---@class massact.safetensors
massact.safetensors = {}

---The tensors of a .safetensors file (or a folder of shards) by name; views of the mapped file.
---@param path string
---@return table<string, massact.Tensor>
function massact.safetensors.load(path)
  local checkpoint <close> = core.checkpoint.open(path)
  local tensors = {}
  for _, name in ipairs(checkpoint:names()) do tensors[name] = checkpoint:tensor(name) end
  return tensors
end

---Writes tensors, beside `path` and renamed, so that a failure leaves what was there.
---@param path string
---@param tensors table<string, massact.Tensor>
---@param metadata? table<string, string>
function massact.safetensors.save(path, tensors, metadata) core.checkpoint.save(path, tensors, metadata) end

-- Sub-modules by name, and the functions that live in them.
local functions = {
  load = "load", loader = "loader", family = "family", mitigation = "mitigation", create = "create", train = "train",
  options = "options", run = "run", sweep = "sweep", windows = "data", detect = "detect",
  perplexity = "perplexity",
}
local modules = { tokenizer = true, tokens = true, plot = true, data = true, statistics = true, gradient = true, info = true, repl = true }

return setmetatable(massact, {
  __index = function(self, key)
    local value
    if functions[key] then
      local module = require("massact." .. functions[key])
      value = type(module) == "table" and module[key] or module
    elseif modules[key] then
      value = require("massact." .. key)
    end
    rawset(self, key, value)
    return value
  end,
})
