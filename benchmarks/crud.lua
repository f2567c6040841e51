-- The demo shop's traffic for wrk: mostly reads, and customers created, changed and deleted again.
local json = { ["Content-Type"] = "application/json" }
local number, thread, threads = 0, 0, 0
local created = {}

function setup(one)
  one:set("thread", threads)
  threads = threads + 1
end

function init(arguments)
  -- Emails are unique, so every run is told a number of its own.
  run = arguments[1]
  math.randomseed(thread + 1)
end

function request()
  number = number + 1
  local chance = math.random()
  local shop = math.random() < 0.5 and "/async" or "/sync"
  if chance < 0.6 then
    return wrk.format("GET", shop .. "/products/" .. math.random(1, 20))
  elseif chance < 0.75 then
    return wrk.format("GET", shop .. "/products")
  elseif chance < 0.9 or #created == 0 then
    local email = string.format("r%s.t%d.n%d@example.org", run, thread, number)
    return wrk.format("POST", shop .. "/customers", json, '{"name": "Ann", "email": "' .. email .. '"}')
  elseif chance < 0.95 then
    return wrk.format("PATCH", shop .. "/customers/" .. created[#created], json, '{"name": "Bea"}')
  else
    return wrk.format("DELETE", shop .. "/customers/" .. table.remove(created))
  end
end

function response(status, headers, body)
  if status == 201 then
    created[#created + 1] = string.match(body, '"id":(%d+)')
  end
end

function done(summary, latency, requests)
  local failed = summary.errors.connect + summary.errors.read + summary.errors.timeout
  -- wrk counts answers of 400 and above; a customer changed and deleted at once answers 404.
  io.write(string.format('{"requests": %d, "seconds": %f, "p50": %f, "p99": %f, "failed": %d, "refused": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e6, latency:percentile(99) / 1e6,
    failed, summary.errors.status))
end
