---@meta

-- massact.system: what scripts need of the machine.

---@class massact.system
local system = {}

---Seconds on a clock that only goes forward.
---@return number
function system.clock() end

---@param path string
---@return boolean
function system.exists(path) end

---@param path string
---@return boolean
function system.is_folder(path) end

---Size in bytes and time of the last change in seconds since 1970; nothing where there is no file.
---@param path string
---@return integer? bytes, number? changed
function system.stamp(path) end

---Makes a folder and its parents; one that exists is fine.
---@param path string
function system.make_folder(path) end

---Names in a folder, without "." and "..", in no order.
---@param path string
---@return string[]
function system.list(path) end

---Writes a file, whole or not at all.
---@param path string
---@param text string
function system.write(path, text) end

---SHA-256 of a file, in hexadecimal.
---@param path string
---@return string
function system.sha256(path) end

---Whether a text is UTF-8; if not, also the offset (from 0) of the first byte that is wrong.
---@param text string
---@return boolean valid, integer? offset
function system.check_utf8(text) end

---What computes: BLAS and its kernels, row kernels, threads, memory.
---@return table
function system.machine() end

---Most bytes of memory that this process has had.
---@return integer
function system.peak_memory() end

---Threads of kernels and BLAS from now on.
---@param n integer
function system.set_threads(n) end

---Whether standard error is a terminal.
---@return boolean
function system.is_terminal() end

---Forgets a Ctrl-C that has been answered.
function system.clear_interrupt() end

---A progress line with an estimate, on a terminal only; `local p <close> = ...` ends it.
---@param label string
---@param total integer
---@return {update: fun(self, done: integer), done: fun(self)}
function system.progress(label, total) end
