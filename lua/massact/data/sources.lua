-- What --data and --calibration_data may say: a file, or one of the paper's names, which mean files in a data folder, read and
-- joined as the paper's code does (Owen et al. 2025; its calibration set is RedPajama, its texts WikiText-2, C4 and PG-19).
local core = require "massact.core"
local usage_error = require("massact.options").usage_error

local M = {}

-- files: names without ending; max_documents of each, drawn at random where `draw`; max_windows of the joined text.
local paper = {
  wikitext = { files = { "wikitext-2-raw-test", "wikitext-2-raw", "wikitext" }, join = "\n\n",
    what = "WikiText-2, raw, its test split as one text or a row a document (Salesforce/wikitext, wikitext-2-raw-v1)" },
  c4 = { files = { "c4", "c4-10k" }, join = " ", max_documents = 5000, max_windows = 100,
    what = "C4, at least its first 5000 documents (NeelNanda/c4-10k)" },
  pg19 = { files = { "pg19", "pg19-validation" }, join = " ", max_documents = 5, max_windows = 100,
    what = "PG-19, the first 5 books of its validation split (emozilla/pg19)" },
  redpajama = { files = { "redpajama", "RedPajama-1T-sample" }, join = "\n\n", max_documents = 500, draw = true,
    what = "RedPajama, of which 500 documents are drawn (togethercomputer/RedPajama-Data-1T-Sample)" },
}

local endings = { ".txt", ".jsonl", ".ndjson", ".json" }
local packings = { "", ".gz", ".zst" }

---File name without folder, packing and last extension.
---@param path string
---@return string
function M.stem(path)
  local name = path:match "([^/]+)/*$" or path
  name = name:match "^(.+)%.gz$" or name:match "^(.+)%.zst$" or name
  return name:match "^(.+)%.[^.]*$" or name
end

-- The first file in a folder that may hold what a name means.
local function find(folder, names)
  for _, name in ipairs(names) do
    for _, ending in ipairs(endings) do
      for _, packing in ipairs(packings) do
        local path = folder .. "/" .. name .. ending .. packing
        if core.system.exists(path) and not core.system.is_folder(path) then return path end
      end
    end
  end
end

---@class massact.Source
---@field name string what results call it
---@field files string[]
---@field join string between documents
---@field max_documents? integer of each file
---@field max_windows? integer
---@field draw? boolean documents are drawn at random

---The files that a word means: a file of that name, else one of the paper's names in the data folder (`data_dir`, else what
---MASSACT_DATA names, else ./data).
---@param spec string
---@param options? {data_dir?: string}
---@return massact.Source
function M.resolve(spec, options)
  local named = paper[spec]
  if not named or (core.system.exists(spec) and not core.system.is_folder(spec)) then
    return { name = M.stem(spec), files = { spec }, join = "\n\n" }
  end
  local folder = options and options.data_dir or os.getenv "MASSACT_DATA" or "data"
  local path = find(folder, named.files)
  if not path then
    usage_error("no file for '%s' in '%s': put %s.txt or %s.jsonl (a JSON object with a field \"text\" a line; .gz or .zst) there, "
      .. "with %s; --data_dir or MASSACT_DATA names another folder", spec, folder, named.files[1], named.files[1], named.what)
  end
  return { name = spec, files = { path }, join = named.join, max_documents = named.max_documents,
    max_windows = named.max_windows, draw = named.draw }
end

return M
