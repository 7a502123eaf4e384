-- Makes experiments/default/choices/*.jsonl: a small downstream set in the words of fairy tales, for models too small for others.
--   massact tests/tools/make_choices.lua experiments/default/choices
-- agreement.jsonl: pairs that differ in one point of grammar; endings.jsonl: how a sentence goes on, of four; last_words.jsonl: a last
-- word that the passage has named before.  All are put together from the lists below; nothing is random but what SplitMix64 draws.
local massact = require "massact"
local mix = require("massact.permutation").mix
local folder = assert(arg[1], "usage: massact tests/tools/make_choices.lua FOLDER")

local state = 1
local function draw(list)
  state = state + 0x9E3779B97F4A7C15
  return list[(mix(state) >> 33) % #list + 1]
end

local function write(name, items)
  local seen, lines = {}, {}
  for _, item in ipairs(items) do
    local line = massact.json.text(item):gsub("\n%s*", " ")
    if not seen[line] then lines[#lines + 1] = line end
    seen[line] = true
  end
  massact.system.make_folder(folder)
  massact.system.write(folder .. "/" .. name, table.concat(lines, "\n") .. "\n")
  print(name, #lines)
end

-- {a, b} of each line "a / b".
local function pairs_of(text)
  local list = {}
  for line in text:gmatch "[^\n]+" do
    local a, b = line:match "^%s*(.-) / (.-)%s*$"
    list[#list + 1] = { a, b }
  end
  return list
end

-- ---- grammar: good / bad ----

local people = { "king", "queen", "miller", "tailor", "princess", "hunter", "soldier", "fisherman", "witch", "shepherd", "old woman", "maiden" }
local plurals = { "kings", "queens", "millers", "tailors", "sisters", "brothers", "soldiers", "children", "giants", "birds", "dwarfs", "horses" }
local places = { "in the forest", "by the well", "before the castle", "on the mountain", "in the little house", "under the tree" }
local agreement = {}

local function pair(group, good, bad) agreement[#agreement + 1] = { group = group, good = good, bad = bad } end

for i = 1, 24 do
  local one, many, place = people[(i - 1) % 12 + 1], plurals[(i - 1) % 12 + 1], draw(places)
  local end_of = draw { "old and poor", "very tired", "afraid", "alone", "glad", "hungry", "asleep" }
  if i % 2 == 1 then pair("verb_number", ("The %s was %s."):format(one, end_of), ("The %s were %s."):format(one, end_of))
  else pair("verb_number", ("The %s were %s."):format(many, end_of), ("The %s was %s."):format(many, end_of)) end
  -- What stands between is of the other number.
  pair("verb_number_apart", ("The %s of the two %s was %s."):format(draw { "father", "mother", "master" }, many, end_of), "")
  agreement[#agreement].bad = agreement[#agreement].good:gsub(" was ", " were ")
  local number = draw { "three", "seven", "twelve", "many" }
  pair("noun_number", ("There were %s %s %s."):format(number, many, place), "")
  agreement[#agreement].bad = agreement[#agreement].good:gsub(many, one, 1)
end
for _, w in ipairs(pairs_of [[
  gone / went
  come / came
  seen / saw
  taken / took
  given / gave
  fallen / fell
  eaten / ate
  spoken / spoke
  broken / broke
  forgotten / forgot
  begun / began
  written / wrote
]]) do
  local one, other = draw(people), draw(people)
  pair("participle", ("The %s had %s it, and nobody knew."):format(one, w[1]), ("The %s had %s it, and nobody knew."):format(one, w[2]))
  pair("participle", ("When the %s had %s, he was sorry."):format(other, w[1]), ("When the %s had %s, he was sorry."):format(other, w[2]))
end
local she, he = { "queen", "princess", "maiden", "old woman", "witch", "mother", "sister", "girl" }, { "king", "prince", "miller", "old man", "tailor", "father", "brother", "boy" }
for i = 1, 12 do
  local verb = draw { "saw", "washed", "hid", "praised", "warmed", "looked at" }
  local f, m, place = she[(i - 1) % 8 + 1], he[(i - 1) % 8 + 1], draw(places)
  pair("reflexive", ("The %s %s herself %s."):format(f, verb, place), ("The %s %s himself %s."):format(f, verb, place))
  pair("reflexive", ("The %s %s himself %s."):format(m, verb, place), ("The %s %s herself %s."):format(m, verb, place))
end
for _, w in ipairs(pairs_of [[
  into the forest he went / into forest the he went
  to the king she said / to king the she said
  he took her by the hand / he took her the by hand
  she opened the door and went in / she opened door the and in went
  once upon a time there was a king / once a upon time there was king a
  then the wolf ate the goat / then wolf the goat the ate
  he had a great deal of gold / he had great a deal gold of
  she sat down and began to weep / she down sat and to began weep
  the cock crew three times / the crew cock times three
  at last they came home again / last at they came again home
  he did not know what to do / he not did know to what do
  they lived happily together / they together happily lived
  and the door was opened at once / and door the was at opened once
  the bird flew up into the tree / the flew bird into up the tree
  it was so dark that she could see nothing / it was so that dark could she nothing see
  in the morning they all got up / in morning the they got all up
  I will give you half of my kingdom / I give will you half my of kingdom
  you must not tell anyone / must you tell not anyone
  there he found the golden ring / there found he golden the ring
  the old woman lit a fire / the woman old fire a lit
]]) do
  local name = draw { "One day ", "So ", "And ", "Now " }
  pair("word_order", name .. w[1] .. ".", name .. w[2] .. ".")
end
for _, w in ipairs(pairs_of [[
  an apple / a apple
  an old man / a old man
  an egg / a egg
  an ear / a ear
  an axe / a axe
  an hour / a hour
  a house / an house
  a bird / an bird
  a kingdom / an kingdom
  a wolf / an wolf
  a ring / an ring
  a stone / an stone
]]) do
  local frame = draw { "Then she saw %s before her.", "He thought of %s and laughed.", "There was nothing but %s to be found." }
  pair("article", frame:format(w[1]), frame:format(w[2]))
end
write("agreement.jsonl", agreement)

-- ---- how it goes on: right endings; wrong ones are those of other lines ----

local endings = {}
local stories = pairs_of [[
  The hunter took his gun and went / into the forest to shoot a deer.
  The miller had nothing left but his mill, and the mill stood / beside a stream behind the house.
  The poor woman had no bread, so the children / went hungry to bed.
  The king was so sick that no doctor / could make him well again.
  As soon as the sun had set, the moon / rose over the trees.
  The wolf knocked at the door and called, / "Open the door, dear children, I am your mother."
  The princess lost her golden ball, which fell / into the deep well.
  The frog jumped out of the water and / sat down beside the princess.
  The tailor took his needle and thread and / mended the torn coat.
  The fisherman threw his net into the sea and / drew up a great fish.
  The cook put the pot on the fire and / stirred the soup with a spoon.
  The old soldier was tired of the war and wished / to go home to his village.
  The snow fell all night, and in the morning the whole land / was white.
  The bird spread its wings and / flew away over the mountains.
  The giant was so hungry that he / ate two oxen at one meal.
  The thief came at night and / carried off all the gold.
  The shepherd drove his sheep / out to the green meadow.
  The girl was to spin, so she / sat down at the wheel and spun until evening.
  The horse was saddled, and the prince / mounted it and rode away.
  The fire had gone out, and the brothers / were cold and lay close together.
  The stepmother did not love the child and / gave her nothing but hard crusts.
  The queen looked into her mirror and asked, / "Who is the fairest in the land?"
  The dog saw the stranger at the gate and / began to bark with all its might.
  The cat crept up to the hole and / waited there for the mouse.
  The baker kneaded the dough and / put the loaves in the oven.
  The boat had a hole, and little by little it / filled with water and sank.
  When the clock struck twelve, the maiden / had to leave the dance and run home.
  The giant fell asleep under the tree, and soon he / was snoring so that the branches shook.
  The maiden had wept so long that her eyes / were red with tears.
  The farmer sowed the corn in spring, and in autumn he / cut it and brought it into the barn.
  The key turned in the lock, and the door / sprang open.
  The lame man could not walk, so his friend / carried him upon his back.
  The apple was poisoned, and when she had bitten it, she / fell down dead upon the ground.
  The youngest son had no fear at all and / slept the night in the haunted castle.
  The shoemaker had leather for one pair of shoes only, and in the evening he / cut them out and laid them ready.
  The smith struck the hot iron with his hammer until / the sparks flew about him.
  The cock crew, and all in the house / awoke and rose from their beds.
  The brother had been turned into a stag and / ran about in the wood.
  The king promised that whoever set his daughter free / should have her for his wife.
  The wedding was kept with great joy, and all the guests / danced until morning.
]]
-- Endings that a reader would take after another line as well are not drawn: none is of a line close by.
local n = #stories
for i, story in ipairs(stories) do
  for version = 1, 3 do
    local choices, answer = {}, (i + version) % 4
    for k = 0, 3 do choices[k + 1] = k == answer and story[2] or stories[(i - 1 + 5 + 7 * k + 3 * version) % n + 1][2] end
    local opening = ({ "", "There was once a great need in the land. ", "I will tell you what came next. " })[version]
    endings[#endings + 1] = { context = opening .. story[1], choices = massact.json.array(choices), answer = answer }
  end
end
write("endings.jsonl", endings)

-- ---- last words ----

local last = {}
local things = { "ring", "sword", "crown", "apple", "cloak", "lamp", "horn", "feather", "cup", "spindle", "mirror", "candle" }
local names = { "Hans", "Conrad", "Frederick", "Peter", "Roland", "Jack", "John", "Robert" }
local animals = { "fox", "bear", "raven", "wolf", "hare", "swan", "goose", "frog" }
local trades = { "miller", "tailor", "smith", "baker", "cook", "hunter" }
local passages = {
  function(thing, name) return ("%s found a golden %s in the forest. He hid it under his coat, and told no one of it. But his brother asked him, \"What have you under your coat?\" And %s had to show him the %s"):format(name, thing, name, thing) end,
  function(_, _, animal) return ("There was once a %s that could speak. All the people came to hear it, and the king himself wished to own it. But the old woman would not sell the %s"):format(animal, animal) end,
  function(_, name, _, trade) return ("A %s had a clever son, whose name was %s. When the boy was grown up, he went out into the world. After seven years he came home again to his father, the %s"):format(trade, name, trade) end,
  function(thing, name, animal) return ("\"If you give me something to eat,\" said the %s, \"I will bring you the %s from the bottom of the sea.\" So %s gave it bread and meat, and the next morning there lay before the door the %s"):format(animal, thing, name, thing) end,
  function(_, name, animal) return ("%s came to a cave, and in the cave lived a %s. \"Come in,\" it said, \"and fear nothing.\" But %s was afraid of the %s"):format(name, animal, name, animal) end,
  function(thing, _, _, trade) return ("The king said, \"Whoever brings me the %s shall have my daughter.\" Many tried and did not come back. At last there came a poor %s, and he brought the king the %s"):format(thing, trade, thing) end,
  function(_, name) return ("There were once two children, and the boy was called %s. They lost their way in the wood, and when it grew dark the girl could not see her brother any more. She called out, \"%s! "):format(name, name) .. name end,
}
for _ = 1, 18 do
  for _, passage in ipairs(passages) do last[#last + 1] = { text = passage(draw(things), draw(names), draw(animals), draw(trades)) } end
end
write("last_words.jsonl", last)
