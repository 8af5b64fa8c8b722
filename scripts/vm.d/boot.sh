# shellcheck shell=bash disable=SC2154 # scripts/vm and its helpers set the globals that are read here
# One run of the guest: its disks, its initramfs, QEMU, and what came back. Sourced by scripts/vm.

# run_guest run|shell COMMAND [ARG…]: boots as often as `boots` says, and exits with COMMAND's status.
run_guest() {
  local mode=$1 boot
  shift
  run_folder=$(mktemp -d "$CACHE/run.XXXXXX")
  trap end_run EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  make_disks
  for ((boot = 1; boot <= boots; boot++)); do
    write_initramfs "$mode" "$boot" "$@"
    boot_once "$mode"
    check_boot "$boot"
    [[ $command_status == 0 ]] || break
  done
  exit "$command_status"
}

# QEMU dies with what started it; it is not asked, because it would wait for a disk that does not answer any more.
end_run() {
  if [[ -n ${qemu_pid:-} ]]; then
    kill -KILL "$qemu_pid" || true
    # For its end to be said by nobody.
    wait "$qemu_pid" || true
  fi 2>/dev/null
  rm -rf --one-file-system "$run_folder"
}

# The root is a fresh overlay, so that no run sees what another one left, unless the caller has a disk of its own.
make_disks() {
  [[ -n $disk ]] || qemu-img create -q -f qcow2 -b "$root" -F raw "$run_folder/root.qcow2"
  [[ ${#copies[@]} -gt 0 ]] || return 0
  local copy source dest stage=$run_folder/files
  for copy in "${copies[@]}"; do
    source=${copy%%:*}
    [[ -e $source ]] || die "--copy: there is no $source"
    dest=/$(basename "$source")
    [[ $copy != *:* ]] || dest=${copy#*:}
    [[ $dest == /* ]] || die "--copy: $dest must be absolute"
    mkdir -p "$stage$(dirname "$dest")"
    # -T: a folder becomes DEST, not a folder in it. Links, because most of these files are large and none is changed.
    cp -aT --reflink=auto "$source" "$stage$dest"
  done
  tar -C "$stage" --numeric-owner -cf "$run_folder/files.tar" .
  rm -rf --one-file-system "$stage"
}

# The command goes in an archive of its own after the cached one: the kernel unpacks both, one over the other.
write_initramfs() {
  local mode=$1 boot=$2 extra=$run_folder/initramfs variable
  shift 2
  mkdir -p "$extra/vm"
  cp "$HELPERS/guest-init" "$extra/vm/guest-init"
  echo "$mode" >"$extra/vm/mode"
  {
    for variable in "${environment[@]}" "PODKEEP_BOOT=$boot"; do
      echo "export ${variable%%=*}=$(quoted "${variable#*=}")"
    done
    [[ $mode == run ]] || stty size 2>/dev/null </dev/tty | awk '{ print "stty rows " $1 " cols " $2 }' || true
    echo cd /
    printf 'exec'
    printf ' %s' "$(quoted "$@")"
    echo
  } >"$extra/vm/command"
  chmod 755 "$extra/vm/guest-init"
  pack_cpio "$extra" "$run_folder/extra.cpio"
  cat "$kernel/initramfs.cpio" "$run_folder/extra.cpio" >"$run_folder/initrd"
}

# Words quoted for any POSIX shell: bash's own %q writes what only bash reads.
quoted() {
  local word separator=
  for word in "$@"; do
    printf "%s'%s'" "$separator" "${word//\'/\'\\\'\'}"
    separator=' '
  done
}

# KVM may be there and fail (an assertion on MSRs under some nested hypervisors): only trying tells.
accelerator() {
  if [[ -w /dev/kvm ]] && echo quit | timeout 10 qemu-system-x86_64 -accel kvm -cpu max -nodefaults -display none -S \
    -monitor stdio >/dev/null 2>&1; then
    echo kvm
  else
    echo tcg,thread=multi
  fi
}

# Sets the global array `qemu`. The guest has no network card: nothing here may depend on one.
# no_timer_check: an emulated machine that gets no processor at the wrong moment looks to the kernel like one whose timer is
# broken, and it panics ("IO-APIC + timer doesn't work").
qemu_arguments() {
  qemu=(
    qemu-system-x86_64 -accel "$(accelerator)" -cpu max -smp 2 -m "$memory" -nodefaults -display none -no-reboot
    -kernel "$kernel/vmlinuz" -initrd "$run_folder/initrd"
    -append "console=ttyS0 quiet panic=-1 no_timer_check ${parameters[*]}"
    -device virtio-serial-pci
  )
  add_port stdout "/dev/fd/$guest_stdout"
  add_port stderr "/dev/fd/$guest_stderr"
  add_port status "$run_folder/status"
  if [[ -n $disk ]]; then
    add_disk "$disk" format=raw,cache=writeback
  else
    # Flushes may stay in the host's page cache: a power cut of the guest is not one of the host.
    add_disk "$run_folder/root.qcow2" format=qcow2,cache=unsafe
  fi
  add_disk "$kernel/modules.ext4" format=raw,readonly=on
  [[ ! -e $run_folder/files.tar ]] || add_disk "$run_folder/files.tar" format=raw,readonly=on
  case $1 in
    run) qemu+=(-serial "file:$run_folder/console.log") ;;
    shell) qemu+=(-chardev 'stdio,id=console,signal=off' -serial chardev:console) ;;
  esac
}

add_port() {
  qemu+=(-chardev "file,id=$1,path=$2,append=on" -device "virtserialport,chardev=$1,name=$1")
}

add_disk() { qemu+=(-drive "if=virtio,file=$1,$2"); }

# Boots once, until QEMU ends, and sets the global `qemu_status`. The guest's stdout and stderr come to ours, live.
boot_once() {
  local stdout_pump stderr_pump
  rm -f "$run_folder/status"
  exec {guest_stdout}> >(exec cat)
  stdout_pump=$!
  exec {guest_stderr}> >(exec cat >&2)
  stderr_pump=$!
  qemu_arguments "$1"
  qemu_status=0
  case $1 in
    run) run_qemu_with_timeout || qemu_status=$? ;;
    shell) "${qemu[@]}" || qemu_status=$? ;;
  esac
  exec {guest_stdout}>&- {guest_stderr}>&-
  wait "$stdout_pump" "$stderr_pump" || true
}

# In the background, so that a signal to us is acted on at once; setpriv, so that QEMU never outlives us.
run_qemu_with_timeout() {
  setpriv --pdeathsig TERM timeout --kill-after=5 "$timeout" setpriv --pdeathsig KILL "${qemu[@]}" \
    </dev/null 2>"$run_folder/qemu.log" &
  qemu_pid=$!
  local status=0
  wait "$qemu_pid" || status=$?
  qemu_pid=
  return "$status"
}

# Sets the global `command_status` from what boot $1 left, or ends the run when the guest did not do what it must.
check_boot() {
  if [[ $qemu_status == 124 || $qemu_status == 137 ]]; then
    show_console
    say "killed the guest: it ran for longer than --timeout $timeout"
    exit "$TIMED_OUT"
  fi
  if [[ $qemu_status != 0 ]]; then
    cat "$run_folder/qemu.log" >&2 2>/dev/null || true
    die "QEMU ended with status $qemu_status"
  fi
  if [[ -s $run_folder/status ]]; then
    command_status=$(<"$run_folder/status")
  elif guest_panicked; then
    show_console
    die "the guest's kernel panicked"
  elif (($1 < boots)); then
    say "power cut; booting again ($(($1 + 1)) of $boots)"
    command_status=0
  else
    show_console
    die "the guest went down before its command ended (a power cut needs a boot to come: --boots)"
  fi
}

guest_panicked() { grep -qs 'Kernel panic' "$run_folder/console.log"; }

show_console() {
  [[ -s $run_folder/console.log ]] || return 0
  say "the last lines of the guest's console:"
  tail -n 40 "$run_folder/console.log" | sed 's/^/  | /' >&2
}
