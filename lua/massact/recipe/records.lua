-- Where records of magnitudes over training come from: folders of mitigations/train.lua, or checkpoints whose names tell their steps.
local core = require "massact.core"
local data = require "massact.data"
local growth = require "massact.recipe.growth"
local massact = require "massact"
local options = require "massact.options"

local M = {}

---@class massact.TrainingRecord
---@field step integer
---@field magnitudes massact.Magnitudes

---The records of a folder of mitigations/train.lua, whether it has ended or not.
---@param folder string
---@return massact.TrainingRecord[]
function M.of_training(folder)
  local records, path = {}, folder .. "/log.jsonl"
  if not core.system.exists(path) then options.usage_error("'%s' has no log.jsonl: it is no training of mitigations/train.lua", folder) end
  local file <close> = assert(io.open(path, "rb"))
  for line in file:lines() do
    local fine, record = pcall(core.json.parse, line)
    if fine and type(record) == "table" and record.magnitudes then
      records[#records + 1] = { step = record.step, magnitudes = record.magnitudes }
    end
  end
  if #records == 0 then error(("'%s' has no magnitudes: it was not trained by mitigations/train.lua"):format(path), 0) end
  return records
end

local function name_of(path) return path:gsub("/+$", ""):match "[^/]*$" end

---The step that a checkpoint's name tells: its last number ("step-600", "step3000", "checkpoint-500").
---@param path string
---@return integer? step
function M.step_of(path) return math.tointeger(tonumber(name_of(path):match "(%d+)%D*$")) end

local function is_model(path) return core.system.exists(path .. "/config.json") end

---The checkpoints that words mean: folders with a model, or folders of these; by their steps.
---@param words string[]
---@return {path: string, step: integer}[] ascending
function M.checkpoints(words)
  local found, seen = {}, {}
  local function add(path)
    local step = M.step_of(path)
    if not step then options.usage_error("--checkpoints: the name of '%s' tells no step, as step1000 does", path) end
    if seen[step] then options.usage_error("--checkpoints: '%s' and '%s' are both of step %d", seen[step], path, step) end
    found[#found + 1], seen[step] = { path = path, step = step }, path
  end
  for _, word in ipairs(words) do
    if not core.system.is_folder(word) then options.usage_error("--checkpoints: there is no folder '%s'", word) end
    local n = #found
    for _, name in ipairs(core.system.list(word)) do
      local path = word:gsub("/+$", "") .. "/" .. name
      if M.step_of(path) and is_model(path) then add(path) end
    end
    if #found == n and is_model(word) then add(word) end
    if #found == n then options.usage_error("--checkpoints: '%s' holds no checkpoint, a folder with config.json and a step in its name", word) end
  end
  table.sort(found, function(a, b) return a.step < b.step end)
  return found
end

---What a checkpoint shows on the first windows of the texts.
---@param opt table options: pretrained, data, context, record_windows ...
---@return {step: integer, n_layers: integer, magnitudes: massact.Magnitudes}
function M.measure(opt)
  local model = massact.load(opt.pretrained, { dtype = opt.dtype })
  local windows = data.windows(model.tokenizer, data.text(opt.data, opt), { length = math.min(opt.context, model.max_positions),
    bos = opt.bos_windows, limit = opt.record_windows, name = "the text " .. table.concat(opt.data, ",") })
  return { step = M.step_of(opt.pretrained) or options.usage_error("--pretrained: the name of '%s' tells no step, as step1000 does", opt.pretrained),
    n_layers = model.n_layers, magnitudes = growth.magnitudes(model, windows) }
end

return M
