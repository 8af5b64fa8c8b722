# shellcheck shell=bash
# The guest's kernels, with the initramfs and the modules of each. Sourced by scripts/vm.

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
# Before a download apt's lists are read anew: old ones name packages that the archive no longer has.
find_kernel() {
  local package
  name_kernel "$1"
  if [[ ! -d $kernel ]]; then
    apt-get -qq update >&2 || true
    name_kernel "$1"
  fi
  cached "$kernel" build_kernel "$package"
}

# Sets find_kernel's `package` and the global `kernel`. apt is asked again only after its lists changed: asking takes
# longer than a good part of the boot.
name_kernel() {
  local remembered=$CACHE/package-of-$1
  if [[ ! -e $remembered || /var/lib/apt/lists -nt $remembered ]]; then
    kernel_package "$1" >"$remembered.$$"
    mv "$remembered.$$" "$remembered"
  fi
  package=$(<"$remembered")
  kernel=$CACHE/kernel-$( (echo "$package"; cat "$HELPERS/kernel.sh" "$HELPERS/initramfs-init") | content_key)
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

# download_package NAME=VERSION FOLDER. As root, because apt's own user cannot write to our folder and warns about it.
download_package() {
  (cd "$2" && apt-get -qq -o APT::Sandbox::User=root download "$1") >&2 \
    || die "could not download $1: does \`apt-get update\` work here?"
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
