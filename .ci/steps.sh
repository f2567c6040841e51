# Sourced: named steps with a time limit each, and a report of all of them.
# shellcheck shell=bash
export CI=true
logs=.ci/log
mkdir -p "$logs"
failed=0
outcomes=()

# step NAME SECONDS COMMAND: run a line of shell, keep what it prints in the log NAME, and remember how it ended.
step() {
    local name=$1 limit=$2 command=$3 start=$SECONDS outcome=ok
    printf '\n=== %s\n' "$name"
    timeout --kill-after=30 "$limit" bash -c "$command" < /dev/null 2>&1 | tee "$logs/$name.log"
    case ${PIPESTATUS[0]} in
        0) ;;
        124 | 137) outcome="FAILED: stopped after $limit s" failed=1 ;;
        *) outcome=FAILED failed=1 ;;
    esac
    outcomes+=("$(printf '%-10s %5d s  %s' "$name" $((SECONDS - start)) "$outcome")")
}

# report: how every step ended.
report() {
    printf '\n=== steps\n'
    printf '%s\n' "${outcomes[@]}"
}
