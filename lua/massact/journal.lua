-- What a run has finished so far, batch by batch, so that an interrupted one goes on where it was: a line of JSON for
-- each batch in FOLDER/NAME.unfinished.jsonl, under a first line that says what made them.  A complete run leaves none.
local core = require "massact.core"

local M = {}

local Journal = {}
Journal.__index = Journal

local function one_line(value) return (core.json.text(value):gsub("\n%s*", " ")) end

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

---Opens the journal of a run's folder.  The file is made when there is something to keep.
---@param path string
---@param made_by table options, versions, files: results of anything else are not taken
---@return massact.Journal
function M.open(path, made_by)
  local first = one_line(made_by)
  local self = setmetatable({ path = path, lines = read(path, first), finished = {}, n_resumed = 0 }, Journal)
  for _, line in ipairs(self.lines) do
    local entry = core.json.parse(line)
    self.finished[entry.step] = entry.result
  end
  table.insert(self.lines, 1, first)
  return self
end

-- The file, open for what comes next; first written anew, since its last line may be cut short.
local function file_of(self)
  if not self.file then
    core.system.write(self.path, table.concat(self.lines, "\n") .. "\n")
    self.file = assert(io.open(self.path, "ab"))
  end
  return self.file
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
  if is_finite(result) then
    local file = file_of(self)
    local written, problem = file:write(one_line { step = step, result = result }, "\n")
    if written then written, problem = file:flush() end
    if not written then error(("cannot write '%s': %s"):format(self.path, problem), 0) end
  end
  return result
end

---The run is complete: nothing is left to resume.
function Journal:finish()
  if self.file then self.file:close() end
  self.file = nil
  os.remove(self.path)
end

return M
