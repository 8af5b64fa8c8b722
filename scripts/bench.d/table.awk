# Measurements (`NAME<tab>nanoseconds[<tab>KiB]`) → a table in the order of first appearance: the least, median, p99, the largest
# peak of memory where it was measured, and what `ratios` says. The least is what noise of the machine touches least.
#
# ratios: `NAME=BASE;…`: NAME's median is shown as a multiple of BASE's too, or, with `NAME+BASE`, as what it is on top of that. Of
# `BASE|BASE…` the one with the least median counts.
BEGIN {
  FS = "\t"
  count = split(ratios, pairs, ";")
  for (i = 1; i <= count; i++) {
    split(pairs[i], pair, /[=+]/)
    bases_of[pair[1]] = pair[2]
    is_on_top[pair[1]] = pairs[i] ~ /\+/
  }
}
!($1 in runs) { order[++names] = $1 }
{ value[$1, ++runs[$1]] = $2 / 1e6 }
NF > 2 { with_peak = 1; if ($3 > peak[$1]) peak[$1] = $3 }
END {
  for (n = 1; n <= names; n++) sort(order[n])
  print "| what | runs | least, ms | median, ms | p99, ms |" (with_peak ? " peak, MB |" : "") " ratio of medians |"
  print "|---|---|---|---|---|---|" (with_peak ? "---|" : "")
  for (n = 1; n <= names; n++) {
    name = order[n]
    printf "| %s | %d | %s | %s | %s |", name, runs[name], figure(value[name, 1]), figure(rank(name, 0.5)), figure(rank(name, 0.99))
    if (with_peak) printf " %.1f |", peak[name] * 1024 / 1e6
    printf " %s |\n", ratio(name)
  }
}
function ratio(name, base) {
  base = best_of(bases_of[name])
  if (base == "") return ""
  if (is_on_top[name]) return sprintf("%+.2f ms on %s", rank(name, 0.5) - rank(base, 0.5), base)
  return sprintf("%.2f of %s", rank(name, 0.5) / rank(base, 0.5), base)
}
function figure(ms) { return sprintf(ms < 1 ? "%.4f" : "%.2f", ms) }
# The one that was measured and has the least median; nothing if none was.
function best_of(bases, all, i, best) {
  split(bases, all, "|")
  best = ""
  for (i = 1; i in all; i++)
    if (all[i] in runs && (best == "" || rank(all[i], 0.5) < rank(best, 0.5))) best = all[i]
  return best
}
# Nearest rank: the smallest measurement that at least this share of them does not exceed.
function rank(name, share, at) {
  at = int(share * runs[name])
  if (at < share * runs[name]) at++
  return value[name, at < 1 ? 1 : at]
}
function sort(name, i, j, held) {
  for (i = 2; i <= runs[name]; i++) {
    held = value[name, i]
    for (j = i - 1; j >= 1 && value[name, j] > held; j--) value[name, j + 1] = value[name, j]
    value[name, j + 1] = held
  }
}
