# Measurements (`NAME<tab>nanoseconds`) → a table in the order of first appearance: the least, median, p99 and what
# `ratios` says. The least is what noise of the machine touches least.
#
# ratios: `NAME=BASE;…`: NAME's median is shown as a multiple of BASE's too.
BEGIN {
  FS = "\t"
  count = split(ratios, pairs, ";")
  for (i = 1; i <= count; i++) {
    split(pairs[i], pair, "=")
    base_of[pair[1]] = pair[2]
  }
}
!($1 in runs) { order[++names] = $1 }
{ value[$1, ++runs[$1]] = $2 / 1e6 }
END {
  for (n = 1; n <= names; n++) sort(order[n])
  print "| what | runs | least, ms | median, ms | p99, ms | ratio of medians |"
  print "|---|---|---|---|---|---|"
  for (n = 1; n <= names; n++) {
    name = order[n]
    printf "| %s | %d | %.2f | %.2f | %.2f | %s |\n", name, runs[name], value[name, 1], rank(name, 0.5), rank(name, 0.99),
      ratio(name)
  }
}
function ratio(name, base) {
  base = base_of[name]
  if (!(base in runs)) return ""
  return sprintf("%.2f of %s", rank(name, 0.5) / rank(base, 0.5), base)
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
