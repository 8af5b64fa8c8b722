# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # what scripts/bench takes and hands over
# What probes cost podkeep: the part of scripts/bench that `probes` alone needs. Sourced by it.
#
# Each Pod has a network of its own and two probes a second (readiness and liveness). The samples are the worker's time
# on a processor within a second of the clock: 10 ms are one per cent of a core. Who is probed costs extra, and is not counted.

# shellcheck source=scripts/bench.d/start.sh
. "$PARTS/start.sh"
readonly -a WAYS=(none tcpSocket httpGet)

prepare_parts() { compile answer -static; }

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
  done >samples
  stop_node
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

# Now and the time that a process has had, in ns.
on_processor() { echo "$(date +%s%N) $(cat /proc/"$1"/task/*/schedstat | awk '{ ns += $1 } END { printf "%.0f", ns }')"; }

ratios() { :; }
