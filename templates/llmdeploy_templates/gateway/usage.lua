-- Reads the token counts and the time to the first byte of the answer's body out of what passes by.
-- It keeps structure only: at most the engine's own `usage` object, never a word of the answer.
--
-- A JSON answer has `usage` at depth 1. A stream is a row of JSON texts; the Responses API puts `usage` one level
-- deeper, under `response`. Anything that a client can place elsewhere (tools, metadata, a schema that is echoed)
-- lies at another depth or inside a string, and is not counted.

local LONGEST_KEY = 16     -- no name that matters here is longer
local LONGEST_USAGE = 4096 -- bytes; the engine writes about 150

local Usage = { id = "usage", flags = filter.FLT_CFG_FL_HTX }
Usage.__index = Usage

function Usage:new()
  return setmetatable({ depth = 0, in_string = false, backslashes = 0, text = "" }, Usage)
end

local function milliseconds()
  local now = core.now()
  return now.sec * 1000 + now.usec / 1000
end

function Usage:start_analyze(txn, channel)
  if channel:is_resp() then
    filter.register_data_filter(self, channel)
  else
    self.started_ms = milliseconds()
  end
end

local function number(object, first, second)
  return tonumber(object:match('"' .. first .. '"%s*:%s*(%d+)') or object:match('"' .. second .. '"%s*:%s*(%d+)'))
end

local function count(txn, object)
  local tokens_in = number(object, "prompt_tokens", "input_tokens")
  local tokens_out = number(object, "completion_tokens", "output_tokens")
  if tokens_in then txn:set_var("txn.tokens_in", tokens_in) end
  if tokens_out then txn:set_var("txn.tokens_out", tokens_out) end
end

-- Where the string that is open at `from` ends, or nil when it goes on in the next piece.
function Usage:string_end(piece, from)
  local at = from
  while true do
    local quote = piece:find('"', at, true)
    local last = (quote or #piece + 1) - 1
    local run = last
    while run >= at and piece:byte(run) == 92 do run = run - 1 end
    local backslashes = last - run
    if run < at then backslashes = backslashes + self.backslashes end
    if not quote then
      self.backslashes = backslashes
      return nil
    end
    self.backslashes = 0
    if backslashes % 2 == 0 then return quote end
    at = quote + 1
  end
end

function Usage:open(bracket, position)
  local key, depth, object = self.key, self.depth, bracket == 123
  if object and key == "usage" and self.in_object and (depth == 1 or (depth == 2 and self.parent == "response")) then
    self.usage_depth, self.usage_from, self.usage = depth, position, ""
  end
  if depth == 0 then
    self.in_object = object
  elseif depth == 1 then
    self.parent = object and key or nil
  end
  self.depth, self.key = depth + 1, nil
end

function Usage:close(txn, piece, position)
  self.depth = math.max(self.depth - 1, 0)
  self.key = nil
  if self.usage and self.depth == self.usage_depth then
    count(txn, self.usage .. piece:sub(self.usage_from, position))
    self.usage = nil
  end
end

function Usage:scan(txn, piece)
  local at = 1
  self.usage_from = 1
  while true do
    if self.in_string then
      local quote = self:string_end(piece, at)
      if #self.text < LONGEST_KEY then
        self.text = self.text .. piece:sub(at, math.min((quote or #piece + 1) - 1, at + LONGEST_KEY))
      end
      if not quote then break end
      self.in_string, self.key, at = false, self.text, quote + 1
    end
    local position = piece:find('["{}%[%]]', at)
    if not position then break end
    local byte = piece:byte(position)
    if byte == 34 then
      self.in_string, self.text = true, ""
    elseif byte == 123 or byte == 91 then
      self:open(byte, position)
    else
      self:close(txn, piece, position)
    end
    at = position + 1
  end
  if self.usage then
    self.usage = self.usage .. piece:sub(self.usage_from)
    if #self.usage > LONGEST_USAGE then self.usage = nil end
  end
end

function Usage:http_payload(txn, message)
  local piece = message:body()
  if not piece or #piece == 0 then return end
  if self.started_ms then
    txn:set_var("txn.ttft_ms", math.floor(milliseconds() - self.started_ms))
    self.started_ms = nil
  end
  self:scan(txn, piece)
end

core.register_filter("usage", Usage, function(definition) return definition end)
