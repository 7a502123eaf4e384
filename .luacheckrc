-- luacheck's settings: `luacheck lua experiments tests`.
std = "lua54"
max_line_length = false -- long strings and rows of cases stay on one line
ignore = {
  "211/hook", "211/patch", "211/handle", "211/edit", "211/scope", -- `local patch <close> = ...` is used by going out of scope
  "531", -- `local _ = config.a, config.b` marks keys as read
}
files["experiments/main.lua"] = { globals = { "arg" } } -- which it hands on
files["lua/massact/options.lua"] = { globals = { "arg" } } -- which a script that is described gets empty
files["tests"] = { std = "+busted", ignore = { "111/_", "112/_" } }
files["lua/massact/families"] = { ignore = { "212" } } -- callbacks with one signature
files["lua/massact/meta"] = { ignore = { "212", "241" } } -- declarations for editors: empty bodies
