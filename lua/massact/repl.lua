-- The prompt: an expression is printed, a statement runs, what is not complete goes on in the next line.
local core = require "massact.core"

local M = {}

-- Compiles what was typed: as an expression first.  "incomplete" when more lines are needed.
local function compile(text)
  local chunk = load("return " .. text, "=stdin", "t")
  if chunk then return chunk end
  local problem
  chunk, problem = load(text, "=stdin", "t")
  if not chunk and problem:match "<eof>$" then return nil, "incomplete" end
  return chunk, problem
end

-- A table on one line, its first few fields.
local function show(value)
  if type(value) ~= "table" or (getmetatable(value) or {}).__tostring then return tostring(value) end
  local parts, n = {}, 0
  for key, item in pairs(value) do
    n = n + 1
    if n > 8 then
      parts[#parts + 1] = "..."
      break
    end
    local text = type(item) == "table" and "{...}" or (tostring(item):match "^[^\n]*")
    parts[#parts + 1] = math.type(key) == "integer" and key == n and text or ("%s = %s"):format(tostring(key), text)
  end
  return "{" .. table.concat(parts, ", ") .. "}"
end

local function report(fine, ...)
  if not fine then
    io.stderr:write("massact: ", tostring((...)), "\n")
    return
  end
  local results = table.pack(...)
  for i = 1, results.n do results[i] = show(results[i]) end
  if results.n > 0 then print(table.concat(results, "\t")) end
end

-- ---- completion ----

-- Names that a value can be asked for: a table's keys, what its metatable's __index and methods hold.
local function names_of(value)
  local names = {}
  local function add(t)
    for key in pairs(type(t) == "table" and t or {}) do
      if type(key) == "string" then names[key] = true end
    end
  end
  local meta = debug.getmetatable(value)
  add(value)
  if type(meta) == "table" then
    add(meta.methods)
    if type(meta.__index) == "table" then add(meta.__index) end
    if meta.__name == "massact.Model" then add(value:fields()) end
  end
  return names
end

-- The value of "a.b.c" among the globals; nil where there is none.
local function value_of(path)
  local value = _G
  for name in path:gmatch "[^%.:]+" do
    local fine, next_value = pcall(function() return value[name] end)
    if not fine or next_value == nil then return nil end
    value = next_value
  end
  return value
end

local function beginning_with(names, start)
  local found = {}
  for name in pairs(names) do
    if name:sub(1, #start) == start then found[#found + 1] = name end
  end
  table.sort(found)
  return found
end

---What may stand at the end of a line: how many bytes of it are there, and the candidates.
---@param text string the line up to the cursor
---@return integer length, string[] candidates
function M.complete(text)
  local owner, point = text:match '([%a_][%w_%.]*):point%s*%(?%s*["\']([^"\']*)$'
  if owner then
    local model, names = value_of(owner), {}
    if model then for _, name in ipairs(model:point_names()) do names[name] = true end end
    return #point, beginning_with(names, point)
  end
  local path, start = text:match "([%a_][%w_%.:]*)[%.:]([%w_]*)$"
  if path then
    local value = value_of(path)
    return #start, value ~= nil and beginning_with(names_of(value), start) or {}
  end
  start = text:match "[%w_]*$"
  return #start, beginning_with(_G, start)
end

-- $XDG_STATE_HOME/massact/history; nil where no folder for it can be made.
local function history_file()
  local state = os.getenv "XDG_STATE_HOME" or (os.getenv "HOME" and os.getenv "HOME" .. "/.local/state")
  if not state or not pcall(core.system.make_folder, state .. "/massact") then return nil end
  return state .. "/massact/history"
end

-- Reads a line with editing and history on a terminal, plainly elsewhere.
local function line_reader(file)
  local terminal = core.terminal.open(M.complete, file)
  local function read(prompt)
    if terminal then return terminal:read(prompt) end
    io.write(prompt)
    io.flush()
    return io.read "l"
  end
  local function close()
    if terminal and file then terminal:save(file) end
  end
  return read, close
end

---Reads, runs and prints until the input ends.
function M.main()
  print(("massact %s (%s); Ctrl-D leaves"):format(require("massact").version, _VERSION))
  local read, close = line_reader(history_file())
  local pending
  while true do
    local fine, line = pcall(read, pending and ">> " or "> ")
    if fine and not line then break end
    if not fine then
      pending = nil -- Ctrl-C at the prompt drops what was typed
      print()
    else
      pending = pending and pending .. "\n" .. line or line
      local chunk, problem = compile(pending)
      if chunk then
        report(pcall(chunk))
      elseif problem ~= "incomplete" then
        io.stderr:write("massact: ", problem, "\n")
      end
      if problem ~= "incomplete" then pending = nil end
    end
    core.system.clear_interrupt()
  end
  print()
  close()
end

return M
