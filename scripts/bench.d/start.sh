# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # what scripts/bench takes and hands over
# How long a container takes to start: the part of scripts/bench that `start` alone needs. Sourced by it.

NEEDS=(bench)
ROUNDS=30

prepare_parts() {
  compile floor -static
  compile stamp -static
}

v2_root() { if [[ -d $V2 ]]; then echo "$V2"; else echo /sys/fs/cgroup; fi; }

measure_all() {
  make_tree
  make_bundle plain '.'
  make_bundle seccomp ".linux.seccomp = $(seccomp_profile)"
  make_image
  prepare_podman
  start_node
  start_pods
  write_list
  ./measure "$rounds" list >samples
  stop_node
}

make_tree() {
  mkdir -p rootfs/{bin,proc,dev,sys,tmp,etc} scratch/{upper,work,root} manifests run
  cp "$(type -P busybox)" rootfs/bin/busybox
  ln -s busybox rootfs/bin/true
  cp stamp rootfs/bin/stamp
  mkdir -p "$(v2_root)$cgroup/floor"
  # The take-over state is meant for a tmpfs.
  mount -t tmpfs -o mode=755 tmpfs run
}

# make_bundle NAME JQ-FILTER: an OCI bundle, the same for every runtime.
make_bundle() {
  mkdir -p "bundle-$1"
  jq "$2 | .root.path = \"$folder/rootfs\" | .linux.cgroupsPath = \"$cgroup/$1\"" "$PARTS/config.json" >"bundle-$1/config.json"
}

