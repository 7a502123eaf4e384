-- Tables as text: CSV (RFC 4180) and Markdown.  Null and nil are empty cells.
local null = require("massact.core").json.null

local M = {}

local function text_of(value, digits)
  if value == nil or value == null then return "" end
  if math.type(value) == "float" then return ("%." .. digits .. "g"):format(value) end
  return tostring(value)
end

local function csv_cell(value)
  local text = text_of(value, 9)
  return text:find '[",\r\n]' and '"' .. text:gsub('"', '""') .. '"' or text
end

local function line(row, n, cell)
  local cells = {}
  for c = 1, n do cells[c] = cell(row[c]) end
  return cells
end

---@param columns string[]
---@param rows any[][] each in the columns' order
---@return string
function M.csv(columns, rows)
  local lines = { table.concat(line(columns, #columns, csv_cell), ",") }
  for i, row in ipairs(rows) do lines[i + 1] = table.concat(line(row, #columns, csv_cell), ",") end
  return table.concat(lines, "\n") .. "\n"
end

local function markdown_cell(value) return (text_of(value, 6):gsub("|", "\\|"):gsub("[\r\n]+", " ")) end

---@param columns string[]
---@param rows any[][]
---@return string
function M.markdown(columns, rows)
  local marks = {}
  for c = 1, #columns do
    marks[c] = "---:"
    for _, row in ipairs(rows) do
      if type(row[c]) == "string" and row[c] ~= "" then marks[c] = "---" end
    end
  end
  local lines = { "| " .. table.concat(line(columns, #columns, markdown_cell), " | ") .. " |", "| " .. table.concat(marks, " | ") .. " |" }
  for _, row in ipairs(rows) do lines[#lines + 1] = "| " .. table.concat(line(row, #columns, markdown_cell), " | ") .. " |" end
  return table.concat(lines, "\n") .. "\n"
end

---Columns side by side, for a terminal.
---@param columns string[]
---@param rows any[][]
---@return string
function M.plain(columns, rows)
  local widths, out = {}, {}
  for c, name in ipairs(columns) do widths[c] = #name end
  for _, row in ipairs(rows) do for c = 1, #columns do widths[c] = math.max(widths[c], utf8.len(text_of(row[c], 6)) or 0) end end
  local function put(row)
    local cells = {}
    for c = 1, #columns do
      local text = text_of(row[c], 6)
      cells[c] = text .. (" "):rep(widths[c] - (utf8.len(text) or #text))
    end
    out[#out + 1] = (table.concat(cells, "  "):gsub("%s+$", ""))
  end
  put(columns)
  for _, row in ipairs(rows) do put(row) end
  return table.concat(out, "\n") .. "\n"
end

return M
