# shellcheck shell=bash disable=SC2154 # scripts/vm sets the globals that are read here
# Guest tests: builds one, brings it into the guest with podkeep and the sample images, and runs it there.
# Sourced by scripts/vm.

guest_tests() {
  find "$PROJECT/tests" -maxdepth 1 -name 'guest_*.rs' -printf '%f\n' 2>/dev/null | sed 's/\.rs$//' | sort | xargs
}

# The options of the `//! Guest: …` lines of a test, one word a line.
options_in_test() { sed -n 's,^//! Guest: ,,p' "$1" | xargs -n 1; }

# run_test takes scripts/vm's own arguments, to read them again over the options that stand in the test.
run_test() {
  local name=${words[1]} arguments=("${words[@]:2}") source built
  source=$PROJECT/tests/$name.rs
  [[ -e $source ]] || die "there is no tests/$name.rs; guest tests are: $(guest_tests)"
  set_defaults
  mapfile -t built < <(options_in_test "$source")
  read_options "${built[@]}"
  read_options "$@"

  prepare
  "$PROJECT/scripts/images" || die "the sample images could not be made"
  build_test "$name"
  copies+=("$test_binary:/podkeep/$name" "$podkeep_binary:/podkeep/podkeep" "$PROJECT/target/images:/podkeep/images")
  environment+=(PODKEEP_BIN=/podkeep/podkeep PODKEEP_IMAGES=/podkeep/images)
  # One at a time, because they share one machine: each counts mounts, cgroups and processes before and after.
  environment+=(RUST_TEST_THREADS=1 RUST_TEST_NOCAPTURE=1)
  run_guest run "/podkeep/$name" "${arguments[@]}"
}

# Builds test $1 and podkeep (cargo builds the binary for every integration test), and sets the globals
# `test_binary` and `podkeep_binary`. Both are static (.cargo/config.toml), so that they run on any root.
build_test() {
  local messages
  "$PROJECT/scripts/install" build || die "what the build needs is not installed"
  messages=$(cd "$PROJECT" && cargo test --quiet --no-run --test "$1" --message-format=json-render-diagnostics) \
    || die "test $1 does not build"
  test_binary=$(executable_of test "$1" <<<"$messages")
  podkeep_binary=${PODKEEP:-$(executable_of bin podkeep <<<"$messages")}
  [[ -n $test_binary && -n $podkeep_binary ]] || die "cargo built no program for test $1, or no podkeep"
}

executable_of() {
  jq -r --arg kind "$1" --arg name "$2" \
    'select(.reason == "compiler-artifact" and .executable != null and .target.name == $name
            and (.target.kind | index($kind))) | .executable' | tail -n 1
}
