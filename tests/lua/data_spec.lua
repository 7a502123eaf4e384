-- Texts: files plain and packed, documents in lines, the paper's names, and windows with BOS once.
local massact = require "massact"
local data = require "massact.data"
local shell = dofile(os.getenv "MASSACT_TESTS" .. "/cli/shell.lua")

local folder = shell.folder()
teardown(function() os.execute("rm -r " .. folder) end)

local function write(name, text)
  shell.spit(folder .. "/" .. name, text)
  return folder .. "/" .. name
end

-- The file, packed by the system's own tools; nil where there is no such tool.
local function packed(path, ending)
  local tool = ending == ".gz" and "gzip -kf" or "zstd -qf"
  return os.execute(("%s %s 2>/dev/null"):format(tool, path)) and path .. ending or nil
end

local function fails(pattern, f, ...)
  local fine, message = pcall(f, ...)
  message = tostring(message)
  assert.is_false(fine)
  assert.is_nil(message:find "\n", message)
  assert(message:find(pattern), message)
end

-- n documents "document 1", ... as lines.
local function lines(n, field)
  local out = {}
  for i = 1, n do out[i] = massact.json.text { [field or "text"] = "document " .. i, source = "s" .. i } end
  return table.concat(out, "\n")
end

describe("documents", function()
  it("are a file's whole text, or a line each", function()
    assert.same({ "one\n\ntwo\n" }, data.documents(write("a.txt", "one\n\ntwo\n")))
    local path = write("a.jsonl", lines(3) .. "\n\n" .. '{"text":"\\u00e9\\n\\u4e2d"}\r\n')
    assert.same({ "document 1", "document 2", "document 3", "é\n中" }, data.documents(path))
    assert.same({ "document 1", "document 2" }, data.documents(path, { limit = 2 }))
    assert.same({ "s1" }, data.documents(path, { limit = 1, field = "source" }))
    assert.same({ "document 1" }, data.documents(write("a.ndjson", lines(1))))
  end)

  it("come out of gzip and zstandard as they went in, in members and frames too", function()
    local long = {}
    for i = 1, 40000 do long[i] = ("line %d of a text that fills several buffers"):format(i) end
    long = table.concat(long, "\n")
    for _, ending in ipairs { ".gz", ".zst" } do
      for name, text in pairs { ["p.txt"] = long, ["short.txt"] = "short" } do
        local path = packed(write(name, text), ending)
        if not path then pending("no tool for " .. ending) return end
        assert.equal(text, data.documents(path)[1])
        -- Told by what is in it, whatever its name.
        assert.equal(text, data.documents(write("unnamed", shell.slurp(path)))[1])
        assert.equal(text .. text, data.documents(write("twice" .. ending, shell.slurp(path):rep(2)))[1])
      end
      local path = packed(write("p.jsonl", lines(5000)), ending)
      local texts = data.documents(path)
      assert.equal(5000, #texts)
      assert.equal("document 5000", texts[5000])
    end
  end)

  it("are refused with the file and the place, where it is damaged or cut off", function()
    for ending, name in pairs { [".gz"] = "gzip", [".zst"] = "zstandard" } do
      local path = packed(write("q.txt", lines(2000)), ending)
      if not path then pending("no tool for " .. ending) return end
      local bytes = shell.slurp(path)
      for _, n in ipairs { 0, 1, 5, 100, #bytes // 2, #bytes - 1 } do
        fails("cut" .. ending .. "' ends at byte " .. n .. ", inside its " .. name .. " data: it is cut off", data.documents,
          write("cut" .. ending, bytes:sub(1, n)))
      end
      local bad = bytes:sub(1, 200) .. ("\xA5"):rep(60) .. bytes:sub(261)
      fails("bad" .. ending .. "', at byte %d+: the " .. name .. " data is damaged: ", data.documents, write("bad" .. ending, bad))
      fails("plain" .. ending .. "', at byte %d+: the " .. name .. " data is damaged", data.documents, write("plain" .. ending, "some text"))
    end
  end)

  it("are refused with the line where it is none", function()
    fails("b.jsonl', line 3: column 9: ", data.documents, write("b.jsonl", lines(2) .. '\n{"text":}\n'))
    fails("b.jsonl', line 2 has no text 'text'; %-%-field may name one of: body, source", data.documents,
      write("b.jsonl", lines(1) .. "\n" .. lines(1, "body")))
    fails("line 1 has no text 'text'; a line is an object", data.documents, write("b.jsonl", "[1, 2]"))
    fails("line 1 has no text 'text'; a line is an object", data.documents, write("b.jsonl", '{"text": 3}'))
    fails("line 1: ", data.documents, write("b.jsonl", '{"text":"\xE9"}'))
    fails("is empty", data.documents, write("b.jsonl", "\n\n"))
    fails("is empty", data.documents, write("b.txt", ""))
    fails("not UTF%-8: byte 0xE9 at offset 3", data.documents, write("b.txt", "caf\xE9"))
    fails("cannot read text .*none.txt", data.documents, folder .. "/none.txt")
    fails("cannot read text", data.documents, folder)
  end)

  it("are drawn by the seed, each as likely as any other", function()
    local path = write("many.jsonl", lines(200))
    local function drawn(seed) return data.documents(path, { limit = 20, seed = seed }) end
    assert.same(drawn(1), drawn(1))
    assert.not_same(drawn(1), drawn(2))
    local late, seen = 0, {}
    for seed = 1, 50 do
      for _, text in ipairs(drawn(seed)) do
        local n = tonumber(text:match "%d+")
        late, seen[n] = late + (n > 100 and 1 or 0), true
      end
    end
    assert(late > 420 and late < 580, late) -- of 1000; deviation 16
    local count = 0
    for _ in pairs(seen) do count = count + 1 end
    assert(count > 190, count)
    assert.equal(200, #data.documents(path, { limit = 300, seed = 1 }))
  end)
end)

describe("the paper's names", function()
  it("mean files in a data folder, with the paper's limits", function()
    local there = folder .. "/data"
    massact.system.make_folder(there)
    local o = { data_dir = there }
    fails("no file for 'c4' in '.*/data': put c4.txt or c4.jsonl .*NeelNanda/c4%-10k.*MASSACT_DATA", data.resolve, "c4", o)
    write("data/wikitext-2-raw-test.txt", "w")
    write("data/c4-10k.jsonl", lines(5001))
    write("data/pg19.jsonl", lines(6))
    write("data/redpajama.jsonl", lines(501))
    local expected = {
      wikitext = { files = { there .. "/wikitext-2-raw-test.txt" }, join = "\n\n" },
      c4 = { files = { there .. "/c4-10k.jsonl" }, join = " ", max_documents = 5000, max_windows = 100 },
      pg19 = { files = { there .. "/pg19.jsonl" }, join = " ", max_documents = 5, max_windows = 100 },
      redpajama = { files = { there .. "/redpajama.jsonl" }, join = "\n\n", max_documents = 500, draw = true },
    }
    for name, source in pairs(expected) do
      source.name = name
      assert.same(source, data.resolve(name, o))
    end
    assert.equal("document 1 document 2 document 3 document 4 document 5", (data.text("pg19", o)))
    local _, n = data.text("c4", o):gsub("document", "")
    assert.equal(5000, n)
    assert.matches("document 5000$", (data.text("c4", o)))
    _, n = data.text("redpajama", o):gsub("document", "")
    assert.equal(500, n)
    local text, found = data.text({ "wikitext", "pg19" }, { data_dir = there, join = "|" })
    assert.equal("w|document 1|document 2|document 3|document 4|document 5", text)
    assert.equal("pg19", found[2].name)
  end)

  it("give way to a file of that name; other names are files", function()
    local code = ("local data = require 'massact.data'; print(data.resolve('wikitext').files[1], data.resolve('pg19').files[1])")
    local here = folder .. "/here"
    massact.system.make_folder(here .. "/else")
    shell.spit(here .. "/wikitext", "w")
    shell.spit(here .. "/else/pg19.txt", "p")
    local status, out, err = shell.run(("cd %s && MASSACT_DATA=else %s -e \"%s\""):format(here, shell.bin, code))
    assert.equal(0, status, err)
    assert.equal("wikitext\telse/pg19.txt\n", out)
    assert.same({ name = "my.text", files = { "x/my.text.jsonl.gz" }, join = "\n\n" }, data.resolve "x/my.text.jsonl.gz")
  end)
end)

describe("BOS", function()
  local tokenizer = massact.tokenizer.load(massact.home .. "/experiments/default/model")
  local bos = tokenizer.bos

  it("goes before a window once", function()
    local name = tokenizer:token(bos)
    local text = name .. ("x"):rep(11)
    assert.same({ bos, bos }, tokenizer:encode(name .. name))
    local x = tokenizer:encode("x")[1]
    local function windows(decision, t) return data.windows(tokenizer, t or text, { length = 4, bos = decision }) end
    assert.same({ { bos, x, x, x }, { bos, x, x, x }, { bos, x, x, x } }, windows(true))
    assert.same({ { bos, bos, x, x }, { bos, x, x, x }, { bos, x, x, x } }, windows "force")
    assert.same({ { bos, x, x, x }, { x, x, x, x }, { x, x, x, x } }, windows(false))
  end)
end)
