-- Runs one spec under busted inside this massact: `massact tests/busted.lua tests/lua/tensor_spec.lua`.
-- With MASSACT_DEVICE (which is what models' "auto" means then) the tensors that a spec makes or reads from files are there, too, unless
-- it names a device.  Those that massact's own files make are not: they have to name the device themselves.
local device = os.getenv "MASSACT_DEVICE"
local massact_files = "/lua/massact/"

-- Whether the code that asks for a tensor is a spec's: massact.zeros and its like are asked on somebody's behalf.
local function is_of_spec()
  for level = 4, 16 do
    local about = debug.getinfo(level, "S")
    if not about then return true end
    local is_ours = about.source:find(massact_files, 1, true)
    if about.what ~= "C" and not (is_ours and about.source:find "/massact/init%.lua$") then return not is_ours end
  end
end

local function here() return is_of_spec() and device or nil end

if device then
  local made = require("massact.core").tensor
  local tensor = made.tensor
  function made.tensor(data, dtype, where) return (tensor(data, dtype, where or here())) end
  for _, name in ipairs { "full", "random" } do
    local make = made[name]
    made[name] = function(shape, dtype, where, ...) return (make(shape, dtype, where or here(), ...)) end
  end
  local files = require("massact").safetensors
  local load = files.load
  function files.load(path)
    local tensors, where = load(path), here()
    for name, t in pairs(where and tensors or {}) do tensors[name] = t:to { device = where } end
    return tensors
  end
end

require "busted.runner" { standalone = false }
