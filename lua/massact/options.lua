-- Options, declared once: the command line, --help, checking, sweep configs and the record of the run.
local dtypes = require "massact.dtype"

local M = {}

---@alias massact.OptionType "string"|"integer"|"number"|"boolean"|"texts"|"model"|"folder"|"dtype"

---A mistake of whoever typed the command: exit status 2, one line.
local function usage_error(format, ...)
  error(setmetatable({ usage = true, message = format:format(...) },
    { __tostring = function(self) return self.message end }), 0)
end
M.usage_error = usage_error

local function canonical(name) return (name:gsub("^%-+", ""):gsub("%-", "_")) end

-- Levenshtein distance, for "did you mean".
local function distance(a, b)
  local row = {}
  for j = 0, #b do row[j] = j end
  for i = 1, #a do
    local diagonal = row[0]
    row[0] = i
    for j = 1, #b do
      local change = diagonal + (a:byte(i) == b:byte(j) and 0 or 1)
      diagonal = row[j]
      row[j] = math.min(change, row[j] + 1, row[j - 1] + 1)
    end
  end
  return row[#b]
end

local function sorted_names(declared)
  local names = {}
  for name in pairs(declared) do names[#names + 1] = name end
  table.sort(names)
  return names
end

local function unknown(name, declared)
  local nearest, least = nil, 4
  for _, known in ipairs(sorted_names(declared)) do
    local d = distance(canonical(name), known)
    if d < least then nearest, least = known, d end
  end
  if nearest then usage_error("unknown option '%s'; did you mean '--%s'?", name, nearest) end
  usage_error("unknown option '%s'; --help lists them", name)
end

-- ---- values ----

local convert = {}

function convert.string(text) return text end
convert.model, convert.folder = convert.string, convert.string

function convert.dtype(text, name)
  local dtype, problem = dtypes.parse(text)
  return dtype or usage_error("--%s: %s", name, problem)
end

function convert.integer(text, name)
  return math.tointeger(tonumber(text)) or usage_error("--%s: '%s' is not a whole number", name, text)
end

function convert.number(text, name)
  return tonumber(text) or usage_error("--%s: '%s' is not a number", name, text)
end

-- As the paper's command line reads them: whatever begins with t or T is true.
function convert.boolean(text) return text == true or (type(text) == "string" and text:match "^[tT]" ~= nil) end

-- One or more files: FILE[,FILE...]
function convert.texts(text)
  if type(text) == "table" then return text end
  local files = {}
  for file in text:gmatch "[^,]+" do files[#files + 1] = file end
  return files
end

-- ---- help ----

local function shown_default(option)
  local value = option.default
  if type(value) == "table" then value = table.concat(value, ",") end
  if value == nil then return "" end
  return (" (%s)"):format(tostring(value))
end

local function print_help(declared, about)
  if about then print(about .. "\n") end
  print("Options:")
  local names, width = sorted_names(declared), 0
  for _, name in ipairs(names) do width = math.max(width, #name + #declared[name][1]) end
  for _, name in ipairs(names) do
    local option = declared[name]
    local left = ("--%s %s"):format(name, option[1]:upper())
    print(("  %-" .. width + 5 .. "s %s%s"):format(left, option.help or "", shown_default(option)))
  end
end

-- ---- the command line ----

local function parse(words, declared, about)
  local given, i = {}, 1
  while i <= #words do
    local word = words[i]
    if word == "--help" or word == "-h" then
      print_help(declared, about)
      os.exit(0, true)
    end
    local name, value = word:match "^%-%-([^=]+)=(.*)$"
    name = name or word:match "^%-%-(.+)$"
    if not name then usage_error("'%s' is no option; --help lists them", word) end
    local option = declared[canonical(name)]
    if not option then unknown("--" .. name, declared) end
    if value == nil then
      local following = words[i + 1]
      local is_flag = option[1] == "boolean" and (not following or following:match "^%-%-")
      if is_flag then
        value = "true"
      elseif not following then
        usage_error("--%s wants a value", name)
      else
        value, i = following, i + 1
      end
    end
    given[canonical(name)] = convert[option[1]](value, name)
    i = i + 1
  end
  return given
end

---Declares a script's options and reads them from its command line.
---Each is {type, default =, help =}; `-` and `_` in names are the same.
---@param declared table<string, table>
---@param about? string what the script does, for --help
---@return table values; `given` (a set) says which were named
function M.options(declared, about)
  for name, option in pairs(declared) do
    if not convert[option[1]] then error(("option '%s' has unknown type '%s'"):format(name, tostring(option[1])), 2) end
  end
  local given = parse(arg or {}, declared, about)
  local values = {}
  for name, option in pairs(declared) do
    local value = given[name]
    if value == nil then value = option.default end
    values[name] = value
  end
  return setmetatable(values, { __index = { given = given } })
end

return M
