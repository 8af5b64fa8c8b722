# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # what scripts/bench takes and hands over
# How long an image takes from a registry into a store: the part of scripts/bench that `image` alone needs. Sourced by it.

readonly -a NEEDS=(images bench-image)
readonly ROUNDS=5
# In the network namespace nobody else is there.
readonly REGISTRY=127.0.0.1:5000
# Names of images of rootfs-fixtures/ that are OCI layouts. Their tag in the registry is 1.
readonly -a IMAGES=(busybox many large)
readonly -a OTHERS=(podman 'skopeo and umoci' ctr)

prepare_parts() {
  compile image_floor -lisal -lcrypto -lpthread
  "$PROJECT/scripts/images" "${IMAGES[@]}"
}

layout_of() { echo "$PROJECT/target/images/$1"; }

# The layers' blobs of image $1, from the bottom up.
blobs_of() {
  local layout
  layout=$(layout_of "$1")
  jq -r --arg layout "$layout" '.layers[].digest | sub(":"; "/") | "\($layout)/blobs/\(.)"' "$(blob_in "$layout")"
}

# The file of the one manifest that a layout has.
blob_in() { jq -r --arg layout "$1" '.manifests[0].digest | sub(":"; "/") | "\($layout)/blobs/\(.)"' "$1/index.json"; }

measure_all() {
  local name
  # podman's crun refuses a host that has both versions of cgroups.
  umount "$V2" 2>/dev/null || true
  start_registry
  for name in "${IMAGES[@]}"; do push "$name"; done
  mkdir place
  truncate -s 16G place.ext4
  printf 'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n' >containerd.toml
  export -f fresh_place fresh_containerd
  write_list
  ./measure "$rounds" list >samples
}

start_registry() {
  jq -n --arg folder "$folder/registry" --arg address "$REGISTRY" '{version: "0.1", log: {accesslog: {disabled: true}, level: "warn"},
    storage: {filesystem: {rootdirectory: $folder}}, http: {addr: $address}}' >registry.yml
  docker-registry serve registry.yml >registry.log 2>&1 &
  await $! "the registry listens" registry_listens
}

registry_listens() { : <"/dev/tcp/${REGISTRY/://}"; }

# Puts image $1 into the registry as an index: what is there for another platform stands first, then the image.
push() (
  local own other layer config
  mkdir -p "push/$1"
  cd "push/$1" || exit
  cp -rs "$(layout_of "$1")" image
  own=$(jq -c '.manifests[0] | del(.annotations)' image/index.json)
  tar -cf layer.tar -T /dev/null
  layer=$(describe application/vnd.oci.image.layer.v1.tar layer.tar)
  jq -n --argjson layer "$layer" '{architecture: "s390x", os: "linux", config: {}, rootfs: {type: "layers", diff_ids: [$layer.digest]}}' >blob
  config=$(describe application/vnd.oci.image.config.v1+json blob)
  jq -n --argjson config "$config" --argjson layer "$layer" '{schemaVersion: 2,
    mediaType: "application/vnd.oci.image.manifest.v1+json", config: $config, layers: [$layer]}' >blob
  other=$(describe application/vnd.oci.image.manifest.v1+json blob)
  jq -n --argjson own "$own" --argjson other "$other" '{schemaVersion: 2,
    mediaType: "application/vnd.oci.image.index.v1+json", manifests: [
      $other + {platform: {architecture: "s390x", os: "linux"}}, $own + {platform: {architecture: "amd64", os: "linux"}}]}' >blob
  rm image/index.json
  jq -n --argjson index "$(describe application/vnd.oci.image.index.v1+json blob)" \
    '{schemaVersion: 2, manifests: [$index + {annotations: {"org.opencontainers.image.ref.name": "1"}}]}' >image/index.json
  skopeo --insecure-policy copy --quiet --all --dest-tls-verify=false oci:image:1 "docker://$REGISTRY/$1:1"
)

# Run by measure.c before each run, in the same mount namespace: `place` is a new file system, with nothing to be written. In an ext4 in
# which a tree was removed a moment ago, new files take several times as long.
fresh_place() {
  local daemon
  if [[ -e containerd.pid ]]; then
    daemon=$(<containerd.pid)
    rm containerd.pid
    kill "$daemon"
    while kill -0 "$daemon" 2>/dev/null; do sleep 0.05; done
  fi
  ! mountpoint -q place || umount -R place
  mkfs.ext4 -q -F -E lazy_itable_init=1,lazy_journal_init=1 place.ext4
  mount -o loop,noinit_itable place.ext4 place
  sync -f place
  sync -f .
}

# The same, and a containerd that answers.
fresh_containerd() {
  fresh_place
  containerd --config containerd.toml --root "$folder/place/containerd" --state "$folder/run-containerd" \
    --address "$folder/containerd.sock" >containerd.log 2>&1 &
  echo $! >containerd.pid
  until ctr --address "$folder/containerd.sock" version; do
    kill -0 $! || return
    sleep 0.05
  done
}

# What measure.c is to do. The names here are those of the table.
write_list() {
  local name place=$folder/place image
  for name in "${IMAGES[@]}"; do
    image=$REGISTRY/$name:1
    fresh "floor, $name" "$folder/image_floor $place/tree $(blobs_of "$name" | xargs)"
    fresh "podkeep, $name" "$podkeep --root-dir $place/lib --run-dir $place/run pull --quiet $image"
    fresh "podman, $name" "podman --root $place/root --runroot $place/run --tmpdir $place/tmp --events-backend none \
--cgroup-manager cgroupfs --runtime crun pull --quiet --tls-verify=false $image"
    fresh "skopeo and umoci, $name" "skopeo --insecure-policy copy --quiet --src-tls-verify=false docker://$image \
oci:$place/layout:image; umoci unpack --image $place/layout:image $place/bundle"
    item fresh "ctr, $name" "$folder/containerd.pid" fresh_containerd \
      "ctr --address $folder/containerd.sock image pull --plain-http $image; sync -f $place"
  done | choose
}

# fresh NAME COMMAND: what it writes is on the disk at its end.
fresh() { item fresh "$1" - fresh_place "$2; sync -f $folder/place"; }

ratios() {
  local name bases
  for name in "${IMAGES[@]}"; do
    bases=$(printf "%s, $name|" "${OTHERS[@]}")
    printf '%s;' "podkeep, $name=${bases%|}" "${OTHERS[0]}, $name=floor, $name" "${OTHERS[1]}, $name=floor, $name" \
      "${OTHERS[2]}, $name=floor, $name"
  done
}
