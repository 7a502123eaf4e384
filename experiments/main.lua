-- The paper's command line (Owen et al. 2025, its public code): --exp_type picks one of its five experiments, the other
-- options go to that experiment, with the paper's defaults for precision and device.
local massact = require "massact"
local data = require "massact.data"
local options = require "massact.options"

local scripts = {
  existence_validation = "existence", tokens_analysis = "tokens", intervention_analysis = "intervention",
  top_activation_magnitude = "top_activation", self_attention = "self_attention",
}

-- The value of an option in `arg`, taken out; nil where it is not there.
local function take(name)
  for i, word in ipairs(arg) do
    local key, value = word:match "^%-%-([^=]+)=(.*)$"
    key = key or word:match "^%-%-(.+)$"
    if key and key:gsub("%-", "_") == name then
      table.remove(arg, i)
      return value or table.remove(arg, i) or options.usage_error("--%s wants a value", name)
    end
  end
end

local function names()
  local list = {}
  for name in pairs(scripts) do list[#list + 1] = name end
  table.sort(list)
  return table.concat(list, ", ")
end

local experiment = take "exp_type"
if not experiment then
  if arg[1] == "--help" or arg[1] == "-h" then
    print("The paper's command line: --exp_type EXPERIMENT and that experiment's options.\n\nEXPERIMENT is one of " .. names()
      .. ".\nDefaults are the paper's: --dtype torch.bfloat16 --device cuda.\n--exp_type EXPERIMENT --help lists the options.")
    return
  end
  options.usage_error("--exp_type wants one of %s", names())
end
local script = scripts[experiment] or options.usage_error("--exp_type %s: wants one of %s", experiment, names())

-- The paper's texts where the data folder has them; else the embedded ones, which the user is told.
local function add_texts(option, sets)
  local given, folder = take(option), take "data_dir"
  if folder then table.move({ "--data_dir", folder }, 1, 2, #arg + 1, arg) end
  if not given then
    local found, problem = pcall(function()
      for name in sets:gmatch "[^,]+" do data.resolve(name, { data_dir = folder }) end
    end)
    if not found then
      io.stderr:write(("massact: %s\nmassact: without --%s and without these files, the embedded text is used\n"):format(
        tostring(problem), option))
      return
    end
    given = sets
  end
  table.move({ "--" .. option, given }, 1, 2, #arg + 1, arg)
end

if experiment ~= "top_activation_magnitude" and experiment ~= "self_attention" then add_texts("calibration_data", "redpajama") end
if experiment == "intervention_analysis" then add_texts("data", "wikitext,c4,pg19") end
for name, value in pairs { dtype = "torch.bfloat16", device = "cuda" } do
  local given = take(name) or value
  table.insert(arg, "--" .. name)
  table.insert(arg, given)
end
arg[0] = ("%s/experiments/%s.lua"):format(massact.home, script)
dofile(arg[0])
