-- Runs one spec under busted inside this massact: `massact tests/busted.lua tests/lua/tensor_spec.lua`.
-- With MASSACT_DEVICE (which is what models' "auto" means then) tensors, too, are made there unless a spec names a device.
local device = os.getenv "MASSACT_DEVICE"
if device then
  local made = require("massact.core").tensor
  local tensor = made.tensor
  function made.tensor(data, dtype) return tensor(data, dtype):to { device = device } end
  for _, name in ipairs { "full", "random" } do
    local make = made[name]
    made[name] = function(shape, dtype, where, ...) return make(shape, dtype, where or device, ...) end
  end
end

require "busted.runner" { standalone = false }
