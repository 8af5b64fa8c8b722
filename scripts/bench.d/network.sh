# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # what scripts/bench takes and hands over
# What a Pod's network costs, and how long the kernel looks up its way to a Pod: the part of scripts/bench that `network` alone needs.
# Sourced by it.
#
# There are two nodes, whose Pods differ only in that those of one have addresses. podman and the CNI plugins each have a place of their
# own, with its own network and /run: nobody's links and rules are to be in anybody else's way.

# shellcheck source=scripts/bench.d/start.sh
. "$PARTS/start.sh"
NEEDS=(bench bench-network)
ROUNDS=15
# Beside so many.
PODS='10 1000'
# A bridge has 1,023 ports, of which each measured attachment needs one, and each that is looked up.
readonly BRIDGE_AT_MOST=1000
# More containers than these podman does not get beside it, each of which takes it some 300 ms: it is left out then.
readonly PODMAN_AT_MOST=10
# How often each round looks up the same way.
readonly CONNECTIONS=200
# The port of the host that a measured Pod has. That of Pod n beside it is 20000 + n, that of the one that is looked up 10000 + how many
# there are beside it.
readonly PORT=9999

prepare_parts() {
  local beside
  for beside in $pods; do
    ((beside > 0)) || die "--pods: one at least"
    ((beside <= BRIDGE_AT_MOST)) || ! wants CNI || die "--pods: at most $BRIDGE_AT_MOST on a bridge (with --only podkeep there may be more)"
  done
  compile stamp -static
  compile link_floor -static
  compile cni -static
  compile lookup -static
}

measure_all() {
  local beside
  iptables -t nat -S >/dev/null || die "this kernel has no firewall in a new network namespace: its message is above"
  make_tree
  make_image
  prepare_nodes
  prepare_rivals
  there=0
  for beside in $pods; do
    fill_nodes "$beside"
    ! wants CNI || fill_cni "$beside"
    ! wants podman || fill_podman "$beside"
    write_list "$beside"
    say "beside $beside: measures"
    ./measure "$rounds" list
    there=$beside
  done >samples
  at_node loopback stop_node
  at_node addresses stop_node
}

# Whether something of this program may have been chosen: where --only names programs, the others need not be set up.
wants() { case $only in *podkeep* | *CNI* | *podman*) [[ $only == *$1* ]] ;; esac; }

# ---- podkeep

# at_node NAME COMMAND…: for the functions of start.sh, which know of one node.
at_node() {
  local name=$1 pods=${beside:-0} folder=$folder/$1 cgroup=$cgroup/$1 node_pid=${node_pids[$1]:-}
  shift
  cd "$folder"
  "$@"
  cd ..
  node_pids[$name]=$node_pid
}

prepare_nodes() {
  local network
  declare -gA node_pids=()
  for network in Loopback Addresses; do
    mkdir -p "${network,}"/{manifests,run}
    ln -s ../image "${network,}/image"
    mount -t tmpfs -o mode=755 tmpfs "${network,}/run"
    at_node "${network,}" start_node
  done
}

# fill_nodes TOTAL: so many Pods at each node, whatever was there before. Those with an address have what there is of rules, too.
fill_nodes() {
  say "beside $1: starts Pods"
  local number
  for ((number = there + 1; number <= $1; number++)); do
    echo '---' | tee -a loopback/others addresses/others >/dev/null
    pod "other-$number" false >>loopback/others
    pod_with_port "other-$number" $((20000 + number)) hostport >>addresses/others
  done
  at_node loopback come_up
  at_node addresses come_up
  { pod_with_port "looked-up-$1" $((10000 + $1)) all; echo '---'; pod "asks-$1" false; } >addresses/looked-up
  mv addresses/looked-up "addresses/manifests/looked-up-$1.yaml"
  for number in "looked-up-$1" "asks-$1"; do at_node addresses await_pod "$number"; done
}

