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

---Reads, runs and prints until the input ends.
function M.main()
  print(("massact %s (%s); Ctrl-D leaves"):format(require("massact").version, _VERSION))
  local pending
  while true do
    io.write(pending and ">> " or "> ")
    io.flush()
    local line = io.read "l"
    if not line then break end
    pending = pending and pending .. "\n" .. line or line
    local chunk, problem = compile(pending)
    if chunk then
      report(pcall(chunk))
    elseif problem ~= "incomplete" then
      io.stderr:write("massact: ", problem, "\n")
    end
    if problem ~= "incomplete" then pending = nil end
    core.system.clear_interrupt()
  end
  print()
end

return M
