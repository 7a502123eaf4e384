-- What a run has finished so far, batch by batch, so that an interrupted one goes on where it was: a line of JSON for
-- each batch in FOLDER/unfinished.jsonl, under a first line that says what made them.  A complete run leaves none.
local core = require "massact.core"

local M = {}

local Journal = {}
Journal.__index = Journal

-- JSON has no infinities and no NaN; what holds some is computed again.
local function is_finite(value)
  if type(value) == "table" then
    for _, each in pairs(value) do if not is_finite(each) then return false end end
    return true
  end
  return type(value) ~= "number" or (value == value and math.abs(value) < math.huge)
end

-- The finished batches of a journal with this first line; none where it was made by something else.  A last line cut
-- short by whatever ended the run is no line.
local function read(path, made_by)
  local file = io.open(path, "rb")
  if not file then return {} end
  local kept = {}
  if file:read "l" == made_by then
    for line in file:lines() do
      local fine, entry = pcall(core.json.parse, line)
      if not fine or type(entry) ~= "table" then break end
      kept[#kept + 1] = line
    end
  end
  file:close()
  return kept
end

---Opens the journal of a run's folder.
---@param path string
---@param made_by table options, versions, files: results of anything else are not taken
---@return massact.Journal
function M.open(path, made_by)
  local first = core.json.text(made_by):gsub("\n%s*", " ")
  local kept = read(path, first)
  local self = setmetatable({ path = path, finished = {}, n_resumed = 0 }, Journal)
  for _, line in ipairs(kept) do
    local entry = core.json.parse(line)
    self.finished[entry.step] = entry.result
  end
  table.insert(kept, 1, first)
  core.system.write(path, table.concat(kept, "\n") .. "\n")
  self.file = assert(io.open(path, "ab"))
  return self
end

---The result of a step: as it was kept, or computed now and kept.
---@param step string unique in the run
---@param compute fun(): table
---@return table
function Journal:step(step, compute)
  local result = self.finished[step]
  if result then
    self.n_resumed = self.n_resumed + 1
    return result
  end
  result = compute()
  if self.file and is_finite(result) then
    local line = core.json.text({ step = step, result = result }):gsub("\n%s*", " ")
    local written, problem = self.file:write(line, "\n")
    if written then written, problem = self.file:flush() end
    if not written then error(("cannot write '%s': %s"):format(self.path, problem), 0) end
  end
  return result
end

---The run is complete: nothing is left to resume.
function Journal:finish()
  self.file:close()
  self.file = nil
  os.remove(self.path)
end

return M
