-- Runs one spec under busted inside this massact: `massact tests/busted.lua tests/lua/tensor_spec.lua`.
require "busted.runner" { standalone = false }