# The profile that podman brings, for a container without capabilities, in the words of the runtime specification.
seccomp_profile() {
  local profile=/usr/share/containers/seccomp.json
  if [[ ! -e $profile ]]; then echo null; return; fi
  jq '{defaultAction, architectures: ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
       syscalls: [.syscalls[] | select((.includes // {} | del(.arches) == {}) and (.excludes // {}) == {}
                                       and (.includes.arches // ["amd64"] | index("amd64")))
                  | {names, action} + (if (.args // []) == [] then {} else {args} end)]}' "$profile"
}

# An OCI layout with one layer, made by hand: no tool of the host's need agree with it.
make_image() {
  local blobs=image/blobs/sha256 layer config manifest
  mkdir -p "$blobs"
  tar -C rootfs --numeric-owner -cf layer.tar .
  layer=$(add_blob layer.tar)
  echo "{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{},\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"sha256:$layer\"]}}" >blob
  config=$(describe application/vnd.oci.image.config.v1+json blob)
  manifest="{\"schemaVersion\":2,\"config\":$config,\"layers\":[$(describe application/vnd.oci.image.layer.v1.tar layer.tar)]}"
  echo "$manifest" >blob
  echo '{"imageLayoutVersion":"1.0.0"}' >image/oci-layout
  jq -n --argjson manifest "$(describe application/vnd.oci.image.manifest.v1+json blob)" \
    '{schemaVersion: 2, manifests: [$manifest + {annotations: {"org.opencontainers.image.ref.name": "bench:1"}}]}' \
    >image/index.json
}

# Sets the global array `podman`: the command with a storage of its own, holding our image.
prepare_podman() {
  podman=()
  type -P podman >/dev/null || return 0
  podman=("$(type -P podman)" --root "$folder/podman" --runroot "$folder/run/podman" --tmpdir "$folder/run/podman-tmp"
    --events-backend none --cgroup-manager cgroupfs --runtime crun)
  tar -C image -cf image.tar .
  podman_image=$(hiding_v2 "${podman[@]}" pull --quiet "oci-archive:$folder/image.tar")
}

# In a mount namespace without cgroup v2, as measure.c does it.
hiding_v2() {
  # shellcheck disable=SC2016 # the inner shell expands it
  unshare --mount bash -c 'umount "$1" 2>/dev/null; shift; exec "$@"' - "$V2" "$@"
}

node() { "$podkeep" --root-dir "$folder/lib" --run-dir "$folder/run/podkeep" "$@"; }

start_node() {
  node load image >/dev/null
  sed "s|FOLDER|$folder|; s|CGROUP|$cgroup|; s|NETWORK|$network|" "$PARTS/node.yaml" >node.yaml
  "$podkeep" --root-dir "$folder/lib" --run-dir "$folder/run/podkeep" run --config node.yaml \
    --hostname-override bench </dev/null >node.log 2>&1 &
  node_pid=$!
  await "$node_pid" "the node answers" node ps
}

# pod NAME HOSTNETWORK [LIMITS]
pod() { sed "s/NAME/$1/; s/HOSTNETWORK/$2/; s/LIMITS/${3:-}/" "$PARTS/pod.yaml"; }

# The Pods that only run. Half of them have a network namespace.
start_pods() {
  local number
  for ((number = 1; number <= pods; number++)); do
    pod "other-$number" "$([[ $((number % 2)) == 0 ]] && echo true || echo false)" >"manifests/other-$number.yaml"
  done
  await "$node_pid" "$pods Pods run" all_run
}

all_run() { [[ $(cat logs/*_other-*/main/0.log | wc -l) == "$pods" ]]; }

stop_node() {
  kill "$node_pid"
  wait "$node_pid" || die "the node ended badly: $(tail -n 5 node.log)"
}

# What measure.c is to do. The names here are those of the table.
write_list() {
  local floor_cgroup bundle
  floor_cgroup=$(v2_root)$cgroup/floor
  pod 'measured-@ROUND@-host' true >host.yaml
  pod 'measured-@ROUND@-own' false >own.yaml
  pod 'measured-@ROUND@-limits' false 'cpu: 500m, memory: 64Mi' >limits.yaml
  {
    item line 'floor, host network' "$folder/floor" host "$folder/rootfs" "$folder/scratch" "$floor_cgroup" /bin/stamp
    item line 'floor, own network' "$folder/floor" own "$folder/rootfs" "$folder/scratch" "$floor_cgroup" /bin/stamp
    pod_item host 'host network'
    pod_item own 'own network'
    pod_item limits 'own network and limits'
    item command 'floor, whole run' - "$folder/floor" own "$folder/rootfs" "$folder/scratch" "$floor_cgroup" /bin/true
    for bundle in plain seccomp; do runtimes "$bundle"; done
    if [[ ${#podman[@]} -gt 0 ]]; then
      item command 'podman with crun' v1 "${podman[@]}" run --rm --network none --cgroup-parent "$cgroup" "$podman_image" \
        /bin/true
    fi
  } | choose
}

# pod_item TEMPLATE NAME
pod_item() {
  local name=measured-@ROUND@-$1-bench
  item pod "Pod, $2" "$folder/$1.yaml" "$folder/manifests" "$folder/logs/default_${name}_*/main" \
    "$(v2_root)$cgroup/node/*/*_${name}_*/main/cgroup.procs"
}

# One line for each runtime that is there. Each is given what it needs on a hybrid host, and nothing else.
runtimes() {
  local bundle=$folder/bundle-$1 state=$folder/run
  if "$podkeep" oci --help >/dev/null 2>&1; then
    item command "podkeep oci, $1" - "$podkeep" oci --root "$state/oci" run --bundle "$bundle" bench
  fi
  if type -P crun >/dev/null; then
    item command "crun, $1" v1 "$(type -P crun)" --root "$state/crun" run --bundle "$bundle" bench
    item command "crun without cgroups, $1" v1 "$(type -P crun)" --root "$state/crun" --cgroup-manager=disabled run \
      --bundle "$bundle" bench
  fi
  if type -P runc >/dev/null; then
    item command "runc, $1" v1 "$(type -P runc)" --root "$state/runc" run --bundle "$bundle" bench
  fi
}

ratios() {
  local bundle
  printf '%s;' 'Pod, host network first=floor, host network' 'Pod, own network first=floor, own network' \
    'Pod, host network again=floor, host network' 'Pod, own network again=floor, own network' \
    'Pod, own network and limits first=floor, own network' 'Pod, own network and limits again=floor, own network'
  for bundle in plain seccomp; do
    printf '%s;' "podkeep oci, $bundle=crun, $bundle" "runc, $bundle=crun, $bundle" \
      "crun without cgroups, $bundle=crun, $bundle"
  done
  printf '%s;' 'podman with crun=crun, seccomp'
}
