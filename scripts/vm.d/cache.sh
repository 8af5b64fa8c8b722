# shellcheck shell=bash
# The cache: what is made once and kept in $CACHE, and the two kinds of archive that it holds. Sourced by scripts/vm.

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

# pack_cpio FOLDER FILE: an archive as the kernel unpacks it at boot.
pack_cpio() { (cd "$1" && find . -print0 | cpio --null --create --format newc --owner 0:0 --quiet) >"$2"; }