come_up() {
  mv others "manifests/others-$pods.yaml"
  await "$node_pid" "$pods Pods run" all_run
}

await_pod() { await "$node_pid" "$1 runs" runs "$1"; }

runs() { [[ -n $(cat logs/default_"$1"-bench_*/main/0.log) ]]; }

# pod_with_port NAME PORT INGRESS
pod_with_port() {
  pod "$1" false | sed "s|^metadata:|&\n  annotations: {podkeep.io/ingress: $3}|"
  echo "      ports: [{containerPort: 8080, hostPort: $2}]"
}

# ---- the others

# place NAME: sets `places[NAME]`, a process that has a mount and a network namespace.
place() {
  # shellcheck disable=SC2016 # the inner shell expands it
  unshare --mount --net --propagation private bash -euc '
    umount "$1" 2>/dev/null || true
    mount -t tmpfs -o mode=755 tmpfs /run
    mkdir /run/netns /run/lock
    busybox ip link set lo up
    echo 1 >/proc/sys/net/ipv4/ip_forward
    touch /run/is-ready
    exec sleep infinity' - "$V2" </dev/null >"$1.log" 2>&1 &
  places[$1]=$!
  await $! "there is a place for $1" test -e "/proc/$!/root/run/is-ready"
}

in_place() { nsenter --target "${places[$1]}" --mount --net "${@:2}"; }

prepare_rivals() {
  declare -gA places=()
  if wants CNI; then
    place CNI
    ./cni "${places[CNI]}" keep other-1 20001 >/dev/null
  fi
  if wants podman; then
    write_containers_conf
    prepare_podman
    place podman
  fi
}

# Attaches so many to the bridge; what rules they have is copied from the first one's.
fill_cni() {
  say "beside $1: attaches as many to the bridge"
  local store=/proc/${places[CNI]}/root/run/cni/bench first=$((there > 1 ? there + 1 : 2))
  ./cni "${places[CNI]}" bare "$first" "$1"
  ( cd "$store" && grep -H '^other-' 10.* ) | tr -d '\r' | awk -F '[:-]' -v first="$first" '$3 >= first { print $3, $1 }' | sort -n >addresses.list
  in_place CNI iptables-save -t nat >rules.there
  awk -v address=10.88.0.2 -f "$PARTS/rules.awk" rules.there addresses.list | in_place CNI iptables-restore --noflush
  looked_up=$(./cni "${places[CNI]}" keep "looked-up-$1" $((10000 + $1)) | jq -r '.ips[0].address | sub("/.*"; "")')
  ./cni "${places[CNI]}" keep "asks-$1" $((30000 + $1)) >/dev/null
}

# Networks of podman in a folder of ours, with what it takes by default since 4.0.
write_containers_conf() {
  printf '[network]\nnetwork_backend = "netavark"\nnetwork_config_dir = "%s/networks"\n' "$folder" >containers.conf
  export CONTAINERS_CONF=$folder/containers.conf
}

fill_podman() {
  local number
  for ((number = there + 1; number <= $1 && number <= PODMAN_AT_MOST; number++)); do
    in_place podman "${podman[@]}" run --detach --network podman --publish $((20000 + number)):8080 --cgroup-parent "$cgroup" \
      "$podman_image" /bin/stamp stay >/dev/null
  done
}

# ---- what measure.c is to do. The names here are those of the table

write_list() {
  {
    item says "beside $1: floor, link" "$folder/link_floor"
    at_node loopback podkeep_item "$1" loopback 'a loopback' "$(pod measured-@ROUND@-loopback false)"
    at_node addresses podkeep_item "$1" address 'addresses' "$(pod measured-@ROUND@-address false)"
    at_node addresses podkeep_item "$1" rules 'addresses and rules' "$(pod_with_port measured-@ROUND@-rules $PORT pods)"
    ! wants CNI || cni_items "$1"
    ! wants podman || podman_items "$1"
    lookup_items "$1"
  } | choose
}

