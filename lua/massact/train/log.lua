-- The log of a training run: a line of JSON a record, also as CSV; what came after the checkpoint that a run goes on from is dropped.
local core = require "massact.core"
local tables = require "massact.tables"

local M = {}

local Log = {}
Log.__index = Log

local columns = { "step", "tokens", "loss", "gradient_norm", "rate", "tokens_per_second", "evaluation_loss" }

local function read(path, last_step)
  local records = {}
  local file = io.open(path, "rb")
  if not file then return records end
  for line in file:lines() do
    local fine, record = pcall(core.json.parse, line)
    if fine and type(record) == "table" and record.step <= last_step then records[#records + 1] = record end
  end
  file:close()
  return records
end

---Opens FOLDER/log.jsonl and keeps its records up to a step.
---@param folder string
---@param last_step integer
function M.open(folder, last_step)
  local path = folder .. "/log.jsonl"
  local self = setmetatable({ folder = folder, records = read(path, last_step) }, Log)
  local lines = {}
  for i, record in ipairs(self.records) do lines[i] = core.json.text(record) .. "\n" end
  core.system.write(path, table.concat(lines))
  self.file = assert(io.open(path, "ab"))
  return self
end

---Adds a record; what is of the same step joins it.
---@param record table
function Log:add(record)
  self.records[#self.records + 1] = record
  local written, problem = self.file:write(core.json.text(record), "\n")
  if written then written, problem = self.file:flush() end
  if not written then error(("cannot write '%s/log.jsonl': %s"):format(self.folder, problem), 0) end
end

---log.csv, from all records.
function Log:csv()
  local rows = {}
  for i, record in ipairs(self.records) do
    rows[i] = {}
    for k, column in ipairs(columns) do rows[i][k] = record[column] == nil and "" or record[column] end
  end
  core.system.write(self.folder .. "/log.csv", tables.csv(columns, rows))
end

---Steps and values of a column.
---@return number[] steps, number[] values
function Log:column(name)
  local steps, values = {}, {}
  for _, record in ipairs(self.records) do
    if record[name] then steps[#steps + 1], values[#values + 1] = record.step, record[name] end
  end
  return steps, values
end

function Log:close() self.file:close() end
Log.__close = Log.close

return M
