# The samples of $group as the cells of a table, "|" between them: a line per method, in the
# order of their first samples, and for each metric ("KEY:LABEL:SCALE:DIGITS") its median with
# the least and the most, and the ratio of the median to that of the first method.

def fixed($digits):
    if . == null then "-"
    elif $digits == 0 then round | tostring
    else . * pow(10; $digits) | round | tostring
        | ("0" * ([$digits + 1 - length, 0] | max) // "") + .
        | .[:-$digits] + "." + .[-$digits:]
    end;

def median:
    sort | length as $n
    | if $n == 0 then null
      elif $n % 2 == 1 then .[($n - 1) / 2]
      else (.[$n / 2 - 1] + .[$n / 2]) / 2 end;

def metric: split(":") | { key: .[0], label: .[1], scale: .[2] | tonumber, digits: .[3] | tonumber };

# What $method was good for; null is no number.
def values($of; $method; $m): [$of[] | select(.method == $method and .ok) | .[$m.key] | values / $m.scale];

def cells($v; $ref; $digits):
    ($v | median | fixed($digits)),
    (if ($v | min) != ($v | max) then "\($v | min | fixed($digits)) to \($v | max | fixed($digits))" else "" end),
    (if $v == [] or $ref == [] or ($ref | median) == 0 then "-"
     else ($v | median) / ($ref | median) | fixed(2) end);

[.[] | select(.type == "sample" and .group == $group)] as $all
| ($ARGS.positional | map(metric)) as $metrics
| (reduce $all[].method as $m ([]; if index($m) then . else . + [$m] end)) as $methods
| ([""] + ($metrics | map(.label, "", "ratio")) + ["good"]),
  ($methods[] as $method
   | [$method]
     + ($metrics | map(cells(values($all; $method; .); values($all; $methods[0]; .); .digits)))
     + ($all | map(select(.method == $method))
        | ["\(map(select(.ok)) | length) of \(length)"]))
| join("|")
