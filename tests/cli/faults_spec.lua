-- A world that fails: disks that fill, folders that take nothing, files that go, Ctrl-C.  Each gives one line that names the
-- path and the reason, status 1, and leaves whole what was whole.
package.path = os.getenv "MASSACT_TESTS" .. "/cli/?.lua;" .. package.path
local massact = require "massact"
local helper = require "shell"
local bin, slurp, spit, temporary_folder = helper.bin, helper.slurp, helper.spit, helper.folder
local experiment = massact.home .. "/experiments/intervention.lua"
local results_in = "/model/model_layer_model.layers_self_attn_256_True_True_42/"

-- Runs a shell command whose standard error comes back through a pipe, which no file limit bounds.
local function shell(command)
  local pipe = assert(io.popen(("export OMP_NUM_THREADS=1; { %s ; } 2>&1 >/dev/null </dev/null; echo status $?"):format(command)))
  local text, status = pipe:read "a":match "^(.*)status (%d+)\n$"
  pipe:close()
  return tonumber(status), text
end

-- What lies below a folder, by name; nothing may be a temporary.
local function files_in(folder)
  local pipe, files = assert(io.popen(("find %s -type f"):format(folder))), {}
  for path in pipe:lines() do
    assert(not path:find "%.tmp%-", path)
    files[path] = slurp(path)
  end
  pipe:close()
  return files
end

describe("a failing world", function()
  local folder = temporary_folder()
  teardown(function() os.execute("chmod -R u+w " .. folder .. "; rm -r " .. folder) end)
  local options = "--windows 1 --calibration_windows 1 --mean_windows 1 --save_dir " .. folder

  local function one_line(status, message, pattern)
    assert.equal(1, status, message)
    assert.matches("^massact: [^\n]*\n$", message)
    assert.matches(pattern, message)
  end

  it("fills the disk at any file of an experiment", function()
    assert.same({ 0, "" }, { shell(("%s run %s %s"):format(bin, experiment, options)) })
    local whole, seen = files_in(folder), {}
    local blocks = 0 -- of 512 bytes
    repeat
      local status, message = shell(("(ulimit -f %d; exec %s run %s %s)"):format(blocks, bin, experiment, options))
      local now = files_in(folder)
      for path, text in pairs(whole) do
        assert(now[path], path)
        if path:match "%.png$" then assert.matches("IEND", now[path]:sub(-12), path)
        elseif path:match "%.json$" then massact.json.parse(now[path])
        else assert.equal(text, now[path]) end
      end
      if status ~= 0 then
        one_line(status, message, "cannot write '" .. folder:gsub("%p", "%%%0") .. "/.*': File too large")
        seen[message:match "([^/]*)': File too large"] = true
      end
      blocks = blocks < 8 and blocks + 1 or blocks * 2
    until status == 0
    assert(seen["intervention.unfinished.jsonl"] and seen["intervention.json"], "expected both to fail")
    assert(seen["perplexity.png"] or seen["magnitude_by_layer.png"], "expected a picture to fail")
  end)

  it("fills the disk at each kind of file that scripts write", function()
    local old = folder .. "/old.png"
    for _, case in ipairs {
      "massact.json.save([[%s]], {('x'):rep(1 << 20)})", "massact.system.write([[%s]], ('x'):rep(1 << 20))",
      "massact.safetensors.save([[%s]], {a = massact.zeros(1 << 20)})",
      "local f = massact.plot.figure {} f:line { x = {1, 2}, y = {1, 2} } f:save [[%s]]",
    } do
      spit(old, "old")
      local code = case:format(old)
      local status, message = shell(("(ulimit -f 2; exec %s -e \"%s\")"):format(bin, code))
      one_line(status, message, "cannot write '.-/old%.png': File too large")
      assert.equal("old", slurp(old))
      files_in(folder)
    end
    os.remove(old)
  end)

  it("has no room for the output itself", function()
    local pipe = assert(io.popen(("%s -e 'print(1)' 2>&1 >/dev/full; echo status $?"):format(bin)))
    assert.equal("massact: cannot write the output: No space left on device\nstatus 1\n", pipe:read "a")
    pipe:close()
  end)

  it("has folders that are none, and files that are folders", function()
    spit(folder .. "/file", "")
    massact.system.make_folder(folder .. "/taken")
    for path, reason in pairs { ["/file/below"] = "Not a directory", ["/none/below"] = "No such file or directory", ["/taken"] = "Is a directory" } do
      for _, code in ipairs { "massact.json.save([[%s]], {})", "massact.system.write([[%s]], 'x')", "massact.safetensors.save([[%s]], {})" } do
        local status, message = shell(("%s -e \"%s\""):format(bin, code:format(folder .. path)))
        one_line(status, message, "cannot write '.-" .. path .. "': " .. reason)
      end
    end
    local status, message = shell(("%s run %s --save_dir %s/file"):format(bin, experiment, folder))
    one_line(status, message, "cannot create folder '.-/file.-': Not a directory")
    files_in(folder)
  end)

  it("loses files while they are in use", function()
    local model = folder .. "/model-copy"
    os.execute(("cp -r %s/experiments/default/model %s"):format(massact.home, model))
    -- Mapped weights stay though their name goes; what is read later is missed with its name.
    local code = ("local m = massact.load [[%s]] os.execute 'rm -r %s' assert(m:forward({1, 2}, {loss = true}).loss) massact.load [[%s]]"):format(
      model, model, model)
    local status, message = shell(("%s -e \"%s\""):format(bin, code))
    one_line(status, message, "there is no model '.-/model%-copy'")
    os.execute(("cp -r %s/experiments/default/model %s"):format(massact.home, model))
    code = ("local m = massact.load [[%s]] io.open([[%s/model.safetensors]], 'w'):close() m:forward({1, 2}, {loss = true})"):format(model, model)
    status, message = shell(("%s -e \"%s\""):format(bin, code))
    one_line(status, message, "model%.safetensors' shrank or failed while in use")
    for _, file in ipairs { "config.json", "tokenizer.json", "model.safetensors" } do
      os.execute(("rm -rf %s; cp -r %s/experiments/default/model %s; rm %s/%s"):format(model, massact.home, model, model, file))
      status, message = shell(("%s run %s --pretrained %s %s"):format(bin, experiment, model, options))
      one_line(status, message, file:gsub("%.", "%%."))
    end
  end)

  it("is interrupted in the middle of an experiment", function()
    assert.equal(0, (shell(("%s run %s %s"):format(bin, experiment, options))))
    local before = files_in(folder)
    local status, message = shell(("timeout --foreground --preserve-status -s INT 1 %s run %s --save_dir %s --windows 0 --calibration_windows 0 --data %s"):format(
      bin, experiment, folder, ("%s/experiments/default/text.txt,"):format(massact.home):rep(60):sub(1, -2)))
    assert.equal("massact: interrupted\n", message)
    assert.equal(130, status)
    local after = files_in(folder)
    assert.equal(before[folder .. results_in .. "results.json"], after[folder .. results_in .. "results.json"])
  end)
end)
