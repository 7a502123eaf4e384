-- Finding experiments: a path of the user's, or the name of one of massact's own.
local core = require "massact.core"
local options = require "massact.options"

local M = {}

local function home() return require("massact").home .. "/experiments" end

-- Scripts below experiments, as {name, path}: what runs as an experiment or a recipe, not the data.
local function own()
  local found = {}
  local function add(folder, prefix)
    for _, file in ipairs(core.system.list(folder)) do
      local path = folder .. "/" .. file
      if file:match "%.lua$" then
        found[#found + 1] = { name = prefix .. file:gsub("%.lua$", ""), path = path }
      elseif core.system.is_folder(path) then
        add(path, prefix .. file .. "/")
      end
    end
  end
  add(home(), "")
  table.sort(found, function(a, b) return a.name < b.name end)
  return found
end

---The file of a script: the path itself where there is one, else an experiment's name ("existence").
---@param name string
---@return string path
function M.find(name)
  if core.system.exists(name) and not core.system.is_folder(name) then return name end
  local plain, names = name:gsub("^experiments/", ""):gsub("%.lua$", ""), {}
  for _, script in ipairs(own()) do
    if script.name == plain then return script.path end
    names[#names + 1] = script.name
  end
  if name:find "[/%.]" then error(("there is no script '%s'"):format(name), 0) end
  local near = options.nearest(plain, names)
  options.usage_error("there is no script '%s'%s; massact list shows the experiments", name,
    near and ("; did you mean '%s'?"):format(near) or "")
end

---massact's own scripts with what each does.
---@return {name: string, path: string, about: string}[]
function M.list()
  local scripts = own()
  for _, script in ipairs(scripts) do
    local file <close> = assert(io.open(script.path))
    local comment = {}
    for line in file:lines() do
      local words = line:match "^%-%-%s*(.*)$"
      if not words then break end
      comment[#comment + 1] = words
    end
    local described = not script.name:match "^sweeps/" and options.describe(script.path)
    local text = table.concat(comment, " "):gsub("et al%.", "et al")
    script.about = described and described.about or (text:match "^(.-)[%.:]%s" or text) .. "."
  end
  return scripts
end

return M
