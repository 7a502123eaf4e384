-- What many files do with tables as maps.
local M = {}

---The keys of a map in ascending order.
---@generic K
---@param map table<K, any>
---@return K[]
function M.keys(map)
  local keys = {}
  for key in pairs(map) do keys[#keys + 1] = key end
  table.sort(keys)
  return keys
end

---A new map with the entries of all, later ones over earlier ones.
---@param ... table?
---@return table
function M.merged(...)
  local all = {}
  for i = 1, select("#", ...) do
    for key, value in pairs((select(i, ...)) or {}) do all[key] = value end
  end
  return all
end

---The same where false takes an entry away.
---@param ... table?
---@return table
function M.amended(...)
  local all = M.merged(...)
  for key, value in pairs(all) do if value == false then all[key] = nil end end
  return all
end

---Requires every module of a folder of massact's: `keyed.load_folder "families"`.
---@param name string
function M.load_folder(name)
  local files = require("massact.core").system.list(require("massact").home .. "/lua/massact/" .. name)
  table.sort(files)
  for _, file in ipairs(files) do
    local module = file:match "^(.*)%.lua$"
    if module then require(("massact.%s.%s"):format(name, module)) end
  end
end

return M
