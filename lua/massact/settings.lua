-- Settings of a function, given as a table: which there are, of which type, and what counts where one is not given.
local keyed = require "massact.keyed"

local M = {}

---@class massact.Setting
---@field [1] "integer"|"number"|"string"|"boolean"|"table"|"function"|"any"
---@field noun? string what it is, for messages
---@field default? any
---@field least? number
---@field below? number
---@field one_of? string[]
---@field needed? boolean

local function is_of(value, kind)
  if kind == "integer" then return math.type(value) == "integer" end
  return kind == "any" or type(value) == kind
end

local function is_among(value, list)
  for _, each in ipairs(list) do if value == each then return true end end
  return false
end

local function is_within(value, s)
  return (not s.least or value >= s.least) and (not s.below or value < s.below) and (not s.one_of or is_among(value, s.one_of))
end

local nouns = { integer = "a whole number", number = "a number", string = "a string", boolean = "true or false", table = "a table",
  ["function"] = "a function" }

local function wanted(s)
  if s.one_of then return "one of " .. table.concat(s.one_of, ", ") end
  local text = s.noun or nouns[s[1]]
  if s.least then text = ("%s of at least %s"):format(text, s.least) end
  if s.below then text = ("%s below %s"):format(text, s.below) end
  return text
end

local function shown(value) return type(value) == "string" and ("'%s'"):format(value) or tostring(value) end

---The settings that count; one that is not declared, missing or of the wrong type is an error.
---@param what string what they are of, for messages
---@param given? table
---@param declared table<string, massact.Setting>
---@return table
function M.take(what, given, declared)
  local values = {}
  for name in pairs(given or {}) do
    if not declared[name] then
      error(("%s: there is no option '%s'; there are %s"):format(what, tostring(name), table.concat(keyed.keys(declared), ", ")), 0)
    end
  end
  for name, s in pairs(declared) do
    local value = (given or {})[name]
    if value == nil then
      if s.needed then error(("%s: %s is missing; it is %s"):format(what, name, wanted(s)), 0) end
      value = s.default
    elseif not is_of(value, s[1]) or not is_within(value, s) then
      error(("%s: %s is %s, not %s"):format(what, name, wanted(s), shown(value)), 0)
    end
    values[name] = value
  end
  return values
end

return M
