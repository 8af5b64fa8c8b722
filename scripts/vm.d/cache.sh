# shellcheck shell=bash
# What the guest is made of, each made once and kept in $CACHE: kernels, the initramfs, root disks.
# Sourced by scripts/vm.

# Runs `BUILDER ARG… FOLDER.part` and renames the folder, unless FOLDER is there. One builder at a time, so that
# several scripts/vm may start at once on an empty cache; a builder that was killed leaves only a .part behind.
cached() {
  local folder=$1
  shift
  if [[ -d $folder ]]; then
    touch "$folder"
    return
  fi
  exec {lock}>"$CACHE/lock"
  flock "$lock"
  if [[ ! -d $folder ]]; then
    rm -rf --one-file-system "$folder.part"
    mkdir -p "$folder.part"
    "$@" "$folder.part"
    mv "$folder.part" "$folder"
  fi
  exec {lock}>&-
}

# Removes what no run has used for a week, and what runs that were killed outright left behind.
forget_unused() {
  find "$CACHE" -mindepth 1 -maxdepth 1 -type d \( \( -name 'kernel-*' -o -name 'root-*' \) -mtime +6 \
    -o -name 'run.*' -mtime +0 \) -exec rm -rf --one-file-system {} +
}

# A short name for the content of the files and words on stdin.
content_key() { sha256sum | cut -c 1-16; }

# ext4_from FOLDER IMAGE SIZE: fills a sparse ext4 image from a folder, mounting nothing.
ext4_from() {
  truncate -s "$3" "$2"
  mke2fs -q -t ext4 -d "$1" -E lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0 "$2"
}

# The package that Debian's cloud kernel of series $1 (6.1, 6.12) is in now, as NAME=VERSION.
kernel_package() {
  local found
  found=$(apt-cache show linux-image-cloud-amd64 | awk -v series="$1." '
    /^Version:/ { wanted = index($2, series) == 1 }
    /^Depends:/ && wanted && !done { gsub(/[()=]/, " "); print $2 "=" $3; done = 1 }')
  [[ -n $found ]] || die "apt knows no linux-image-cloud-amd64 of series $1: run scripts/install vm, or apt-get update"
  echo "$found"
}

# Sets the global `kernel` to the cached folder of series $1: vmlinuz, version, initramfs.cpio, modules.ext4.
# apt is asked again only after its lists changed: that takes longer than a good part of the boot.
find_kernel() {
  local pointer=$CACHE/package-of-$1 package
  if [[ ! -e $pointer || /var/lib/apt/lists -nt $pointer ]]; then
    package=$(kernel_package "$1")
    echo "$package" >"$pointer.$$"
    mv "$pointer.$$" "$pointer"
  fi
  package=$(<"$pointer")
  kernel=$CACHE/kernel-$( (echo "$package"; cat "$HELPERS/cache.sh" "$HELPERS/initramfs-init") | content_key)
  cached "$kernel" build_kernel "$package"
}

# Downloads and unpacks only: a kernel package that was installed would change how the host boots.
build_kernel() {
  local package=$1 out=$2 version
  say "downloading $package"
  download_package "$package" "$out"
  dpkg-deb -x "$out"/*.deb "$out/tree"
  rm "$out"/*.deb
  version=$(basename "$out"/tree/lib/modules/*)
  echo "$version" >"$out/version"
  mv "$out/tree/boot/vmlinuz-$version" "$out/vmlinuz"
  # 6.12 ships its modules compressed, which busybox's modprobe cannot read.
  find "$out/tree/lib/modules" -name '*.ko.xz' -exec xz -d {} +
  depmod -b "$out/tree" "$version"
  build_initramfs "$out/tree" "$version" "$out/initramfs.cpio"
  ext4_from "$out/tree/lib/modules" "$out/modules.ext4" 512M
  rm -rf --one-file-system "$out/tree"
}

# download_package NAME=VERSION FOLDER. A list older than the archive names files that are gone: read it again.
download_package() {
  (
    cd "$2"
    # apt's own user cannot write to our folder, and warns about it.
    fetch=(apt-get -qq -o APT::Sandbox::User=root download "$1")
    "${fetch[@]}" || { apt-get -qq update; "${fetch[@]}"; }
  ) >&2 || die "could not download $1: does \`apt-get update\` work here?"
}

# build_initramfs TREE VERSION FILE: busybox, our init, and the modules that the disks and ports need.
build_initramfs() {
  local tree=$1 version=$2 file=$3 root=$1/initramfs
  mkdir -p "$root/bin"
  cp "$(type -P busybox)" "$root/bin/busybox"
  install -m 755 "$HELPERS/initramfs-init" "$root/init"
  modprobe -d "$tree" -S "$version" -D -a virtio_pci virtio_blk virtio_console \
    | awk -v base="$tree" '$1 == "insmod" { print substr($2, index($2, "/lib/modules")) }' | sort -u \
    | while read -r module; do install -D -m 644 "$tree$module" "$root$module"; done
  cp "$tree/lib/modules/$version/"modules.{order,builtin,builtin.modinfo} "$root/lib/modules/$version/"
  depmod -b "$root" "$version"
  pack_cpio "$root" "$file"
}

pack_cpio() { (cd "$1" && find . -print0 | cpio --null --create --format newc --owner 0:0 --quiet) >"$2"; }

# Sets the global `root` to the cached ext4 image of root $1.
find_root() {
  local name
  name=root-$1-$(cat "$HELPERS/cache.sh" "$HELPERS/debian-packages" | content_key)
  cached "$CACHE/$name" "build_root_$1"
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
