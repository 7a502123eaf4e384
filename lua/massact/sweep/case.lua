-- A case on disk: FOLDER/cases/NAME holds its output, log.txt, its lock, and once it has ended case.json, which says how it
-- ended and what made it.  A finished case is fresh while nothing that made it has changed.
local core = require "massact.core"
local data = require "massact.data"

local M = {}

---@class massact.CaseRecord case.json
---@field state "done"|"failed"
---@field options table<string, string>
---@field files table<string, {bytes: integer, changed: number, sha256: string}>
---@field note string of a failed one: why
---@field results? string results.json, in the case's folder

---@param out string the sweep's folder
---@param case massact.SweepCase
function M.folder(out, case) return ("%s/cases/%s"):format(out, case.name) end

-- ---- what makes a case ----

local function add_folder(files, folder, ending)
  for _, name in ipairs(core.system.list(folder)) do
    local path = folder .. "/" .. name
    if core.system.is_folder(path) then add_folder(files, path, ending)
    elseif path:match(ending) then files[#files + 1] = path end
  end
end

-- Massact itself: the binary and its Lua half.
local function own_files()
  local files = { core.system.executable() }
  add_folder(files, require("massact").home .. "/lua", "%.lua$")
  return files
end

-- Files that an option's value names: a model's folder, texts.
local function files_of_option(option, value, opt)
  local files = {}
  if option[1] == "texts" then
    for spec in value:gmatch "[^,]+" do
      local found, source = pcall(data.resolve, spec, opt)
      if found then table.move(source.files, 1, #source.files, #files + 1, files) end
    end
  elseif core.system.is_folder(value) then
    add_folder(files, value, "%.%w+$")
  else
    files[1] = value
  end
  return files
end

local by_option = { model = true, texts = true }

-- Every file whose change makes a case stale.
local function files_of(case)
  local files, opt = own_files(), {}
  for name, option in pairs(case.declared or {}) do
    local value = case.options[name]
    if value == nil then value = option.default end
    opt[name] = value
  end
  files[#files + 1] = case.script
  for name, option in pairs(case.declared or {}) do
    local value = opt[name]
    if type(value) == "table" then value = table.concat(value, ",") end
    if by_option[option[1]] and value then
      local named = files_of_option(option, value, opt)
      table.move(named, 1, #named, #files + 1, files)
    end
  end
  return files
end

---Hashes of files, each computed once.
---@return fun(path: string): {bytes: integer, changed: number, sha256: string}?
function M.hasher()
  local known = {}
  return function(path)
    if known[path] == nil then
      local bytes, changed = core.system.stamp(path)
      known[path] = bytes and { bytes = bytes, changed = changed, sha256 = core.system.sha256(path) } or false
    end
    return known[path] or nil
  end
end

---What makes a case now.
---@param case massact.SweepCase
---@param hash fun(path: string): table?
function M.made_by(case, hash)
  local made = { options = case.options, script = case.script, files = {} }
  for _, path in ipairs(files_of(case)) do made.files[path] = hash(path) end
  return made
end

-- ---- case.json ----

---The record of a case that has ended; nil where there is none, or a broken one.
---@return massact.CaseRecord?
function M.read(out, case)
  local path = M.folder(out, case) .. "/case.json"
  if not core.system.exists(path) then return nil end
  local fine, record = pcall(core.json.load, path)
  return fine and type(record) == "table" and record or nil
end

function M.write(out, case, record)
  record.name = case.name
  core.json.save(M.folder(out, case) .. "/case.json", record)
end

local function same_options(a, b)
  for key, value in pairs(a) do if b[key] ~= value then return false end end
  for key in pairs(b) do if a[key] == nil then return false end end
  return true
end

-- Whether a file is as it was: by size and time of change, by its hash where these differ.
local function is_same(path, was, hash)
  local bytes, changed = core.system.stamp(path)
  if bytes == was.bytes and changed == was.changed then return true end
  return bytes == was.bytes and hash(path).sha256 == was.sha256
end

---Whether a case is finished, and still what it would be now.
---@param out string
---@param case massact.SweepCase
---@param hash fun(path: string): table?
---@return boolean
function M.is_fresh(out, case, hash)
  local record = M.read(out, case)
  if not record or record.state ~= "done" or record.script ~= case.script or not same_options(record.options, case.options) then
    return false
  end
  local files, n = files_of(case), 0
  for _, path in ipairs(files) do
    local was = record.files[path]
    if was and not is_same(path, was, hash) then return false end
    if not was and core.system.exists(path) then return false end
    n = n + (was and 1 or 0)
  end
  for _ in pairs(record.files) do n = n - 1 end
  return n >= 0 -- none is gone
end

---The results.json below a case's folder; nil where there is none.
---@return string? path from the folder on
function M.results(folder)
  local function below(path, prefix)
    local names = core.system.list(path)
    table.sort(names)
    for _, name in ipairs(names) do
      if name == "results.json" then return prefix .. name end
    end
    for _, name in ipairs(names) do
      local found = core.system.is_folder(path .. "/" .. name) and below(path .. "/" .. name, prefix .. name .. "/")
      if found then return found end
    end
  end
  return below(folder, "")
end

---The last line that a case wrote.
function M.last_line(folder)
  local file <close> = io.open(folder .. "/log.txt", "rb")
  if not file then return nil end
  file:seek("set", math.max(0, (file:seek "end") - 4096))
  local last
  for line in file:lines() do if line:find "%S" then last = line end end
  return last
end

return M
