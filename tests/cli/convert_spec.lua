-- massact convert as a user types it: one line when it fails, and nothing half-written.
package.path = os.getenv "MASSACT_TESTS" .. "/cli/?.lua;" .. package.path
local massact = require "massact"
local shell = require "shell"
local tests = os.getenv "MASSACT_TESTS"
local model = tests .. "/golden/models/llama-3"

local function run(words) return shell.run((words:gsub("MASSACT", shell.bin))) end

describe("massact convert", function()
  local work
  before_each(function()
    work = shell.folder()
  end)
  after_each(function() os.execute(("chmod -R u+w %s; rm -r %s"):format(work, work)) end)

  it("goes from a folder to a file, and back, and says what is left behind", function()
    local code, out, err = run(("MASSACT convert %s %s/m.gguf --dtype q8_0"):format(model, work))
    assert.same({ 0, "" }, { code, out })
    assert.matches("^massact: the file has no tokenizer: [^\n]*\nmassact: 4 tensors whose rows are not multiples of 32 are f16\n$", err)
    assert.matches("llama, gguf", select(2, run(("MASSACT info %s/m.gguf"):format(work))))
    code, out, err = run(("MASSACT convert %s/m.gguf %s/back"):format(work, work))
    assert.same({ 0, "" }, { code, out })
    assert.matches("^massact: the folder has no tokenizer: [^\n]*\n$", err)
    local config = massact.json.load(work .. "/back/config.json")
    assert.equal("LlamaForCausalLM", config.architectures[1])
    assert.equal("float32", config.torch_dtype)
    assert.same(massact.json.load(model .. "/config.json").rope_scaling, config.rope_scaling)
    code, _, err = run(("MASSACT convert %s/back %s/again.gguf --dtype=bf16"):format(work, work))
    assert.equal(0, code)
    assert.matches("no tokenizer", err)
    assert.equal("bf16", massact.load(work .. "/again.gguf"):param "token_embd.weight":dtype())
  end)

  it("leaves out a tokenizer that GGUF cannot describe, and says so", function()
    local code, _, err = run(("MASSACT convert %s/experiments/default/model %s/m.gguf"):format(massact.home, work))
    assert.equal(0, code)
    assert.matches("^massact: the file has no tokenizer: [^\n]*tokenizer.json: its normaliser has no name in GGUF\n$", err)
  end)

  it("answers wrong usage with status 2", function()
    for _, words in ipairs {
      "MASSACT convert", "MASSACT convert a", "MASSACT convert a b c", "MASSACT convert --nonsense a b",
      "MASSACT convert a b --dtype", "MASSACT convert a b.gguf --dtype q5_0", ("MASSACT convert %s b --dtype q8_0"):format(model),
    } do
      local code, out, err = run(words)
      assert.same({ 2, "" }, { code, out }, words)
      assert.matches("^massact: convert[^\n]*\n$", err)
    end
  end)

  it("fails with one line and leaves nothing", function()
    local function fails(words, expected)
      local code, out, err = run(words)
      assert.same({ 1, "" }, { code, out }, words .. ": " .. err)
      assert.matches("^massact: [^\n]*" .. expected .. "[^\n]*\n$", err)
    end
    fails(("MASSACT convert /no/such %s/m.gguf"):format(work), "there is no model '/no/such'")
    fails(("MASSACT convert %s %s/no/such/m.gguf"):format(model, work), "cannot write '[^']*/no/such/m.gguf': No such file")
    -- A disk that is full after 8 KiB.
    local full = "sh -c \"trap '' XFSZ; ulimit -f 16; MASSACT convert %s %s\""
    fails(full:format(model, work .. "/m.gguf"), "cannot write '[^']*/m.gguf': File too large")
    fails(full:format(model, work .. "/folder"), "cannot write '[^']*/folder/model.safetensors': File too large")
    assert.same({}, massact.system.list(work))
  end)

  it("leaves what was there when it fails", function()
    massact.system.make_folder(work .. "/folder")
    massact.json.save(work .. "/folder/config.json", { kept = true })
    local code = run(("sh -c \"trap '' XFSZ; ulimit -f 16; MASSACT convert %s %s/folder\""):format(model, work))
    assert.equal(1, code)
    assert.same({ "config.json" }, massact.system.list(work .. "/folder"))
    assert.same({ kept = true }, massact.json.load(work .. "/folder/config.json"))
  end)
end)
