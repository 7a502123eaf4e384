-- massact list: what there is to run.
local core = require "massact.core"
local options = require "massact.options"
local scripts = require "massact.scripts"

local M = {}

---The command.
function M.main(...)
  for _, word in ipairs { ... } do
    if word == "--help" or word == "-h" then return print "massact list [--json]: the experiments, recipes and sweeps, a line each" end
    if word ~= "--json" then options.usage_error("list takes --json, not '%s'", word) end
  end
  local all = scripts.list()
  if ... == "--json" then
    local list = core.json.array()
    for i, script in ipairs(all) do list[i] = { name = script.name, path = script.path, about = script.about } end
    return print(core.json.text(list))
  end
  local width = 0
  for _, script in ipairs(all) do width = math.max(width, #script.name) end
  for _, script in ipairs(all) do print(("%-" .. width .. "s  %s"):format(script.name, script.about)) end
  print "\nmassact run NAME --help lists its options; massact sweep FILE runs a sweep; massact new NAME begins your own"
end

return M
