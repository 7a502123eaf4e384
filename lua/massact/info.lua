-- massact info MODEL: what a checkpoint is, as massact sees it.
local core = require "massact.core"
local keyed = require "massact.keyed"
local memory = require "massact.memory"
local options = require "massact.options"

local M = {}

-- Parameters and bytes by dtype.
local function sizes(checkpoint)
  local parameters, bytes, by_dtype = 0, 0, {}
  for _, name in ipairs(checkpoint:names()) do
    local count = 1
    for _, size in ipairs(checkpoint:shape(name)) do count = count * size end
    local dtype = checkpoint:dtype(name)
    parameters, bytes = parameters + count, bytes + checkpoint:bytes(name)
    by_dtype[dtype] = (by_dtype[dtype] or 0) + count
  end
  return parameters, bytes, by_dtype
end

-- The spec without its long lists.
local function short_spec(spec)
  local out = {}
  for key, value in pairs(spec) do
    if type(value) ~= "table" then out[key] = value end
  end
  return out
end

---Everything that `massact info` says, as a table.
function M.describe(model)
  local parameters, bytes, by_dtype = sizes(model.checkpoint)
  local points, has = {}, {}
  for _, name in ipairs(model:point_names()) do has[(name:gsub("^layers%.%d+", "layers.N"))] = true end
  for _, point in ipairs(core.model.points()) do
    local name = point.in_layer and "layers.N." .. point.name or point.name
    if has[name] then points[#points + 1] = { name = name, shape = point.shape, meaning = point.meaning } end
  end
  local has_tokenizer, tokenizer = pcall(function() return tostring(model.tokenizer) end)
  return {
    name = model.name, path = model.path, family = model.family, format = model.checkpoint:format(), parameters = parameters,
    file_bytes = bytes, parameters_by_dtype = by_dtype, spec = short_spec(model.spec), points = points,
    tokenizer = has_tokenizer and tokenizer or "none: " .. tostring(tokenizer), widened_bytes = model:wide_bytes(),
    memory = memory.estimate(model, math.min(4096, model.max_positions)), devices = memory.by_device(model),
    machine = core.system.machine(),
  }
end

local function print_text(d)
  print(("%s: %s, %s, %.1f M parameters, %.1f MB"):format(d.name, d.family, d.format, d.parameters / 1e6, d.file_bytes / 1e6))
  for _, dtype in ipairs(keyed.keys(d.parameters_by_dtype)) do
    print(("  %-6s %.1f M parameters"):format(dtype, d.parameters_by_dtype[dtype] / 1e6))
  end
  print(("tokenizer: %s"):format(d.tokenizer))
  local m = d.memory
  print(("memory: %.1f MB mapped, %.1f MB of weights widened to f32, %.1f MB for a pass over %d tokens, %.1f MB more with whole logits"):format(
    m.mapped / 1e6, m.widened / 1e6, m.pass / 1e6, m.tokens, m.logits / 1e6))
  for _, device in ipairs(d.devices) do
    print(("  %-6s has %.1f GB; such a pass needs %.2f GB %s"):format(device.device, (device.total or 0) / 1e9, device.needed / 1e9,
      device.device == "cpu" and "beyond the mapped file" or "with the weights"))
  end
  print(("machine: %s; row kernels %s"):format(d.machine.blas, d.machine.row_kernels))
  print "spec:"
  for _, key in ipairs(keyed.keys(d.spec)) do print(("  %-16s %s"):format(key, tostring(d.spec[key]))) end
  print "points:"
  for _, point in ipairs(d.points) do print(("  %-20s [%s]  %s"):format(point.name, point.shape, point.meaning)) end
end

---massact info MODEL [--json]
function M.main(...)
  local path, as_json
  for _, word in ipairs { ... } do
    if word == "--json" then as_json = true
    elseif word:match "^%-" then options.usage_error("info: unknown option '%s'", word)
    elseif path then options.usage_error("info: one model at a time")
    else path = word end
  end
  if not path then options.usage_error("info wants a model: a folder or a .gguf file") end
  local description = M.describe(require("massact").load(path, { device = "cpu" }))
  if as_json then print(core.json.text(description)) else print_text(description) end
end

return M
