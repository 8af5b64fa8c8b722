# What the CNI plugins bridge and portmap have added to the nat table for one attachment → the same for others, for
# `iptables-restore --noflush`: the plugins themselves would take many minutes for a thousand, since each reads all that is there.
#
# The first file is what iptables-save says. In the second is a line for each of the others: its number and its address. The one that is
# there already is called other-1, with the host port 20001 and the address -v address.
FNR == NR {
  if ($1 != "-A") next
  rule[++rules] = $0
  if ($2 == "POSTROUTING" && $4 == address "/32") masquerade = $NF
  if ($2 == "CNI-HOSTPORT-DNAT" && / --dports 20001 /) forward = $NF
  next
}
FNR == 1 { print "*nat" }
{
  # As long as the names that the plugins make.
  new_masquerade = sprintf("CNI-%024d", $1)
  new_forward = sprintf("CNI-DN-%021d", $1)
  print ":" new_masquerade " - [0:0]"
  print ":" new_forward " - [0:0]"
  for (i = 1; i <= rules; i++) {
    line = rule[i]
    if (!index(line, masquerade) && !index(line, forward)) continue
    gsub(masquerade, new_masquerade, line)
    gsub(forward, new_forward, line)
    gsub(/other-1/, "other-" $1, line)
    gsub(/20001/, 20000 + $1, line)
    gsub(address, $2, line)
    print line
  }
}
END { if (FNR < NR) print "COMMIT" }
