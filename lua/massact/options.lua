-- Options, declared once: the command line, --help, checking, sweep configs and the record of the run.
local dtypes = require "massact.dtype"
local keyed = require "massact.keyed"

local M = {}

---@alias massact.OptionType "string"|"integer"|"number"|"boolean"|"texts"|"list"|"model"|"folder"|"dtype"|"choice"

---@class massact.Option
---@field [1] massact.OptionType
---@field default? any
---@field help? string
---@field choices? string[] what a choice may be

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

---The name that is spelled most alike, if any is near.
---@param name string
---@param names string[]
---@return string?
function M.nearest(name, names)
  local nearest, least = nil, 4
  for _, known in ipairs(names) do
    local d = distance(canonical(name), known)
    if d < least then nearest, least = known, d end
  end
  return nearest
end

---A table's names, for messages.
---@param t table
---@return string
function M.names(t) return table.concat(keyed.keys(t), ", ") end

local function unknown(name, declared)
  local near = M.nearest(name, keyed.keys(declared))
  if near then usage_error("unknown option '%s'; did you mean '--%s'?", name, near) end
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

function convert.choice(text, name, option)
  for _, choice in ipairs(option.choices) do if text == choice then return text end end
  usage_error("--%s is one of %s, not '%s'", name, table.concat(option.choices, ", "), text)
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

-- Words that are no files: WORD[,WORD...]
convert.list = convert.texts

-- ---- help ----

local function shown_default(option)
  local value = option.default
  if type(value) == "table" then value = table.concat(value, ",") end
  if value == nil then return "" end
  return (" (%s)"):format(tostring(value))
end

-- "--dtype DTYPE", "--format png|svg|pdf".
local function shown_option(name, option)
  return ("--%s %s"):format(name, option.choices and table.concat(option.choices, "|") or option[1]:upper())
end

local function print_help(declared, about)
  if about then print(about .. "\n") end
  print(("Usage: massact run %s [--option value ...]\n\nOptions:"):format(arg and arg[0] or "SCRIPT"))
  local names, width = keyed.keys(declared), 0
  for _, name in ipairs(names) do width = math.max(width, #shown_option(name, declared[name])) end
  for _, name in ipairs(names) do
    local option = declared[name]
    print(("  %-" .. width + 2 .. "s%s%s"):format(shown_option(name, option), option.help or "", shown_default(option)))
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
    given[canonical(name)] = convert[option[1]](value, name, option)
    i = i + 1
  end
  return given
end

local function check_declared(declared)
  for name, option in pairs(declared) do
    if not convert[option[1]] then error(("option '%s' has unknown type '%s'"):format(name, tostring(option[1])), 3) end
    if option[1] == "choice" and not option.choices then error(("option '%s' names no choices"):format(name), 3) end
  end
end

local describing -- while a script is asked for its options: what takes them

---Declares a script's options and reads them from its command line.
---Each is {type, default =, help =}; `-` and `_` in names are the same.
---@param declared table<string, massact.Option>
---@param about? string what the script does, for --help and massact list
---@return table values; `given` (a set) says which were named
function M.options(declared, about)
  check_declared(declared)
  if describing then describing(declared, about) end
  local given = parse(arg or {}, declared, about)
  local values = {}
  for name, option in pairs(declared) do
    local value = given[name]
    if value == nil then value = option.default end
    values[name] = value
  end
  return setmetatable(values, { __index = { given = given } })
end

---Checks a value as the command line would; a mistake is a usage error.
---@param declared table<string, massact.Option>
---@param name string
---@param text string
function M.check(declared, name, text)
  local option = declared[canonical(name)]
  if not option then unknown("--" .. name, declared) end
  convert[option[1]](text, name, option)
end

---What a script declares, without running it further; nil where it declares no options.
---@param path string
---@return {declared: table<string, massact.Option>, about?: string}?
function M.describe(path)
  local file <close> = assert(io.open(path, "rb"))
  if not file:read("a"):find("massact%.options%s*%(") then return nil end
  local chunk, problem = loadfile(path)
  if not chunk then error(problem, 0) end
  local stop, found, words = {}, nil, arg
  describing = function(declared, about)
    found = { declared = declared, about = about }
    error(stop, 0)
  end
  arg = { [0] = path }
  local fine, raised = pcall(chunk)
  arg, describing = words, nil
  if not fine and raised ~= stop then error(raised, 0) end
  return found
end

return M
