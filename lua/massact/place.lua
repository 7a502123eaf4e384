-- Where in each layer an experiment looks: the paper's --layer_path and --module_name, in the checkpoint's own words.
local core = require "massact.core"
local options = require "massact.options"

local M = {}

---@class massact.Place
---@field pattern string "layers.*.out"
---@field point string "out"

---@param place massact.Place
---@param layer integer from 0
---@return string
function M.name(place, layer) return ("layers.%d.%s"):format(layer, place.point) end

---The layer's output.
M.output = { pattern = "layers.*.out", point = "out" }

-- What the family's checkpoints call the list of layers: "model.layers".
local function layer_path_of(model)
  for path, point in pairs(model.paths or {}) do
    if point == "layers.*.out" then return (path:gsub("%.%*$", "")) end
  end
end

-- An attention path that was asked for has to be the family's.
local function check_attn_path(model, opt, layer_path)
  if not (opt.given and opt.given.attn_path) then return end
  local found, names = pcall(function() return model:point(("%s.*.%s"):format(layer_path, opt.attn_path)):names() end)
  if not found or not names[1]:match "%.attn%.proj$" then
    options.usage_error("--attn_path %s: family %s has no attention there; massact info lists its points", opt.attn_path, model.family)
  end
end

local function shape_of(point)
  for _, info in ipairs(core.model.points()) do
    if info.in_layer and info.name == point then return info.shape end
  end
end

local function has_rows_of_numbers(point) return shape_of(point):match "^B T %a$" ~= nil end

---Whether a place's dims are those of the residual stream.
---@param place massact.Place
---@return boolean
function M.is_of_stream(place) return shape_of(place.point) == "B T D" end

---The place that the options name.  `module_name` is "layer" (the layer's output), a module inside the checkpoint's
---layer ("mlp", "self_attn") or a point inside massact's ("mlp.act").
---@param model massact.Model
---@param opt {layer_path: string, attn_path: string, module_name: string, given?: table}
---@return massact.Place
function M.of(model, opt)
  local theirs = layer_path_of(model)
  if opt.given and opt.given.layer_path and opt.layer_path ~= theirs then
    options.usage_error("--layer_path %s: the layers of family %s are at %s", opt.layer_path, model.family, theirs)
  end
  check_attn_path(model, opt, theirs)
  if opt.module_name == "layer" then return M.output end
  local found, names = pcall(function() return model:point(("%s.*.%s"):format(theirs, opt.module_name)):names() end)
  if not found then found, names = pcall(function() return model:point("layers.*." .. opt.module_name):names() end) end
  local point = found and names[1]:match "^layers%.%d+%.(.*)$"
  if not point or #names ~= model.n_layers then
    options.usage_error("--module_name %s: family %s has no such module in a layer; massact info lists its points",
      opt.module_name, model.family)
  end
  if not has_rows_of_numbers(point) then
    options.usage_error("--module_name %s: only what has one vector a token can be looked at", opt.module_name)
  end
  return { pattern = "layers.*." .. point, point = point }
end

return M
