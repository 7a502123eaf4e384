-- What the specs of this folder share: commands run as a user types them, files, temporary folders.
local massact = require "massact"

local M = { bin = os.getenv "MASSACT_BIN" }

---The whole of a file.
function M.slurp(path)
  local file <close> = assert(io.open(path, "rb"))
  return file:read "a"
end

function M.spit(path, text)
  local file <close> = assert(io.open(path, "wb"))
  assert(file:write(text))
end

---A new, empty folder.
function M.folder()
  local path = os.tmpname()
  os.remove(path)
  massact.system.make_folder(path)
  return path
end

---Runs a shell command without input, or with a text as its input: exit status, standard output, standard error.
function M.run(command, input)
  local out, err, from = os.tmpname(), os.tmpname(), "/dev/null"
  if input then
    from = os.tmpname()
    M.spit(from, input)
  end
  local _, _, status = os.execute(("%s >%s 2>%s <%s"):format(command, out, err, from))
  local printed, complained = M.slurp(out), M.slurp(err)
  os.remove(out)
  os.remove(err)
  if input then os.remove(from) end
  return status, printed, complained
end

---The same for a massact command line.
function M.massact(words, input) return M.run(M.bin .. " " .. words, input) end

return M
