-- Each component of tokenizer.json gives what Hugging Face's tokenizers gives (tests/tools/make_tokenizers.py made the
-- data; TOKENIZER_COMPONENTS names a larger file that it made).
local massact = require "massact"
local data = massact.json.load(os.getenv "TOKENIZER_COMPONENTS" or os.getenv "MASSACT_TESTS" .. "/golden/tokenizer_components.json")

local function plain(list) return table.concat(list, " ") end

local function ids(line)
  local list = {}
  for id in line:gmatch "%d+" do list[#list + 1] = math.tointeger(id) end
  return list
end

-- The tokenizer of an entry, by way of a file.
local function load(entry)
  local path = os.tmpname()
  local model = {}
  for key, value in pairs(data.models[entry.model]) do model[key] = value end
  if entry.ignore_merges then model.ignore_merges = true end
  massact.json.save(path, {
    version = "1.0", model = model, normalizer = entry.normalizer, pre_tokenizer = entry.pre_tokenizer,
    post_processor = entry.post_processor, decoder = entry.decoder, added_tokens = entry.added_tokens,
  })
  local fine, tokenizer = pcall(massact.tokenizer.load, path)
  os.remove(path)
  return assert(fine and tokenizer, tokenizer)
end

describe("tokenizer component", function()
  for _, entry in ipairs(data.components) do
    it(entry.name, function()
      local tokenizer = load(entry)
      for _, case in ipairs(entry.cases) do
        local where = ("%q"):format(case.text)
        assert.equal(case.ids, plain(tokenizer:encode(case.text)), where)
        local special = case.ids_special or case.ids
        assert.equal(special, plain(tokenizer:encode(case.text, { special = true })), where)
        if case.decoded then
          assert.equal(case.decoded, tokenizer:decode(ids(case.ids)), where)
          assert.equal(case.decoded_skip or case.decoded, tokenizer:decode(ids(special), { skip_special = true }), where)
        end
      end
      assert(#entry.cases > 0)
    end)
  end
end)
