# shellcheck shell=bash
# The guest's root disks. Sourced by scripts/vm.

# Sets the global `root` to the cached ext4 image of root $1.
find_root() {
  local name
  name=root-$1-$(cat "$HELPERS/root.sh" "$HELPERS/debian-packages" | content_key)
  cached "$CACHE/$name" "build_root_$1"
  # shellcheck disable=SC2034 # boot.sh reads it
  root=$CACHE/$name/root.ext4
}

# busybox and nothing else: what is tested brings its own static binaries.
build_root_small() {
  local tree=$1/tree applet
  mkdir -p "$tree"/{bin,sbin,usr/bin,usr/sbin,etc,dev,proc,sys,run,tmp,root,var/lib,var/log,lib/modules}
  cp "$(type -P busybox)" "$tree/bin/busybox"
  busybox --list-full | while read -r applet; do
    [[ -e $tree/$applet ]] || ln -s /bin/busybox "$tree/$applet"
  done
  echo 'root:x:0:0:root:/root:/bin/sh' >"$tree/etc/passwd"
  echo 'root:x:0:' >"$tree/etc/group"
  echo '127.0.0.1 localhost guest' >"$tree/etc/hosts"
  ext4_from "$tree" "$1/root.ext4" 8G
  rm -rf --one-file-system "$tree"
}

# A Debian with the programs that tests need beside podkeep, by its package list.
build_root_debian() {
  local tree=$1/tree packages mirror
  [[ $EUID == 0 ]] || die "the Debian root can only be built as root (once; then it is cached)"
  packages=$(sed 's/#.*//' "$HELPERS/debian-packages" | xargs | tr ' ' ,)
  # shellcheck disable=SC2016 # apt expands it
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Codename: bookworm' | head -n 1)
  say "building the Debian root: $packages"
  # mmdebstrap mounts /proc and its like while it works: in a mount namespace of its own, so that the host sees none.
  unshare --mount --propagation private \
    mmdebstrap --quiet --mode=root --variant=minbase --include="$packages" \
    --aptopt='Apt::Install-Recommends "false"' --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    bookworm "$tree" "$mirror" >&2 || die "mmdebstrap could not build the Debian root (its message is above)"
  mkdir -p "$tree/usr/lib/modules"
  echo guest >"$tree/etc/hostname"
  echo '127.0.0.1 localhost guest' >"$tree/etc/hosts"
  ext4_from "$tree" "$1/root.ext4" 8G
  rm -rf --one-file-system "$tree"
}