# podkeep_item BESIDE TEMPLATE WHAT MANIFEST
podkeep_item() {
  local name=measured-@ROUND@-$2-bench
  echo "$4" >"$2.template"
  item pod "beside $1: podkeep, $3" "$folder/$2.template" "$folder/manifests" "$folder/logs/default_${name}_*/main" \
    "$(v2_root)$cgroup/node/*/*_${name}_*/main/cgroup.procs" "$folder/run/podkeep/pods"
}

cni_items() {
  item says "beside $1: CNI, bridge" "$folder/cni" "${places[CNI]}" measure measured
  item says "beside $1: CNI, bridge and port" "$folder/cni" "${places[CNI]}" measure measured $PORT
}

podman_items() {
  local name="beside $1: podman" run=("@${places[podman]}" "${podman[@]}" run --rm --cgroup-parent "$cgroup")
  [[ $1 -le $PODMAN_AT_MOST ]] || return 0
  item run "$name, no network" "${run[@]}" --network none "$podman_image" /bin/stamp
  item run "$name, bridge" "${run[@]}" --network podman "$podman_image" /bin/stamp
  item run "$name, bridge and port" "${run[@]}" --network podman --publish $PORT:8080 "$podman_image" /bin/stamp
}

# From the host and from a Pod to a Pod, and by the port of the host that it has: over routed links, and over a bridge.
lookup_items() {
  local port=$((10000 + $1)) pod asks address
  pod=/proc/$(at_node addresses process_of "looked-up-$1")/ns/net
  asks=/proc/$(at_node addresses process_of "asks-$1")/ns/net
  address=$(at_node addresses address_of "looked-up-$1")
  lookup_item "$1" podkeep 'host to Pod' /proc/self/ns/net "$pod" "$address" 8080
  wants CNI && bridge_item "$1" 'host to Pod' "/proc/${places[CNI]}/ns/net" "$looked_up" 8080
  lookup_item "$1" podkeep 'Pod to Pod' "$asks" "$pod" "$address" 8080
  wants CNI && bridge_item "$1" 'Pod to Pod' "/proc/${places[CNI]}/root/run/netns/asks-$1" "$looked_up" 8080
  lookup_item "$1" podkeep 'host port' /proc/self/ns/net "$pod" 127.0.0.1 "$port"
  wants CNI && bridge_item "$1" 'host port' "/proc/${places[CNI]}/ns/net" 127.0.0.1 "$port"
  return 0
}

# bridge_item BESIDE WAY CLIENT ADDRESS PORT
bridge_item() { lookup_item "$1" CNI "$2" "$3" "/proc/${places[CNI]}/root/run/netns/looked-up-$1" "$4" "$5"; }

# lookup_item BESIDE PROGRAM WAY CLIENT SERVER ADDRESS PORT
lookup_item() { item says "beside $1: $2, $3:" "$folder/lookup" "${@:4}" $CONNECTIONS; }

process_of() { cat "$(v2_root)$cgroup"/node/*/*_"$1"-bench_*/main/cgroup.procs; }

address_of() { node ps -o json | jq -r --arg name "$1-bench" '.items[] | select(.metadata.name == $name) | .status.podIP'; }

ratios() {
  local beside what
  for beside in $pods; do
    for what in first removed; do
      printf "beside $beside: %s $what+beside $beside: %s $what;" 'podkeep, addresses' 'podkeep, a loopback' \
        'podkeep, addresses and rules' 'podkeep, a loopback' 'podman, bridge' 'podman, no network' \
        'podman, bridge and port' 'podman, no network'
    done
    for what in connection byte; do
      printf "beside $beside: %s $what=beside $beside: %s $what;" 'podkeep, host to Pod:' 'CNI, host to Pod:' \
        'podkeep, Pod to Pod:' 'CNI, Pod to Pod:' 'podkeep, host port:' 'CNI, host port:'
    done
  done
}
