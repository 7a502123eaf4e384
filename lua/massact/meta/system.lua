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

---What computes: BLAS and its kernels, row kernels, threads, memory, and the device that is named.
---@param device? string "cpu" (default), "auto", "cuda"
---@return table
function system.machine(device) end

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

---Bytes of memory that are free, and in all.
---@param device? string "cpu" (default)
---@return integer free, integer total
function system.memory(device) end

---Whether products of f32 on a GPU may be in TF32: what is multiplied is rounded to 10 bits of fraction (relative errors near
---1e-3), sums stay f32.  Faster, off unless it is asked for, and in every run's record.
---@param device string "cuda", "cuda:1"
---@param allowed boolean
function system.allow_tf32(device, allowed) end

---Waits until a device has done what it was asked to; what kernels found wrong is an error here.  Reading a tensor does so, too:
---only clocks need this.
---@param device? string "cpu" (default: nothing to wait for)
function system.wait(device) end

---The path of the running massact.
---@return string
function system.executable() end

-- massact.core.process: children of a sweep, and locks.

---A running command.
---@class massact.Process
local Process = {}

---Nothing while it runs; then its exit status, or nil with the number and name of the signal that ended it.
---@return integer? status, integer? signal, string? name
function Process:poll() end

---As Ctrl-C does.
function Process:interrupt() end

---@return integer id 0 once it has ended
function Process:id() end

---Kills it where it runs, and waits for its end.
function Process:close() end

---Held until closed, or until the last process that has it ends.
---@class massact.Lock
local Lock = {}

function Lock:close() end

---@class massact.processes
local process = {}

---Starts a command in a process group of its own; what it prints goes to the end of a log file.
---@param command string[]
---@param variables string[] "NAME=value", besides the environment's
---@param log string path
---@param lock? massact.Lock stays held while the command runs
---@return massact.Process
function process.start(command, variables, log, lock) end

---The lock file at a path; nothing where somebody has it.
---@param path string
---@return massact.Lock?
function process.lock(path) end

---@param seconds number a signal ends it early
function process.sleep(seconds) end

---@return integer id of this process
function process.id() end
