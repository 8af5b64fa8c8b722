# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # what scripts/bench takes and hands over
# What probes cost podkeep: the part of scripts/bench that `probes` alone needs. Sourced by it.
#
# Each Pod has a network of its own and two probes a second (readiness and liveness). The samples are the worker's time
# on a processor within a second of the clock: 10 ms are one per cent of a core. Who is probed costs extra, and is not counted.
# Of commands less are run, and each is counted with all that podkeep, the container and the command have of a processor.

# shellcheck source=scripts/bench.d/start.sh
. "$PARTS/start.sh"
readonly -a WAYS=(none tcpSocket httpGet)
# So many Pods are probed by a command.
readonly EXEC_PODS=20

prepare_parts() {
  compile answer -static
  compile probe_floor
}

measure_all() {
  local way
  mkdir -p rootfs/{bin,proc,dev,sys,tmp,etc} manifests run
  cp answer rootfs/bin/answer
  mount -t tmpfs -o mode=755 tmpfs run
  make_image
  start_node
  for way in "${WAYS[@]}"; do
    rm -f manifests/*
    await "$node_pid" 'the Pods of before are gone' none_runs
    probed_pods "$way"
    await "$node_pid" "$pods Pods are Ready" all_ready
    sample "$way"
    [[ $way != none ]] || sample_floor
  done >samples
  measure_exec >>samples
  stop_node
}

# What a command costs that is a probe, and one that somebody asks for; who asks is not counted.
measure_exec() {
  local pods=$EXEC_PODS pid group command=(node exec probed-1 -- /bin/answer ends)
  group=$(v2_root)$cgroup
  mkdir -p "$group/podkeep"
  for pid in "$node_pid" $(pgrep -f '^podkeep-worker' -P "$node_pid"); do echo "$pid" >"$group/podkeep/cgroup.procs"; done
  for way in exec none; do
    rm -f manifests/*
    await "$node_pid" 'the Pods of before are gone' none_runs
    probed_pods "$way"
    await "$node_pid" "$pods Pods are Ready" all_ready
    case $way in
      exec) sample_commands 'an exec probe' sleep 1 ;;
      none) sample_commands 'an exec' ask_for_commands ;;
    esac
  done
}

# sample_commands NAME WAIT…: one line for each round, in which 2 * $pods commands are run meanwhile.
sample_commands() {
  local name=$1 before after
  shift
  for ((round = 0; round <= rounds; round++)); do
    before=$(awk '$1 == "usage_usec" { print $2 }' "$group/cpu.stat")
    "$@"
    after=$(awk '$1 == "usage_usec" { print $2 }' "$group/cpu.stat")
    ((round == 0)) || printf '%s\t%d\n' "$name" $(((after - before) * 1000 / (2 * pods)))
  done
}

ask_for_commands() {
  local number
  for ((number = 0; number < 2 * pods; number++)); do "${command[@]}"; done
}

none_runs() { node ps -o json | jq -e '.items == []'; }

all_ready() {
  node ps -o json | jq -e --argjson pods "$pods" \
    '[.items[].status.conditions[] | select(.type == "Ready" and .status == "True")] | length == $pods'
}

# All in one file: they come at once.
probed_pods() {
  local number probe
  case $1 in
    none) probe='' ;;
    tcpSocket) probe='tcpSocket: {port: 8080}, periodSeconds: 1' ;;
    httpGet) probe='httpGet: {port: 8080}, periodSeconds: 1' ;;
    exec) probe='exec: {command: [/bin/answer, ends]}, periodSeconds: 1' ;;
  esac
  for ((number = 1; number <= pods; number++)); do
    printf -- '---\napiVersion: v1\nkind: Pod\nmetadata: {name: probed-%d}\nspec:\n  containers:\n' "$number"
    printf '    - name: main\n      image: bench:1\n      command: [/bin/answer]\n'
    [[ -z $probe ]] || printf '      readinessProbe: {%s}\n      livenessProbe: {%s}\n' "$probe" "$probe"
  done >probed.yaml
  mv probed.yaml manifests/
}

# sample WAY: one line for each second.
sample() {
  local worker name before after began ended
  worker=$(pgrep -f '^podkeep-worker' -P "$node_pid")
  name="$pods Pods, $1"
  for ((round = 0; round <= rounds; round++)); do
    read -r began before < <(on_processor "$worker")
    sleep 1
    read -r ended after < <(on_processor "$worker")
    # The first is for warming up.
    ((round == 0)) || printf '%s\t%d\n' "$name" $(((after - before) * 1000000000 / (ended - began)))
  done
}

# What the kernel alone takes to ask the same Pods, which nobody else asks meanwhile.
sample_floor() {
  local way
  for way in tcpSocket httpGet; do
    # shellcheck disable=SC2046 # one PID a word
    ./probe_floor "$rounds" "${way%%[SG]*}" $(pgrep -x answer) | sed "s/^/floor, $way\t/"
  done
}

# Now and the time that a process has had, in ns.
on_processor() { echo "$(date +%s%N) $(cat /proc/"$1"/task/*/schedstat | awk '{ ns += $1 } END { printf "%.0f", ns }')"; }

ratios() { printf '%s;' "$pods Pods, tcpSocket=floor, tcpSocket" "$pods Pods, httpGet=floor, httpGet"; }
