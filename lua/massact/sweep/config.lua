-- What a sweep's config says, checked before anything runs, and the cases that it means.
local core = require "massact.core"
local keyed = require "massact.keyed"
local options = require "massact.options"
local scripts = require "massact.scripts"

local M = {}

---@class massact.SweepConfig a Lua file that returns it, or JSON
---@field experiment? string name or path of a script; `cross` and `cases` may have it too
---@field fixed? table<string, any> options of every case
---@field cross? table<string, any[]> lists of values: every combination is a case
---@field cases? table[] options of named cases ({name = "bare", windows = 3}), each with every combination of `cross`
---@field exclude? table[] options: cases that have all of one entry's are left out
---@field results? string[] what the summary shows of results.json ("perplexity.original.text"); nil: every number and short list
---@field report? fun(cases: table[]): table<string, string> texts to write by file name, from {case, options, state, results}
---@field out? string folder (sweeps/CONFIG)
---@field threads? integer of a case (cores / jobs)
---@field memory? number GB that a case needs at most; nil: what its model's files have, and half a GB

local keys = { experiment = "string", fixed = "table", cross = "table", cases = "table", exclude = "table", results = "table",
  report = "function", out = "string", threads = "number", memory = "number" }

local function fail(path, format, ...) options.usage_error("%s: " .. format, path, ...) end

-- ---- reading ----

-- The config's table: JSON as it is; Lua is run with the --set values as its argument.
local function read(path, set)
  if not core.system.exists(path) then options.usage_error("there is no config '%s'", path) end
  if path:match "%.json$" then return core.json.load(path) end
  local chunk, problem = loadfile(path, "t")
  if not chunk then error(problem, 0) end
  return chunk(set)
end

local function check_shape(path, config)
  if type(config) ~= "table" then fail(path, "a config is a table; this is a %s", type(config)) end
  for key, value in pairs(config) do
    if not keys[key] then fail(path, "there is no '%s' in a config; there are %s", tostring(key), options.names(keys)) end
    if type(value) ~= keys[key] then fail(path, "'%s' has to be a %s", key, keys[key]) end
  end
  for name, values in pairs(config.cross or {}) do
    if type(values) ~= "table" or #values == 0 then fail(path, "cross: '%s' has to be a list of values", tostring(name)) end
  end
  for _, list in ipairs { "cases", "exclude" } do
    for i, entry in ipairs(config[list] or {}) do
      if type(entry) ~= "table" then fail(path, "%s: entry %d has to be a table of options", list, i) end
    end
  end
end

-- ---- combining ----

-- Every combination of the lists in `cross`; the last name varies fastest.
local function combinations(cross)
  local all = { {} }
  for _, name in ipairs(keyed.keys(cross)) do
    local longer = {}
    for _, given in ipairs(all) do
      for _, value in ipairs(cross[name]) do longer[#longer + 1] = keyed.merged(given, { [name] = value }) end
    end
    all = longer
  end
  return all
end

local function text_of(value) return type(value) == "table" and table.concat(value, ",") or tostring(value) end

local function matches(case, entry)
  for key, value in pairs(entry) do
    if key == "name" and case.label ~= value then return false end
    if key ~= "name" and text_of(case.all[key]) ~= text_of(value) then return false end
  end
  return next(entry) ~= nil
end

-- A case's name, which is its folder's: what varies, by the last part of paths.
local function name_of(label, varied)
  local parts = { label }
  for _, key in ipairs(keyed.keys(varied)) do
    local value = text_of(varied[key]):gsub("/+$", ""):match "[^/]*$"
    parts[#parts + 1] = key == "experiment" and value or key .. "=" .. value
  end
  local name = table.concat(parts, "_"):gsub("[^%w%._=%-,+]", "-"):sub(1, 150)
  return name == "" and "case" or name
end

local function make_unique(cases)
  local taken = {}
  for _, case in ipairs(cases) do
    local name, n = case.name, 1
    while taken[case.name] do
      n = n + 1
      case.name = name .. "-" .. n
    end
    taken[case.name] = true
  end
end

-- ---- checking ----

-- The options that a script declares, asked once a script.
local function declared_by(experiment, path, known)
  if type(experiment) ~= "string" then fail(path, "no experiment is named") end
  if known[experiment] == nil then known[experiment] = options.describe(scripts.find(experiment)) or false end
  return known[experiment]
end

local function check_case(case, path, known)
  local about = declared_by(case.all.experiment, path, known)
  case.script, case.options, case.declared = scripts.find(case.all.experiment), {}, about and about.declared
  for key, value in pairs(case.all) do
    if key ~= "experiment" then
      if key == "save_dir" then fail(path, "a sweep sets --save_dir itself; `out` names its folder") end
      local fine, problem = true, nil
      if about then fine, problem = pcall(options.check, about.declared, key, text_of(value)) end
      if not fine then fail(path, "%s: %s", case.name, tostring(problem)) end
      case.options[key] = text_of(value)
    end
  end
end

-- ---- all of it ----

---@class massact.SweepCase
---@field name string
---@field script string path
---@field options table<string, string> as on a command line
---@field varied table<string, any> what tells it from the others
---@field index integer from 1

---Reads a config.
---@param path string
---@param set table<string, string> what --set gave; a Lua config gets it as its argument
---@return massact.SweepConfig
function M.read(path, set)
  local config = read(path, set)
  check_shape(path, config)
  return config
end

---The cases of a config, in their order.
---@param config massact.SweepConfig
---@param path string what messages call it
---@return massact.SweepCase[]
function M.cases(config, path)
  check_shape(path, config)
  local cases, known = {}, {}
  for _, entry in ipairs(config.cases and #config.cases > 0 and config.cases or { {} }) do
    for _, combination in ipairs(combinations(config.cross or {})) do
      local own = keyed.merged(entry)
      own.name = nil
      local case = { label = entry.name, all = keyed.merged({ experiment = config.experiment }, config.fixed or {}, combination, own),
        varied = keyed.merged(combination, own) }
      case.name = name_of(entry.name, entry.name and combination or case.varied)
      local is_excluded = false
      for _, each in ipairs(config.exclude or {}) do is_excluded = is_excluded or matches(case, each) end
      if not is_excluded then cases[#cases + 1] = case end
    end
  end
  make_unique(cases)
  for i, case in ipairs(cases) do
    case.index = i
    check_case(case, path, known)
  end
  if #cases == 0 then fail(path, "it has no case") end
  return cases
end

return M
