-- Sends one kind of request, and prints what wrk measured as one line of JSON. Times are in microseconds.
-- Arguments, behind "--": the method, and a file with the body when there is one.
function init(args)
  wrk.method = args[1] or "GET"
  if args[2] then
    local file = assert(io.open(args[2], "rb"))
    wrk.body = file:read("*a")
    file:close()
  end
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"seconds":%.6f,"mean_us":%.1f,"p50_us":%.1f,"p99_us":%.1f,"max_us":%.1f,"bytes":%d,"errors":%d}\n',
    summary.requests, summary.duration / 1e6, latency.mean, latency:percentile(50), latency:percentile(99),
    latency.max, summary.bytes, errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
